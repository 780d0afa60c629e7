"""Moments in which a token counts by how much the loss hears of what it gives.

For a token t of a site let z_t be what the linears of the site give for it, all outputs of all of
them (of q, k and v together), and

    L    the negative log-likelihood in nats, summed over the next tokens of t's sequence that count
    s_t  = mean over outputs o of (∂L/∂z_to)²

Then every sum but n and the maximum has s_t before it: Σ s_t x_t, Σ s_t x_t², the Gram matrix
Σ s_t x_t x_tᵀ. This is after the guidance of GuidedQuant (Kim et al. 2025, arXiv:2505.07004), which
has groups of outputs of one linear. That the linears of a site are pooled, so that they share one
matrix, is ours, and coarser than one group a linear. Replacing the weights by W + Δ changes what t
gives by Δx_t and the loss by about Σ_t g_tᵀΔx_t + ½ Σ_t s_t |Δx_t|², where g_t = ∂L/∂z_t and
squared gradients stand for the curvature: so ½ tr(ΔGΔᵀ) is in nats. Pooling bends the curvature of
single linears of a site: what the loss hears of one counts for all of them.

Sums are kept as they are, not scaled, so that they add up over batches and parts, and Σ s_t beside
them. Means divide by it: within a language tokens weigh by the loss, but a language weighs what its
share in a mixture says, and not the more the larger its loss is. Of an expert a token counts that
chose it, through its share.

What counts is what counts in gather.py: no padding and, unless they are asked for, no special
tokens, neither as tokens t nor among the next tokens of L. The gradient by the weights of a linear,
Σ_t g_t x_tᵀ, is over all positions but padding: what a linear gives at BOS, too, the loss of later
tokens hears of. Only an expert that no token of a language chose that counts has none.

A pass is one of the whole model, forward and back, for every batch, with all weights in memory. It
makes the sums of as many blocks as MOST bytes hold; for the others there is a further pass. How
blocks are shared out changes no bit.

Shapes: B sequences, T positions, N next tokens that count, H hidden size; one language a batch.

Tested in tests/moments/test_weigh.py.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from babelpress.errors import BadModel, BadSetting, NotFinite
from babelpress.models import experts
from babelpress.models.apart import is_apart, logits_of
from babelpress.models.linears import weight
from babelpress.models.recording import other_text
from babelpress.models.sites import FEW, Site
from babelpress.models.walk import Walk
from babelpress.moments.gather import BATCH_ELEMENTS, never
from babelpress.moments.heard import Heard, outputs_of
from babelpress.moments.moments import OPTIONAL
from babelpress.moments.store import BlockMoments
from babelpress.system.memory import give_back, physical
from babelpress.system.progress import Progress, silent
from babelpress.text.settings import check_loss
from babelpress.text.token_blocks import TokenBlocks

MOST = 4 << 30  # bytes of sums that are made at once
LOGITS = 1 << 24  # at once, 64 MiB in float32


def check(walk: Walk, *, offload: bool = False) -> None:
    """Raise BadModel or BadSetting for what cannot be weighed by the loss, before long work."""
    check_loss(type(walk.model).__name__, decodes=not walk.both_sides, offload=offload)
    there, own = physical(), sum(each.nbytes for each in walk.model.parameters())
    if walk.model.device.type == "cpu" and there and own > there:
        raise BadSetting(
            f"weigh loss takes a pass back through the whole model, whose weights ({own >> 20:,} "
            f"MiB) are more than the memory here ({there >> 20:,} MiB). Leave --weigh out."
        )


def gather_weighed(
    walk: Walk,
    blocks: Mapping[str, TokenBlocks],
    *,
    gram: bool,
    slopes: bool = False,
    batch_tokens: int = 0,
    vectors: Collection[str] = OPTIONAL,
    done: Callable[[int], bool] = never,
    progress: Progress = silent,
) -> Iterator[tuple[int, BlockMoments]]:
    """Weighed moments of the dense model, block by block; blocks that are `done` are left out.

    With `slopes` the gradients by the weights are kept too. Raises NotFinite where a gradient or a
    sum is no number.
    """
    check(walk)
    todo = [index for index in range(len(walk.blocks)) if not done(index)]
    if not todo:
        return
    sites = sites_of(walk, blocks)
    reads_apart = _reads_apart(walk.model)
    taken = len(walk.blocks) - len(todo)
    progress("calibrate: block", taken, len(walk.blocks))
    for group in groups_of(walk, sites, todo, len(blocks), gram=gram, slopes=slopes):
        heard = Heard(walk, {index: sites[index] for index in group}, gram, slopes, vectors)
        batches = list(_batches(walk, blocks, batch_tokens))
        with heard.listening(), _frozen(walk.model), experts.computed(walk.model):
            for number, (language, ids_BT, counted_BT) in enumerate(batches, 1):
                heard.begin(language, counted_BT)
                heard.end(_loss(walk.model, ids_BT, counted_BT, reads_apart, language))
                progress("weigh: batch", number, len(batches))
        for index in group:
            yield index, heard.take(index)
            taken += 1
            progress("calibrate: block", taken, len(walk.blocks))
        give_back()


# ---- what there is to do -------------------------------------------------------------------


@torch.no_grad()
def sites_of(walk: Walk, blocks: Mapping[str, TokenBlocks]) -> list[list[Site]]:
    """The sites of every block, seen with the first few tokens."""
    first = next(each for each in blocks.values() if len(each.ids_BT))
    hidden_BTH = walk.start(first.ids_BT[:1, :FEW].to(walk.model.device))
    found: list[list[Site]] = []
    for index in range(len(walk.blocks)):
        found.append(walk.sites(index, hidden_BTH))
        if index + 1 < len(walk.blocks):
            hidden_BTH = walk.forward(index, hidden_BTH)
    if odd := [site.name for each in found for site in each if not all(site.reads)]:
        raise BadModel(f"{odd[0]} is given rows that are no text, which weigh loss cannot follow.")
    return found


def groups_of(
    walk: Walk,
    sites: Sequence[Sequence[Site]],
    todo: Sequence[int],
    languages: int,
    *,
    gram: bool,
    slopes: bool,
) -> list[list[int]]:
    """The blocks that are to be done, as many together as MOST bytes hold the sums of."""

    def size(index: int) -> int:
        numbers = 0
        for site in sites[index]:
            outputs = sum(outputs_of(walk, index, site).values())
            numbers += site.inputs * (site.inputs * gram + outputs * slopes)
        return 4 * numbers * languages

    groups: list[list[int]] = []
    room = 0
    for index in todo:
        if not groups or (own := size(index)) > room:
            groups.append([])
            room, own = MOST, size(index)
        groups[-1].append(index)
        room -= own
    return groups


def rows_of_batch(walk: Walk, length: int, batch_tokens: int = 0) -> int:
    """Sequences in a batch: as many as gather.py has on a CPU.

    What a pass back has to keep of every block is many times what a batch is there.
    """
    width = weight(walk.model.get_input_embeddings()).shape[1]
    return max(1, (batch_tokens or BATCH_ELEMENTS // width) // length)


def _batches(
    walk: Walk, blocks: Mapping[str, TokenBlocks], batch_tokens: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Ids and what counts of them, a language after the other."""
    device = walk.model.device
    for language, each in blocks.items():
        size = rows_of_batch(walk, each.length, batch_tokens)
        for start in range(0, len(each.ids_BT), size):
            some = each.rows(slice(start, start + size))
            yield language, some.ids_BT.to(device), some.counted_BT.to(device)


# ---- the loss ------------------------------------------------------------------------------


@torch.no_grad()
def _reads_apart(model: PreTrainedModel) -> bool:
    """Whether logits of single positions can be made."""
    text_1T = other_text(model).to(model.device)
    there_1T = torch.ones_like(text_1T, dtype=torch.bool)
    asked: Any = model
    with experts.computed(model):
        logits_1TV = asked(text_1T, use_cache=False).logits
        return is_apart(model, text_1T, logits_1TV, there_1T)


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Inside, gradients go through weights and not to them."""
    asked = [each for each in model.parameters() if each.requires_grad]
    for each in asked:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in asked:
            each.requires_grad_(True)


def _loss(
    model: PreTrainedModel, ids_BT: Tensor, counted_BT: Tensor, reads_apart: bool, language: str
) -> float:
    """The loss of a batch in nats, after it was followed back to whoever listens."""
    scored_BT = counted_BT[:, 1:]
    target_N = ids_BT[:, 1:][scored_BT]
    run: Any = model.base_model if reads_apart else model
    with torch.enable_grad():
        # padding comes last, so that no position that counts sees it
        said = run(ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False)
        rows = said.last_hidden_state if reads_apart else said.logits
        rows_NX = rows[:, :-1][scored_BT]
    if not len(target_N):
        return 0.0
    total, slopes = 0.0, []
    head: Any = model.get_output_embeddings()
    size = max(1, LOGITS // (len(head.weight) if reads_apart else rows_NX.shape[1]))
    for some_NX, some_N in zip(rows_NX.detach().split(size), target_N.split(size), strict=True):
        with torch.enable_grad():
            leaf_NX = some_NX.clone().requires_grad_()
            logits_NV = logits_of(model, said, leaf_NX) if reads_apart else leaf_NX
            nats = functional.cross_entropy(logits_NV.float(), some_N, reduction="sum")
        slopes += torch.autograd.grad(nats, leaf_NX)
        total += float(nats.detach())
    if not torch.isfinite(torch.tensor(total)):
        raise NotFinite(
            f"the loss of {type(model).__name__} in {language} is {total}: it gives no numbers. "
            "Look for NaN or infinity in the model."
        )
    rows_NX.backward(torch.cat(slopes))
    return total
