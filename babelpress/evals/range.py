"""Range check: how much of a text's activations lies beyond what calibration saw.

Quantized models were found to fail in a language whose activations reach further than those of the
calibration text (Chimoto et al. 2026, arXiv:2601.18306). For input feature i of a site let M_i be
the largest |x_i| that calibration saw, over the languages with a share in its mixture. The
score is the share of (token, feature) pairs with |x_i| > M_i, over all sites; floats are compared
exactly.

Every token of the text counts once, in overlapping windows as for bits per byte: the first takes
`window` tokens, each later one the next half of a window. BOS and padding carry no bytes and do not
count. Where a tokenizer has neither BOS nor EOS, a document of one token is left out.

An expert of a mixture counts the tokens that it got, a block that runs several times every token
in each of its runs.

Shapes: S sites, D documents, B windows of a batch, T positions, I inputs of a site, R rows of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadModel, BadMoments, BadSetting, NotFinite
from babelpress.evals import Detail, Document, unheard
from babelpress.evals._windows import (
    Prepared,
    Window,
    batches,
    check_fit,
    evaluating,
    prefix_of,
    prepare,
)
from babelpress.models.experts import See
from babelpress.models.linears import Linear, linears, watched, weight
from babelpress.models.walk import Walk
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "beyond_range"
SPOKEN = "share beyond the calibration range"
LOWER_IS_BETTER = True
NEEDS_RANGES = True

BATCH_TOKENS = 2048
PROBE = 8  # tokens that show which linears read the same input


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    ranges: Mapping[str, Tensor],
    window: int,
    memory_mb: int = 256,
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of pairs beyond the range over all pairs per language.

    `ranges` holds M_I by "BLOCK.SITE", such as "3.mlp.down_proj"; a site without one, as those that
    were left out of pressing, does not count. `detail` is told each language's share at every site,
    under the same names. Comparisons take `memory_mb` at once, at most. Raises BadMoments where the
    ranges are of another model, NotFinite naming the document where an activation is no number.
    """
    if window < 3:
        raise BadSetting(f"a window of {window} tokens is too short. Give one of at least 3.")
    # Nothing is predicted: a window is all input, so it has room for one token less.
    prepared = prepare(tokenizer, documents, window=window - 1)
    check_fit(model, prepared, ahead=0)
    done, tallies = 0, {}
    total = sum(w.scored for one in prepared.values() for w in one.windows)
    bare = prefix_of(tokenizer) is None
    with torch.no_grad(), evaluating(model):
        sites = _sites(model, ranges, prepared)
        for tag, one in prepared.items():
            watch = _Watch.of(sites, memory_mb << 20, len(one.documents), model.device)
            with watch.looking():
                for batch in batches(one.windows, BATCH_TOKENS):
                    if (broken := _run(model, batch, watch, bare)) is not None:
                        raise _not_finite(tag, one.documents[broken])
                    done += sum(w.scored for w in batch)
                    progress("range", done, total)
            tallies[tag] = watch.tally(one.documents)
            detail(tag, watch.shares())
    return tallies


@dataclass(frozen=True, slots=True)
class _Watched:
    """A site: its name with the block, a linear that reads its input, and M_I.

    `reads` are those of the site.
    """

    name: str
    linear: Linear
    largest_I: Tensor
    reads: tuple[bool, ...]


def _sites(
    model: PreTrainedModel, ranges: Mapping[str, Tensor], prepared: Mapping[str, Prepared]
) -> list[_Watched]:
    walk = Walk(model)
    probe_T = next(iter(prepared.values())).windows[0].ids_T[:PROBE]
    hidden_BTH = walk.start(torch.from_numpy(probe_T)[None].to(model.device))
    there: dict[str, tuple[Linear, tuple[bool, ...]]] = {}
    for index, block in enumerate(walk.blocks):
        layers = linears(block)
        for site in walk.sites(index, hidden_BTH):
            there[f"{index}.{site.name}"] = layers[site.linears[0]], site.reads
        hidden_BTH = walk.forward(index, hidden_BTH)
    for name, largest_I in ranges.items():
        if name not in there or largest_I.shape != (weight(there[name][0]).shape[1],):
            raise BadMoments(
                f"the model has no site {name} with {largest_I.numel()} inputs: these ranges are "
                "of another model. Calibrate this model, and name its moments with --moments."
            )
    return [
        _Watched(name, linear, ranges[name].to(model.device, torch.float32), reads)
        for name, (linear, reads) in there.items()
        if name in ranges
    ]


@dataclass(slots=True)
class _Watch:
    """What is counted at every site while hooks look at its input, for one language."""

    sites: list[_Watched]
    memory: int
    beyond_SD: Tensor
    pairs_SD: Tensor
    counted_T: Tensor
    document_T: Tensor
    runs: list[int]  # of every site, in this pass

    @classmethod
    def of(
        cls, sites: list[_Watched], memory: int, documents: int, device: torch.device
    ) -> "_Watch":
        """Nothing counted yet, of this many documents."""
        beyond_SD = torch.zeros(len(sites), documents, dtype=torch.float64, device=device)
        nothing = torch.zeros(0)
        return cls(sites, memory, beyond_SD, torch.zeros_like(beyond_SD), nothing, nothing, [])

    def expect(self, counted_BT: Tensor, document_B: Tensor) -> None:
        """Which positions of the next batch count, and the documents that its rows are of."""
        self.counted_T = counted_BT.flatten()
        self.document_T = document_B[:, None].expand(counted_BT.shape).flatten()
        self.runs = [0] * len(self.sites)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While it lasts, every pass of the model is counted."""
        with watched({site.linear: self._look(index) for index, site in enumerate(self.sites)}):
            yield

    def _look(self, index: int) -> See:
        site = self.sites[index]
        inputs = len(site.largest_I)
        rows = max(1, self.memory // (inputs * 8))

        def look(x_RI: Tensor, token_R: Tensor | None) -> None:
            self.runs[index] += 1
            if token_R is None and not site.reads[self.runs[index] - 1]:
                return
            counted_R, document_R = self.counted_T, self.document_T
            if token_R is not None:
                counted_R, document_R = counted_R[token_R], document_R[token_R]
            if len(x_RI) != len(counted_R):
                raise BadModel(f"{site.name} sees {len(x_RI)} rows, not one a token.")
            x_RI, document_R = x_RI[counted_R], document_R[counted_R]
            beyond_R = torch.cat([(x.abs() > site.largest_I).sum(1) for x in x_RI.split(rows)])
            self.beyond_SD[index].index_add_(0, document_R, beyond_R.double())
            pairs_R = torch.full_like(document_R, inputs, dtype=torch.float64)
            self.pairs_SD[index].index_add_(0, document_R, pairs_R)

        return look

    def tally(self, documents: tuple[str, ...]) -> Tally:
        """Pairs beyond the range over all pairs of each document."""
        beyond_D, pairs_D = self.beyond_SD.sum(0), self.pairs_SD.sum(0)
        return Tally(documents, beyond_D.cpu().numpy(), pairs_D.cpu().numpy())

    def shares(self) -> dict[str, float]:
        """The share beyond the range at every site, over all documents; 0 where nothing came."""
        return {
            site.name: float(beyond_D.sum()) / max(float(pairs_D.sum()), 1.0)
            for site, beyond_D, pairs_D in zip(
                self.sites, self.beyond_SD, self.pairs_SD, strict=True
            )
        }


def _run(model: PreTrainedModel, batch: list[Window], watch: _Watch, bare: bool) -> int | None:
    """One pass over a batch; gives a document whose activations are no numbers, if there is one.

    `bare` windows have no BOS in front.
    """
    ids_BT, mask_BT, counted_BT = (x.to(model.device) for x in _pad(batch, bare))
    document_B = torch.tensor([w.document for w in batch], device=model.device)
    watch.expect(counted_BT, document_B)
    body = model.base_model(ids_BT, attention_mask=mask_BT, use_cache=False)
    sound_B = (body.last_hidden_state.isfinite().all(-1) | ~counted_BT).all(-1)
    return None if sound_B.all() else int(document_B[~sound_B][0])


def _not_finite(tag: str, document: str) -> NotFinite:
    return NotFinite(
        f"an activation of document '{document}' in {tag} is NaN or infinite. Likely causes: (a) a "
        "weight of the model is; (b) the model overflows in float16: load it in bfloat16."
    )


def _pad(batch: Sequence[Window], bare: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask of real ones, mask of counted ones; all of shape (B, T), padded right."""
    length = max(len(window.ids_T) for window in batch)
    ids_BT = torch.zeros(len(batch), length, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    counted_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, window in enumerate(batch):
        size = len(window.ids_T)
        # Only the first window of a document has all its tokens scored, but the first.
        start = 0 if bare and window.scored == size - 1 else size - window.scored
        ids_BT[row, :size] = torch.from_numpy(window.ids_T)
        mask_BT[row, :size] = 1
        counted_BT[row, start:size] = True
    return ids_BT, mask_BT, counted_BT
