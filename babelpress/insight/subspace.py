"""What languages have apart and what they share inside: two subspaces, dense against pressed.

Low-rank subtraction (LSAR, Xie et al. 2022, EMNLP, algorithm 1), as Kurz et al. 2026 (TACL 14)
split states before and after pruning. The mean hidden states of L languages before a block are the
columns of M_HL. They are split into μ·1ᵀ + S·Γ with μ orthogonal to S: what all languages share,
and the language-specific directions S, of rank `rank`. A hidden state x has a specific part SSᵀx
and an agnostic part, the rest of it less μ.

For every language and block, over the same tokens of both models (x dense, x' pressed, both less
the dense μ, split by the dense S; `value` in the rows is the error):

    error   = Σ‖part(x) − part(x')‖² / Σ‖part(x)‖²        0 where pressing changes nothing
    cosine  = Σ part(x)·part(x') / √(Σ‖part(x)‖² · Σ‖part(x')‖²)

and for the block how much of S is still there: ‖SᵀS'‖²/rank, 1 where both span the same.

Shapes: L languages, H hidden size, K rank, T tokens that count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from babelpress.errors import BadModel
from babelpress.insight import Row
from babelpress.insight._given import Given
from babelpress.insight._pictures import Picture, Point, mean_by, spoken
from babelpress.models.walk import Walk
from babelpress.moments.gather import Batch, batches, pass_on

SPOKEN = "What languages have apart, and what they share"
READS = ("dense", "runs", "text")
RUNS = 1
LANGUAGES = 2
LIMITS = {"rank": {"ge": 0, "lt": "languages"}}
SPECIFIC, AGNOSTIC = "specific", "agnostic"
END = "end"


@dataclass(frozen=True, slots=True)
class Split:
    """What the languages share, and an orthonormal basis of what they have apart."""

    shared_H: Tensor
    specific_HK: Tensor


def measure(given: Given, *, rank: int = 0) -> list[Row]:
    """Rows by run, block, language and part (`kind` part), and by run and block (`kind` basis).

    `rank` 0 is one less than there are languages, at most 16. Block b is the state that enters it;
    the last is what leaves the last block. Raises BadModel for a run of another shape.
    """
    tags = list(given.text)
    kept = rank or min(len(tags) - 1, 16)
    return [row for label in given.labels for row in _of_run(given, label, tags, kept)]


@torch.no_grad()
def _of_run(given: Given, label: str, tags: Sequence[str], rank: int) -> Iterable[Row]:
    """Both models are walked side by side, block by block, over the same text."""
    dense, pressed = Walk(given.dense.model), Walk(given.run(label).model)
    if len(dense.blocks) != len(pressed.blocks):
        raise BadModel(
            f"{label} has {len(pressed.blocks)} blocks and {given.name} {len(dense.blocks)}: their "
            "states cannot be compared block by block. Name runs of the same shape."
        )
    before, after = batches(dense, given.text), batches(pressed, given.text)
    for index in range(len(dense.blocks) + 1):
        given.progress(f"subspace of {label}: block", index, len(dense.blocks))
        for row in compared(before, after, tags, rank):
            yield {"run": label, "block": index, **row}
        if index < len(dense.blocks):
            before = pass_on(dense, index, before)
            after = pass_on(pressed, index, after)


def compared(
    before: Sequence[Batch], after: Sequence[Batch], tags: Sequence[str], rank: int
) -> list[Row]:
    """The rows of one block, from the states of both models in the same batches."""
    split = split_of(means(before, tags), rank)
    other = split_of(means(after, tags), rank)
    sums = {(tag, part): torch.zeros(4, dtype=torch.float64) for tag in tags for part in PARTS}
    for old, new in zip(before, after, strict=True):
        for part, numbers in _parts(split, counted(old), counted(new)).items():
            sums[old.language, part] += numbers
    rows: list[Row] = [
        {"kind": "part", "language": tag, "part": part, **_told(*numbers.tolist())}
        for (tag, part), numbers in sums.items()
    ]
    kept = (split.specific_HK.T @ other.specific_HK).square().sum() / rank
    return [*rows, {"kind": "basis", "language": None, "part": None, "value": float(kept)}]


PARTS = (SPECIFIC, AGNOSTIC)


def counted(batch: Batch) -> Tensor:
    """The states of the tokens that count, (T, H), float64."""
    return batch.hidden_BTH.as_subclass(Tensor)[batch.counted_BT].double().cpu()


def means(todo: Sequence[Batch], tags: Sequence[str]) -> Tensor:
    """The mean state of every language, (H, L), in the order of `tags`."""
    found: dict[str, list[Tensor]] = {tag: [] for tag in tags}
    for batch in todo:
        found[batch.language].append(counted(batch))
    return torch.stack([torch.cat(each).mean(0) for each in found.values()], 1)


def split_of(mean_HL: Tensor, rank: int) -> Split:
    """LSAR: first the best approximation about the plain mean, then μ turned orthogonal to S."""
    plain_H = mean_HL.mean(1)
    apart_HK, size_K, across_KL = _top(mean_HL - plain_H[:, None], rank)
    near_HL = plain_H[:, None] + apart_HK @ (size_K[:, None] * across_KL)
    # v with near_HLᵀ v = 1, so that every language has the same coordinate along v.
    ones_L = torch.ones(mean_HL.shape[1], dtype=mean_HL.dtype)
    along_H = torch.linalg.pinv(near_HL.T) @ ones_L
    shared_H = along_H / along_H.square().sum()
    specific_HK, *_ = _top(near_HL - shared_H[:, None], rank)
    return Split(shared_H, specific_HK)


def _top(matrix_HL: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values, with the vectors on both sides."""
    left_HK, size_K, right_KL = torch.linalg.svd(matrix_HL, full_matrices=False)
    return left_HK[:, :rank], size_K[:rank], right_KL[:rank]


def _parts(split: Split, old_TH: Tensor, new_TH: Tensor) -> dict[str, Tensor]:
    """By part: Σ‖old‖², Σ‖new‖², Σ old·new and Σ‖old − new‖²."""
    old_TH, new_TH = old_TH - split.shared_H, new_TH - split.shared_H
    specific = [x_TH @ split.specific_HK @ split.specific_HK.T for x_TH in (old_TH, new_TH)]
    agnostic = [x_TH - own for x_TH, own in zip((old_TH, new_TH), specific, strict=True)]
    return {
        part: torch.stack(
            [
                old.square().sum(),
                new.square().sum(),
                (old * new).sum(),
                (old - new).square().sum(),
            ]
        )
        for part, (old, new) in zip(PARTS, (specific, agnostic), strict=True)
    }


def _told(old: float, new: float, both: float, lost: float) -> dict[str, float | None]:
    """Cosine and relative error; None where a model has nothing of this part."""
    return {
        "value": lost / old if old else None,
        "cosine": both / (old * new) ** 0.5 if old and new else None,
    }


# ---- pictures ------------------------------------------------------------------------------


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """The error of each part by language and block, and both parts by depth."""
    parts = [row for row in rows if row["kind"] == "part"]
    basis = [row for row in rows if row["kind"] == "basis"]
    return [_by_language(parts), _by_depth(parts), _kept(basis)]


def _by_language(parts: Sequence[Row]) -> Picture:
    runs = list(dict.fromkeys(row["run"] for row in parts))
    blocks = sorted({row["block"] for row in parts})
    mean = mean_by(parts, "run", "part", "language")
    own = {tag: value for (run, _, tag), value in mean.items() if run == runs[0]}
    tags = sorted(own, key=lambda tag: -own[tag])
    values = {(r["run"], r["part"], r["language"], r["block"]): r["value"] for r in parts}
    points = [
        Point(
            f"{run}, {part} part", _place(block, blocks), spoken(tag), values[run, part, tag, block]
        )
        for run in runs
        for part in PARTS
        for tag in tags
        for block in blocks
    ]
    return Picture(
        "languages",
        "Whose states does pressing move, in what is their own and in what is shared?",
        _moved(runs, mean),
        tuple(points),
        across="states that enter block (end: that leave the last)",
        down="language",
        value="relative error",
        panel="run and part",
        bad="high",
        digits=3,
    )


def _place(block: int, blocks: Sequence[int]) -> str:
    """A block by the states that enter it; the last ones leave the model's last block."""
    return END if block == blocks[-1] else str(block)


def _moved(runs: Sequence[str], mean: Mapping[tuple[str, str, str], float]) -> str:
    said = []
    for run in runs:
        for part in PARTS:
            own = {
                tag: value for (label, p, tag), value in mean.items() if (label, p) == (run, part)
            }
            worst = max(own, key=own.__getitem__)
            said.append(f"the {part} part of {spoken(worst)} ({own[worst]:.3f}, {run})")
    return f"Moved most, on average over blocks: {'; '.join(said)}."


def _by_depth(parts: Sequence[Row]) -> Picture:
    mean = mean_by(parts, "run", "part", "block")
    whole = mean_by(parts, "run", "part")
    blocks = sorted({row["block"] for row in parts})
    points = [
        Point(run, _place(block, blocks), f"{part} part", value)
        for (run, part, block), value in sorted(mean.items(), key=lambda each: each[0][2])
    ]
    runs = list(dict.fromkeys(row["run"] for row in parts))
    said = [
        f"in {run} the {_larger(whole, run)} part is moved more "
        f"({max(whole[run, p] for p in PARTS):.3f} against {min(whole[run, p] for p in PARTS):.3f})"
        for run in runs
    ]
    points.sort(key=lambda point: runs.index(point.panel))
    return Picture(
        "depth",
        "Is it what languages have apart that is lost, or what they share?",
        f"On average over languages and blocks, {'; '.join(said)}.",
        tuple(points),
        across="states that enter block (end: that leave the last)",
        down="part",
        value="relative error, mean of languages",
        panel="run",
        kind="lines",
        digits=3,
    )


def _larger(whole: Mapping[tuple[str, str], float], run: str) -> str:
    return max(PARTS, key=lambda part: whole[run, part])


def _kept(basis: Sequence[Row]) -> Picture:
    blocks = sorted({row["block"] for row in basis})
    points = [Point("", _place(r["block"], blocks), r["run"], r["value"]) for r in basis]
    least = min(basis, key=lambda row: row["value"])
    return Picture(
        "basis",
        "Do languages still differ in the same directions?",
        f"Least of the language-specific directions is left in {least['run']}, in the states "
        f"that enter block {_place(least['block'], blocks)} ({100 * least['value']:.1f} %).",
        tuple(points),
        across="states that enter block (end: that leave the last)",
        down="run",
        value="share of the directions that is left",
        kind="lines",
        digits=3,
    )
