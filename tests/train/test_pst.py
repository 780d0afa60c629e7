"""PST against its formulas in plain floats: what a weight becomes, and every gradient."""

from typing import Any

import labelling
import pytest
import torch
from torch import nn

from babelpress.train.gradual import Cubic
from babelpress.train.pst import Adapted, Pst


def made(share=0.3, keep=None) -> tuple[torch.Tensor, Any]:
    torch.manual_seed(4)
    weight = torch.randn(5, 6)
    found = Adapted(weight, 2, keep, share)
    with torch.no_grad():
        for each in found.parameters():
            each.normal_(std=0.5)
    return weight, found


@torch.no_grad()
def slow(weight, each, share):
    """Number by number: scores, which are highest, and what the weight becomes."""
    rows, columns = weight.shape
    rank = range(each.U_OK.shape[1])
    score, updated = {}, {}
    for o in range(rows):
        for i in range(columns):
            ab = sum(float(each.A_OK[o, k] * each.B_KI[k, i]) for k in rank)
            uv = sum(float(each.U_OK[o, k] * each.V_KI[k, i]) for k in rank)
            structure = float(each.R_O1[o, 0]) + float(each.C_1I[0, i])
            score[o, i] = abs(float(weight[o, i])) + ab + structure
            updated[o, i] = float(weight[o, i]) + uv
    drop = int(rows * columns * share + 1e-9)
    gone = set(sorted(score, key=score.__getitem__)[:drop])
    return updated, gone


def test_a_weight_becomes_what_the_formulas_say():
    weight, each = made()

    found = each(weight)

    updated, gone = slow(weight, each, 0.3)
    assert len(gone) == 9
    for (o, i), value in updated.items():
        expected = 0.0 if (o, i) in gone else value
        assert found[o, i].item() == pytest.approx(expected, abs=1e-6)


def test_gradients_go_straight_through_the_mask():
    """dU = (G⊙M)Vᵀ, dV = Uᵀ(G⊙M); of scores, G⊙(W0+UV) goes on as if the mask were the score."""
    weight, each = made()
    updated, gone = slow(weight, each, 0.3)
    up = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))

    (each(weight) * up).sum().backward()

    mask = torch.tensor([[float((o, i) not in gone) for i in range(6)] for o in range(5)])
    value = torch.tensor([[updated[o, i] for i in range(6)] for o in range(5)])
    direct, scored = up * mask, up * value
    for parameter, expected in [
        (each.U_OK, direct @ each.V_KI.T),
        (each.V_KI, each.U_OK.T @ direct),
        (each.A_OK, scored @ each.B_KI.T),
        (each.B_KI, each.A_OK.T @ scored),
        (each.R_O1, scored.sum(1, keepdim=True)),
        (each.C_1I, scored.sum(0, keepdim=True)),
    ]:
        assert torch.allclose(parameter.grad, expected, atol=1e-5)


def test_it_begins_as_the_weight_pruned_by_magnitude():
    weight = torch.randn(5, 6)

    found = Adapted(weight, 2, None, 0.5)(weight)

    threshold = weight.abs().flatten().sort().values[14]
    assert torch.equal(found, weight * (weight.abs() > threshold))


def test_zeros_of_before_stay_zeros():
    keep = torch.ones(5, 6, dtype=torch.bool)
    keep[:, 2] = False
    weight, each = made(share=0.1, keep=keep)

    assert (each(weight)[:, 2] == 0).all()


def test_zeros_of_before_are_among_those_that_are_asked_for():
    keep = torch.ones(5, 6, dtype=torch.bool)
    keep[:, 2] = False
    weight, each = made(share=0.4, keep=keep)

    assert int((each(weight) == 0).sum()) == 12


def test_a_training_without_a_step_left_has_all_its_zeros():
    model = labelling.head(labelling.OF_TEXTS, "bert", labelling.TOPICS)
    linear = model.bert.encoder.layer[0].output.dense
    pst = Pst.of(model, {"x": linear}, {}, 2, Cubic(0.0, 0.5, 10), seed=3)

    pst.finish()

    assert int((linear.weight == 0).sum()) == linear.weight.numel() // 2


def test_only_it_and_the_head_learn_and_it_becomes_the_weights():
    model = labelling.head(labelling.OF_TEXTS, "bert", labelling.TOPICS)
    linears = {
        name: each
        for name, each in model.named_modules()
        if isinstance(each, nn.Linear) and ".layer." in name
    }
    ids = torch.arange(5, 25).reshape(2, 10)
    before = model(ids).logits.detach()

    pst = Pst.of(model, linears, {}, 2, Cubic(0.0, 0.5, 10), seed=3)

    learns = {name for name, each in model.named_parameters() if each.requires_grad}
    assert {name.partition(".")[0] for name in learns if "parametrizations" not in name} == {
        "classifier"
    }
    assert len([name for name in learns if name.endswith("U_OK")]) == len(linears) == 12
    assert torch.allclose(model(ids).logits, before, atol=1e-5)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "parametrizations" in name and each.requires_grad:
                each.normal_(std=0.2)
    pst.at(10)
    after = model(ids).logits.detach()
    pst.finish()
    assert torch.allclose(model(ids).logits, after, atol=1e-5)
    assert not [name for name, _ in model.named_parameters() if "parametrizations" in name]
    for each in linears.values():
        weight: Any = each.weight
        assert int((weight == 0).sum()) == weight.numel() // 2
    assert (pst.ready(10), pst.ready(11)) == (False, True)
