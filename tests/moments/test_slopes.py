"""Gradients by the weights, kept beside moments that are weighed by the loss."""

from typing import Any

import pressing
import pytest
import torch
from torch.nn import functional

from babelpress.models.experts import Slice
from babelpress.models.linears import linears
from babelpress.models.walk import Walk
from babelpress.moments.weigh import gather_weighed


def text(**options):
    """Unequal languages; padding does not count, nor what each sequence begins with."""
    found = pressing.text(**options)
    for each in found.values():
        each.counted_BT[:, 0] = False
    return found


def taken(model, blocks, *, slopes=True):
    return dict(gather_weighed(Walk(model), blocks, gram=True, slopes=slopes))


@pytest.mark.parametrize("family", ["bloom", "qwen3_moe"])
def test_the_slope_is_the_gradient_by_the_weights_whatever_counts(family):
    """Of padded text, too, where neither the first position counts nor one in the middle."""
    model = pressing.loud(family)
    blocks = text(sizes={"eng_Latn": 2})
    each = blocks["eng_Latn"]
    each.counted_BT[:, 4] = False
    found = taken(model, blocks)

    logits_BTV = model(each.ids_BT, use_cache=False).logits[:, :-1]
    scored_BT = each.counted_BT[:, 1:]
    functional.cross_entropy(
        logits_BTV[scored_BT], each.ids_BT[:, 1:][scored_BT], reduction="sum"
    ).backward()

    for index, block in enumerate(Walk(model).blocks):
        for site, seen in found[index].items():
            linear: Any = linears(block)[site.linears[0]]
            gradient_OI = (
                getattr(linear.experts, linear.parameter).grad[linear.expert]
                if isinstance(linear, Slice)
                else linear.weight.grad
            )
            slope_OI = seen["eng_Latn"].tensors()["slope"][: len(gradient_OI)]
            error = (slope_OI - gradient_OI).abs().max()
            assert error <= 1e-4 * gradient_OI.abs().max(), site.name
    assert all(each.requires_grad for each in model.parameters())


def test_what_the_padding_holds_changes_no_bit():
    model = pressing.loud()

    one, other = (pressing.flat(taken(model, text(junk=junk))) for junk in (2, 77))

    assert one.keys() == other.keys()
    assert all(torch.equal(one[place], other[place]) for place in one)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_with_slopes_the_other_sums_are_the_same_bits_and_of_the_same_experts(family):
    """Where one token counts, experts that others chose are not seen, however much is heard."""
    model, blocks = pressing.loud(family), text(sizes={"eng_Latn": 1})
    blocks["eng_Latn"].counted_BT[:] = False
    blocks["eng_Latn"].counted_BT[:, 6] = True

    without, found = taken(model, blocks, slopes=False), taken(model, blocks)

    one = pressing.flat(without)
    other = {place: each for place, each in pressing.flat(found).items() if place[-1] != "slope"}
    assert one.keys() == other.keys()
    assert all(torch.equal(one[place], other[place]) for place in one)
    unseen = [site for of_block in found.values() for site, seen in of_block.items() if not seen]
    assert bool(unseen) == (family == "mixtral")
