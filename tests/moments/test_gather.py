"""Batches run side by side give the very moments, and pass on the very numbers, of one by one."""

from threading import local
from typing import Any

import pico
import pytest
import torch

from babelpress.errors import BadModel, NotFinite
from babelpress.models.handed import Hidden
from babelpress.models.walk import Walk
from babelpress.moments.gather import Batch, batches, batches_at_once, gather, pass_on
from babelpress.text.token_blocks import TokenBlocks

every_family = pytest.mark.parametrize("family", pico.EVERY)
LENGTH = 12


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def text():
    """Two languages, seven batches of one block each."""
    found = {}
    for place, (language, size) in enumerate({"eng_Latn": 4, "swh_Latn": 3}.items()):
        lot = torch.Generator().manual_seed(place)
        ids_BT = torch.randint(3, pico.VOCABULARY, (size, LENGTH), generator=lot)
        counted_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        counted_BT[0, -2:] = False
        found[language] = TokenBlocks(language, ids_BT, counted_BT)
    return found


def todo_of(walk):
    return batches(walk, text(), batch_tokens=LENGTH)


def tensors(moments, passed):
    named = {
        (site.name, language, name): tensor
        for site, seen in moments.items()
        for language, each in seen.items()
        for name, tensor in each.tensors().items()
    }
    return named | {("passed", n): batch.hidden_BTH for n, batch in enumerate(passed)}


@every_family
@pytest.mark.parametrize(
    ("kept", "dtype"),
    [
        ({"gram": True}, torch.bfloat16),
        ({"gram": True, "vectors": ()}, torch.float32),
        ({"gram": False, "vectors": ()}, torch.bfloat16),
        pytest.param({"gram": True}, torch.float32, marks=pytest.mark.slow),
        pytest.param({"gram": True, "vectors": ()}, torch.bfloat16, marks=pytest.mark.slow),
        pytest.param({"gram": False, "vectors": ()}, torch.float32, marks=pytest.mark.slow),
    ],
)
def test_side_by_side_is_one_by_one(family, kept, dtype, four_threads):
    walk = Walk(pico.model(family, dtype=dtype))
    in_turn = family in (*pico.EXPERTS, *pico.TWICE)  # which never run side by side
    assert batches_at_once(walk, 0) == (1 if in_turn else 4)
    if in_turn:
        torch.set_num_threads(1)
    together = tensors(*gather(walk, 0, todo_of(walk), **kept))
    onward = [batch.hidden_BTH for batch in pass_on(walk, 0, todo_of(walk))]
    reached = tensors(*gather(walk, 0, todo_of(walk), **kept, passing=False))

    torch.set_num_threads(1)  # as every batch has: kernels share out a sum by their threads
    alone = tensors(*gather(walk, 0, todo_of(walk), **kept))

    assert together.keys() == alone.keys()
    assert all(torch.equal(together[key], alone[key]) for key in alone)
    assert all(torch.equal(reached[key], alone[key]) for key in reached)
    assert all(torch.equal(out, alone["passed", n]) for n, out in enumerate(onward))
    assert torch.get_float32_matmul_precision() == "highest"


def test_batches_are_taken_as_they_are_passed_on_and_kept_where_they_are_not():
    walk = Walk(pico.model())
    todo = todo_of(walk)

    gather(walk, 0, todo, gram=False, passing=False)
    assert len(todo) == 7
    _, passed = gather(walk, 0, todo, gram=False)
    assert (len(todo), len(passed)) == (0, 7)
    again = pass_on(walk, 1, passed)
    assert (len(passed), len(again)) == (0, 7)


def test_weights_of_several_dtypes_are_run_one_by_one(four_threads):
    model: Any = pico.model(dtype=torch.bfloat16)
    walk = Walk(model)
    assert batches_at_once(walk, 0) == 4

    model.model.layers[0].mlp.down_proj.float()

    assert batches_at_once(walk, 0) == 1
    assert batches_at_once(walk, 1) == 4


def test_a_fault_in_one_batch_ends_all_with_its_own_message(four_threads):
    walk = Walk(pico.model())
    todo = todo_of(walk)
    bad = todo[4]
    lost_BTH = Hidden.of(torch.full_like(bad.hidden_BTH, float("nan")), bad.hidden_BTH.own)
    todo[4] = bad.passed(lost_BTH)

    with pytest.raises(NotFinite, match="in swh_Latn"):
        gather(walk, 0, todo, gram=True)
    assert not any(m._forward_pre_hooks for m in walk.blocks[0].modules())

    todo = todo_of(walk)
    todo[2] = Batch("eng_Latn", todo[2].hidden_BTH, (todo[2].counted_BT[:, :5],))
    with pytest.raises(BadModel, match="sees 12 rows"):
        gather(walk, 0, todo, gram=True, passing=False)


def test_a_linear_that_a_batch_passes_by_is_named_and_nobody_waits(four_threads, monkeypatch):
    model: Any = pico.model()
    walk = Walk(model)
    todo = todo_of(walk)
    odd, now = todo[3].hidden_BTH, local()
    run, mlp = walk.run, model.model.layers[0].mlp
    compute = mlp.forward

    def forward(index, hidden_BTH, *hold):
        now.odd = hidden_BTH is odd
        return run(index, hidden_BTH, *hold)

    monkeypatch.setattr(walk, "run", forward)
    monkeypatch.setattr(
        mlp, "forward", lambda x_BTH: x_BTH if vars(now).get("odd") else compute(x_BTH)
    )

    with pytest.raises(BadModel, match=r"mlp\.gate_proj\+up_proj was run 0 times in .*, not 1"):
        gather(walk, 0, todo, gram=True)
