import math
from types import SimpleNamespace
from typing import Any

import pico
import pytest
import torch

from babelpress.errors import BadModel
from babelpress.insight import neurons
from babelpress.insight._activations import firing
from babelpress.models.open import Opened
from babelpress.system import plain
from babelpress.system.progress import silent
from babelpress.text.token_blocks import TokenBlocks

TAGS = ("eng_Latn", "fra_Latn", "hin_Deva")


@pytest.fixture
def planted():
    """Two blocks of 40 and 60 neurons; neuron 7 of block 1 fires for Hindi alone."""
    generator = torch.Generator().manual_seed(0)
    p = [0.2 + 0.1 * torch.rand(n, 3, generator=generator, dtype=torch.float64) for n in (40, 60)]
    p[1][7] = torch.tensor([0.0, 0.001, 0.95])
    p[0][3] = torch.tensor([0.9, 0.88, 0.0])  # for two languages
    p[0][5] = torch.tensor([0.0, 0.0, 0.25])  # for one, but it hardly fires
    p[1][0] = 0.0  # never
    return p


def slow_lape(p, rate, bar):
    """The recipe, one number at a time."""
    flat = sorted(x for block in p for line in block.tolist() for x in line)
    highest = flat[round(len(flat) * bar) - 1]
    found = []
    for block, each in enumerate(p):
        for neuron, line in enumerate(each.tolist()):
            languages = tuple(place for place, x in enumerate(line) if x > highest)
            if languages:
                shares = [x / sum(line) for x in line]
                entropy = -sum(s * math.log(s) for s in shares if s > 0)
                found.append((entropy, block, neuron, languages))
    total = sum(len(each) for each in p)
    return sorted(
        (block, neuron, e, tags) for e, block, neuron, tags in sorted(found)[: round(total * rate)]
    )


@pytest.mark.parametrize(("rate", "bar"), [(0.01, 0.95), (0.02, 0.95), (0.07, 0.8)])
def test_lape_is_the_recipe(planted, rate, bar):
    found = neurons.lape(planted, rate=rate, bar=bar)
    wanted = slow_lape(planted, rate, bar)

    assert [(n.block, n.neuron, n.languages) for n in found] == [
        (b, n, tags) for b, n, _, tags in wanted
    ]
    assert [n.entropy for n in found] == pytest.approx([e for _, _, e, _ in wanted], abs=1e-12)


def test_a_neuron_must_be_above_the_bar_and_not_on_it():
    p = [torch.tensor([[0.9, 0.1], [0.5, 0.2]], dtype=torch.float64)]  # the third of four is 0.5

    found = neurons.lape(p, rate=1.0, bar=0.75)

    assert [(n.neuron, n.languages) for n in found] == [(0, (0,))]


def test_planted_neurons_are_found_with_their_languages(planted):
    found = {(n.block, n.neuron): n.languages for n in neurons.lape(planted, rate=0.02)}

    assert found == {(1, 7): (2,), (0, 3): (0, 1)}


@pytest.mark.parametrize("family", ["llama", "gemma3", "gemma4", "bloom", "gpt2", "opt", "xglm"])
def test_firing_counts_activations_above_zero_of_tokens_that_count(family):
    torch.manual_seed(1)
    model = pico.FAMILIES[family]().eval()
    generator = torch.Generator().manual_seed(2)
    text = {}
    for tag in TAGS[:2]:
        ids_BT = torch.randint(3, pico.VOCABULARY, (2, 9), generator=generator)
        counted_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        counted_BT[0, 0] = counted_BT[1, 7:] = False
        text[tag] = TokenBlocks(tag, ids_BT, counted_BT)

    found = firing(Opened("pico", model, pico.tokenizer(), torch.float32), text, "test")

    wanted = {tag: slow_firing(model, each, found) for tag, each in text.items()}
    for block, p_WL in enumerate(found):
        for place, tag in enumerate(text):
            assert p_WL[:, place].tolist() == pytest.approx(wanted[tag][block], abs=1e-12)
        assert 0.05 < p_WL.mean() < 0.95


def slow_firing(model, text, found):
    """Of the whole model, by the input of the linear that makes neurons: their sign is the same."""
    wide = [len(each) for each in found]
    outputs = [[] for _ in wide]
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    names = ("gate_proj", "dense_h_to_4h", "c_fc", "fc1")
    hooks = []
    for block, layer in enumerate(layers):
        made = next(m for n, m in layer.named_modules() if n.rpartition(".")[2] in names)
        hooks.append(made.register_forward_hook(lambda *seen, b=block: outputs[b].append(seen[-1])))
    with torch.no_grad():
        model(text.ids_BT)
    for hook in hooks:
        hook.remove()
    counted = text.counted_BT.flatten().tolist()
    rates = []
    for block, width in enumerate(wide):
        rows = torch.cat(outputs[block]).reshape(-1, width).tolist()
        rows = [row for row, keep in zip(rows, counted, strict=True) if keep]
        rates.append([sum(row[n] > 0 for row in rows) / len(rows) for n in range(width)])
    return rates


def test_experts_and_a_block_without_an_activation_are_told(monkeypatch):
    text = {"eng_Latn": TokenBlocks("eng_Latn", torch.tensor([[3, 4, 5]]), torch.ones(1, 3).bool())}
    mixed = Opened("pico", pico.FAMILIES["mixtral"]().eval(), pico.tokenizer(), torch.float32)
    with pytest.raises(BadModel, match="has experts"):
        firing(mixed, text, "test")

    model = pico.FAMILIES["llama"]().eval()
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.Identity()  # passes what is below zero
    with pytest.raises(BadModel, match=r"no activation function was seen in model\.layers\.0"):
        firing(Opened("pico", model, pico.tokenizer(), torch.float32), text, "test")


def given_of(monkeypatch, models) -> Any:
    """Analyses are given models whose neurons fire as planted."""
    monkeypatch.setattr(neurons, "firing", lambda opened, *_: opened)
    (_, dense), *rest = models.items()
    return SimpleNamespace(
        text=dict.fromkeys(TAGS),
        labels=[name for name, _ in rest],
        dense=dense,
        run=dict(rest).__getitem__,
        name="babel-mini",
        progress=silent,
    )


def test_what_stays_and_what_appears_is_told_and_the_dense_ones_can_be_protected(
    planted, monkeypatch
):
    pressed = [each.clone() for each in planted]
    pressed[1][7] = 0.25  # the Hindi neuron fires for everybody now
    pressed[1][9] = torch.tensor([0.93, 0.0, 0.0])  # and one for English has come
    given = given_of(monkeypatch, {"dense": planted, "run": pressed})

    rows = neurons.measure(given, rate=0.02)
    where, fates, depth = neurons.pictures(rows)

    assert fates.seen == "run keeps 1 of the 2 such neurons and adds 1."
    numbers = {(p.down, p.across): p.value for p in fates.points}
    assert numbers["Hindi", "no longer"] == 1 and numbers["Hindi", "stayed"] == 0
    assert numbers["English", "stayed"] == 1 and numbers["English", "appeared"] == 1
    assert {(p.panel, p.across, p.down): p.value for p in where.points}[
        "dense model", "1", "Hindi"
    ] == 1
    assert {p.down for p in depth.points} == {"dense model", "run"}
    assert plain.load(neurons.files(rows)["protect.yaml"]) == {"neurons": {0: [3], 1: [7]}}


def test_runs_of_another_shape_are_errors(planted, monkeypatch):
    given = given_of(monkeypatch, {"dense": planted, "run": planted[:1]})
    with pytest.raises(BadModel, match="run has other neurons than babel-mini"):
        neurons.measure(given)
