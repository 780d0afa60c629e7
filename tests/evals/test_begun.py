"""Texts that begin alike: read once, and every text is scored as it is alone."""

from itertools import pairwise

import numpy as np
import pico
import pytest
import torch
from transformers import DynamicCache, MambaConfig, MambaForCausalLM

from babelpress.evals._begun import batches_of, begun_alike, goes_on
from babelpress.evals._next_token import nats, told_sums
from babelpress.evals._windows import Prepared, Window
from babelpress.system.progress import silent

WHOLE = ("opt",)  # its output layer does not run apart: one text at a time, as a whole
LONG = 40  # tokens; the sliding windows of some families are shorter


def windows(*, seed=0, items=6, longest=LONG):
    """Choices of some items: a beginning of its own each, and ends of different lengths."""
    rng = np.random.default_rng(seed)
    found, groups = [], []
    for number in range(items):
        begin = rng.integers(3, 250, size=rng.integers(2, longest))
        for _ in range(rng.integers(1, 5)):
            end = rng.integers(3, 250, size=rng.integers(1, 5))
            ids = np.concatenate([begin, end])
            found.append(Window(len(found), ids, len(end)))
            groups.append(number)
    return found, groups


def sums(model, found, groups=None):
    prepared = Prepared(tuple(map(str, range(len(found)))), np.zeros(len(found)), tuple(found))
    alike = None if groups is None else {"eng_Latn": groups}
    told = told_sums(
        model, {"eng_Latn": prepared}, nats, what="x", memory_mb=64, progress=silent, alike=alike
    )
    return told["eng_Latn"]


class Reads:
    """The tokens that go through a model."""

    def __init__(self, model):
        self.shapes = []
        self._hook = model.get_input_embeddings().register_forward_hook(self._saw)

    def _saw(self, _module, inputs, _output):
        self.shapes.append(tuple(inputs[0].shape))

    @property
    def tokens(self):
        return sum(rows * length for rows, length in self.shapes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._hook.remove()


@pytest.mark.parametrize(
    ("tokens", "kept"), [(1, 10_000), (60, 10_000), (10_000, 200), (10_000, 10_000)]
)
def test_every_window_is_in_one_batch_whole_groups_with_what_they_have_in_common(tokens, kept):
    found, groups = windows(items=30)

    alike, alone = begun_alike(found, groups)
    batches = [*batches_of(alike, tokens, kept)]

    every = [*alone, *(w for b in batches for w in b.windows)]
    assert sorted(w.document for w in every) == list(range(len(found)))
    assert all(groups.count(groups[w.document]) == 1 or len(w.ids_T) < 3 for w in alone)
    for batch in batches:
        for first in {*batch.group}:
            some = [w for w, own in zip(batch.windows, batch.group, strict=True) if own == first]
            (number,) = {groups[w.document] for w in some}
            (begun,) = {b for b, own in zip(batch.begun, batch.group, strict=True) if own == first}
            assert len(some) == groups.count(number) > 1
            assert all((a.ids_T[:begun] == b.ids_T[:begun]).all() for a, b in pairwise(some))
            assert begun == min(len(w.ids_T) - w.scored for w in some) - 1
        begun, rest = max(batch.begun), max(len(w.ids_T) - 1 for w in batch.rest)
        read = len({*batch.group}) * begun + len(batch.windows) * rest
        held = len(batch.windows) * (begun + rest)
        assert (read <= tokens and held <= kept) or len({*batch.group}) == 1
    assert [max(b.begun) for b in batches] == sorted(max(b.begun) for b in batches)


def test_what_is_called_alike_and_is_not_is_read_whole():
    one, two = np.array([5, 6, 7, 8]), np.array([5, 9, 7, 8])
    scored = [Window(0, one, 1), Window(1, two, 1)]

    alike, alone = begun_alike(scored, [0, 0])

    assert alike == []
    assert alone == scored


@pytest.mark.parametrize("family", pico.laws(pico.FAMILIES))
def test_a_text_after_its_beginning_is_scored_as_the_whole_text(family):
    model = pico.model(family)
    found, groups = windows()
    with Reads(model) as whole:
        expected = sums(model, found)
    with Reads(model) as shared:
        assert sums(model, found, groups) == pytest.approx(expected, abs=1e-4)

    if family not in WHOLE:
        assert shared.tokens < whole.tokens  # so it is what is shown


def test_a_beginning_is_read_once():
    model = pico.model()
    found, groups = windows(items=3, longest=LONG)
    with Reads(model) as whole:
        sums(model, found)
    with Reads(model) as shared:
        sums(model, found, groups)

    assert shared.tokens < whole.tokens
    begun = {group: w for group, w in zip(groups, found, strict=True) if groups.count(group) > 1}
    longest = max(len(w.ids_T) - w.scored - 1 for w in begun.values())
    assert (len(begun), longest) in shared.shapes


def test_a_model_whose_cache_forgets_is_read_whole(monkeypatch):
    model = pico.model()
    found, groups = windows()
    expected = sums(model, found)

    def forget(cache, indices):
        for layer in cache.layers:
            layer.keys = torch.zeros_like(layer.keys)[indices]
            layer.values = torch.zeros_like(layer.values)[indices]

    monkeypatch.setattr(DynamicCache, "batch_select_indices", forget)

    assert sums(model, found, groups) == pytest.approx(expected, abs=1e-6)


def test_a_model_that_pays_no_heed_to_padding_is_read_whole(monkeypatch):
    """Its batches would be right where all beginnings are as long, so both ends are tried."""
    model = pico.model()
    rng = np.random.default_rng(1)
    found, groups = [], []
    for number, begun in enumerate([5, 9, 13, 20, 20]):
        begin = rng.integers(3, 250, size=begun)
        for _ in range(2):
            ids = np.concatenate([begin, rng.integers(3, 250, size=3)])
            found.append(Window(len(found), ids, 3))
            groups.append(number)
    alike, _ = begun_alike(found, groups)
    assert goes_on(model, alike)
    body = model.base_model
    whole = type(body).forward

    def heedless(self, input_ids, attention_mask=None, position_ids=None, **more):
        return whole(self, input_ids, **more)

    monkeypatch.setattr(type(body), "forward", heedless)

    assert not goes_on(model, alike)


def test_bytes_that_are_kept_of_a_token_are_those_of_its_keys_and_values():
    model = pico.model()
    shape = model.config
    heads, size = shape.num_key_value_heads, shape.head_dim
    found, groups = windows()

    assert goes_on(model, begun_alike(found, groups)[0]) == 2 * 4 * 2 * heads * size  # 2 blocks


def test_a_model_that_keeps_a_state_is_read_whole():
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=pico.VOCABULARY, hidden_size=16, state_size=4, num_hidden_layers=1
    )
    model = MambaForCausalLM(config).eval()
    found, groups = windows(items=3, longest=8)

    assert sums(model, found, groups) == pytest.approx(sums(model, found), abs=1e-6)
