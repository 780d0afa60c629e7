"""Recovery: a step's loss and gradient against plain torch, losses by hand, what is remembered."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pico
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from babelpress.errors import NotFinite
from babelpress.models.stacks import find_stacks
from babelpress.numerics.lacking import shares_by_lack
from babelpress.recover import REPAIRS
from babelpress.system.progress import silent
from babelpress.text.token_blocks import TokenBlocks
from babelpress.train import reading, recovering, watched
from babelpress.train.batches import Blocks, Marks
from babelpress.train.kept import Kept, bytes_of
from babelpress.train.reading import Reader
from babelpress.train.recovering import AsScored, Recovery, losses_of
from babelpress.train.tuned import Tuned, tables_of

SHARES = {"swh_Latn": 0.7, "yor_Latn": 0.3}
MARKS = Marks(2, frozenset({0, 1, 2}), 5, pico.VOCABULARY)


def text(scores="next", seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for place, tag in enumerate(SHARES):
        ids_BT = torch.randint(6 + 100 * place, 100 + 100 * place, (5, 12), generator=generator)
        found[tag] = TokenBlocks(tag, ids_BT, torch.ones_like(ids_BT, dtype=torch.bool))
    return Blocks(found, MARKS, scores)


def model(family="llama", noise=0.0):
    """A model that says something; with noise it is another one."""
    found: Any = pico.model(family)
    generator = torch.Generator().manual_seed(5)
    for each in found.parameters():
        each.data.mul_(3).add_(noise * torch.randn(each.shape, generator=generator))
    return found


def made(place, family="llama", repair="logits", *, dense: Any = None, tables=False, **more):
    pressed, teacher = model(family, 0.02), Reader.of(model(family))
    blocks = [block for stack in find_stacks(pressed) for block in stack.blocks]
    scores = "hidden" if family == "bert" else "next"
    tuned = Tuned.of(pressed, "weights", blocks=blocks, tables=tables_of(pressed) * tables)
    return Recovery(
        reader=Reader.of(pressed), tuned=tuned, loss_of=REPAIRS.get(repair),
        dense=dense or teacher, text=text(scores), apart=text(scores, seed=1), base=dict(SHARES),
        shares=dict(SHARES), reference=losses_of(teacher, text(scores, seed=1), SHARES, 7),
        batch=6, seed=7, place=Path(place), **more,
    )  # fmt: skip


def drawn(found, step):
    """The batch of a step, drawn again."""
    rng = np.random.default_rng([7, step])
    tags = rng.choice(2, size=6, p=list(found.shares.values()))
    rows = [(list(SHARES)[n], int(rng.integers(5))) for n in tags]
    ids = [found.text.blocks[tag].ids_BT[number] for tag, number in rows]
    return found.text.batch(tuple(tag for tag, _ in rows), ids, rng)


def gradients(found, total):
    learns = list(found.tuned.parameters.values())
    return torch.autograd.grad(total, learns, allow_unused=True)


def plain(found, batch, teacher):
    """KL of whole logits, by the library."""
    own = found.reader.model(batch.ids_BT, attention_mask=batch.read_BT.long()).logits
    with torch.no_grad():
        its = teacher(batch.ids_BT, attention_mask=batch.read_BT.long()).logits
    said, wanted = (each[batch.scored_BT].log_softmax(-1) for each in (own, its))
    return kl_div(said, wanted, reduction="batchmean", log_target=True)


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3", "bert"])
def test_a_step_in_parts_is_the_divergence_of_the_whole(tmp_path, monkeypatch, family, tables):
    """Parts of sequences, and of these parts of positions: none divides the others."""
    monkeypatch.setattr(recovering, "AT_ONCE", 32 * 12 * 4)
    monkeypatch.setattr(reading, "NUMBERS", 7 * pico.VOCABULARY)
    found = made(tmp_path, family, tables=tables)
    expected = plain(found, drawn(found, 3), model(family))

    parts = [part() for part in found.loss(3)]

    assert len(parts) == 2
    assert sum(each.item() for each in parts) == pytest.approx(expected.item(), rel=1e-5)
    slow = gradients(found, expected)
    fast = [gradients(found, part()) for part in found.loss(3)]
    for wanted, *some in zip(slow, *fast, strict=True):
        if wanted is None:
            assert all(each is None for each in some)
        else:
            both = torch.stack([each for each in some if each is not None]).sum(0)
            assert torch.allclose(both, wanted, atol=1e-6, rtol=1e-4)
    assert any(each is found.reader.model.get_input_embeddings().weight
               for each in found.tuned.parameters.values()) == tables  # fmt: skip


def test_the_control_asks_nothing_of_a_dense_model(tmp_path):
    found = made(tmp_path, repair="text")
    found.dense = None
    batch = drawn(found, 0)

    (part,) = found.loss(0)

    own = found.reader.model(batch.ids_BT).logits
    expected = cross_entropy(own[batch.scored_BT], batch.target_BT[batch.scored_BT])
    assert part().item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("number", [4, pico.VOCABULARY])
def test_what_was_kept_of_a_dense_model_says_the_same(tmp_path, number):
    kept = Kept(tmp_path / "kept")
    kept.fill(Reader.of(model()), text(), number, silent)
    found, beside = made(tmp_path, dense=kept), made(tmp_path)

    (mine,), (its,) = found.loss(2), beside.loss(2)

    if number == pico.VOCABULARY:
        assert mine().item() == pytest.approx(its().item(), rel=1e-5)
    else:
        assert 0 < mine().item() < its().item()
    assert [each.name for each in sorted(kept.folder.iterdir())] == [
        "swh_Latn.safetensors",
        "yor_Latn.safetensors",
    ]
    size = sum(each.stat().st_size for each in kept.folder.iterdir())
    if number == 4:
        assert bytes_of(2 * 5 * 12, 4) <= size < bytes_of(2 * 5 * 12, 4) + 2000
    kept.close()


def test_a_language_that_is_kept_is_not_asked_for_again(tmp_path):
    kept = Kept(tmp_path / "kept")
    kept.fill(Reader.of(model()), text(), 4, silent)
    before = {each: each.stat().st_mtime_ns for each in kept.folder.iterdir()}
    (tmp_path / "kept" / "yor_Latn.safetensors").unlink()

    kept.fill(Reader.of(model()), text(), 4, silent)

    first, second = sorted(kept.folder.iterdir())
    assert first.stat().st_mtime_ns == before[first]
    assert second.name == "yor_Latn.safetensors"


def test_losses_apart_are_the_cross_entropy_of_every_language(tmp_path):
    pressed = model(noise=0.02)

    found = losses_of(Reader.of(pressed), text(), SHARES, 7)

    for tag, loss in found.items():
        ids_BT = text().blocks[tag].ids_BT
        logits = pressed(ids_BT).logits[:, :-1].flatten(0, 1)
        assert loss == pytest.approx(cross_entropy(logits, ids_BT[:, 1:].flatten()).item())
    broken = Reader.of(model())
    broken.model.lm_head.weight.data[7] = math.nan
    with pytest.raises(NotFinite, match="the loss in swh_Latn is nan"):
        losses_of(broken, text(), SHARES, 7)


def test_shares_follow_what_lacks_and_the_best_is_kept(tmp_path):
    found = made(tmp_path, radius=0.05)

    first = found.evaluate(0)
    lacks = {tag: first[tag] / found.reference[tag] - 1 for tag in SHARES}
    assert found.shares == shares_by_lack(SHARES, lacks, 0.05)
    assert found.lacks() == lacks
    good = {name: each.detach().clone() for name, each in found.tuned.parameters.items()}
    with torch.no_grad():
        for each in found.tuned.parameters.values():
            each.mul_(5)
    second = found.evaluate(2)
    assert max(second[t] / found.reference[t] for t in SHARES) > max(lacks.values()) + 1
    found.evaluate(4)

    assert (found.best, found.waited, found.at) == (0, 2, [0, 2, 4])
    assert [each.name for each in tmp_path.glob("best-*")] == ["best-0.safetensors"]
    found.load_best()
    for name, each in found.tuned.parameters.items():
        assert torch.equal(each, good[name])


def test_an_interrupt_while_the_best_is_written_keeps_the_best_before(tmp_path, monkeypatch):
    found = made(tmp_path)
    found.evaluate(0)
    good = {name: each.detach().clone() for name, each in found.tuned.parameters.items()}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "save_tensors", stop)
    monkeypatch.setattr(recovering, "losses_of", lambda *_: dict.fromkeys(SHARES, 0.1))
    with torch.no_grad():
        for each in found.tuned.parameters.values():
            each.mul_(5)
    with pytest.raises(KeyboardInterrupt):
        found.evaluate(2)
    found.load_best()

    assert (found.at, found.best, len(found.found), len(found.drawn)) == ([0], 0, 1, 1)
    for name, each in found.tuned.parameters.items():
        assert torch.equal(each, good[name])


@pytest.mark.parametrize(("watch", "best"), [("worst", 1), ("mean", 0)])
def test_what_is_best_is_of_the_worst_language_or_of_the_mean(tmp_path, monkeypatch, watch, best):
    found = made(tmp_path, watch=watch)
    found.reference = dict.fromkeys(SHARES, 1.0)
    given = [{"swh_Latn": 1.0, "yor_Latn": 3.0}, {"swh_Latn": 2.5, "yor_Latn": 2.5}]
    monkeypatch.setattr(recovering, "losses_of", lambda *_: given[len(found.found)])

    found.evaluate(0)
    found.evaluate(1)

    assert found.best == best


def test_memory_goes_on_in_the_order_of_languages(tmp_path):
    found, other = made(tmp_path, radius=0.1), made(tmp_path, radius=0.1)
    found.evaluate(0)
    found.loss(0)
    found.after(0.5)
    state = found.state()
    state["shares"] = dict(sorted(state["shares"].items(), reverse=True))

    other.restore(state)

    assert list(other.shares) == list(SHARES)
    assert other.state() == found.state()
    other.ends()
    assert other.losses == [0.5]


def test_memory_without_distances_is_of_an_older_checkpoint(tmp_path):
    found, other = made(tmp_path), made(tmp_path)
    found.evaluate(0)
    state = found.state()
    del state["distances"]

    other.restore(state)

    assert (other.found, other.distances) == (found.found, [])


def test_a_model_that_learns_stays_as_it_is_scored():
    held = AsScored(model("bert"))

    held.train()

    assert not any(each.training for each in held.modules() if each is not held)
