"""Recover block by block: what the parts of blocks learn, and how that is written down.

Tested in tests/steps/test_recover_blocks.py.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from babelpress.models.walk import Walk
from babelpress.numerics.grids import Codes
from babelpress.numerics.lacking import shares_by_lack
from babelpress.press import codes
from babelpress.press.trial import timed
from babelpress.recover import REPAIRS
from babelpress.steps._kind import ModelRow
from babelpress.steps._repairing import Repair
from babelpress.steps.recover import Report
from babelpress.system.early import ends_early
from babelpress.system.offload import Hold, turn
from babelpress.system.progress import Progress, remark, silent
from babelpress.train.by_block import ByBlock, Learner
from babelpress.train.learners import Integers, Weights
from babelpress.train.reading import Reader
from babelpress.train.recovering import Losses, losses_of


def repair(made: Repair, place: Path, folder: Path, hold: Hold, progress: Progress) -> Report:
    """Repair all blocks in place; integers that are learnt go into `folder`."""
    models = made.opened.model, made.dense.model
    live = models[0].dtype
    for each in models:  # before anything is measured, and however it is held: the same numbers
        turn(each, torch.float32, hold)
    reference, before = _losses(made, models[1]), _losses(made, models[0])
    writer = codes.Writer(folder / codes.FOLDER, made.walk.index_of)
    moved: list[int] = []

    def settled(index: int, found: dict[str, Codes]) -> None:
        if found:
            named = {made.walk.name(index, name): each for name, each in found.items()}
            moved.extend(_moved(made, name, each) for name, each in named.items())
            writer.add(named)

    walked = _walked(made, place, hold, settled, _shares(made, reference, before))
    zeros = _zeros(made)
    stopped = _run(walked, made, progress)
    if made.settings.grids and made.codes is not None:
        rest = [name for name in made.coded if name not in writer.rows]
        for index in sorted({made.walk.index_of(name) for name in rest}, key=str):
            own = [name for name in rest if made.walk.index_of(name) == index]
            writer.add({name: made.codes.load(name) for name in own})
        writer.close()
    after = _losses(made, made.opened.model)
    turn(models[0], live, hold)  # as a step finds it that opens what this one made
    return Report(
        model=ModelRow(name=""),
        reference=reference,
        losses_apart=[before, after] if before else [],
        at=[0, made.settings.steps],
        drawn=[dict(walked.shares)],
        best=1,
        read={tag: sum(each.read[tag] for each in walked.done) for tag in walked.shares},
        trained=_trained(made, walked),
        zeros=zeros,
        moved=sum(moved),
        parts=[
            {"block": each.block, "before": each.before, "after": each.after}
            for each in walked.done
        ],
        stopped=stopped,
    )


def _run(walked: ByBlock, made: Repair, progress: Progress) -> str:
    """All blocks, one after the other; Ctrl-C leaves those behind the last that is done alone."""
    try:
        walked.repair(made.text.blocks, made.apart.blocks, progress)
    except KeyboardInterrupt:
        if not (ends_early() and walked.done and not made.settings.grids):
            raise
        remark(progress, f"stopped: {len(walked.done)} blocks are repaired")
        walked.restore()
        return f"by Ctrl-C behind block {len(walked.done):,} of {len(made.walk.blocks):,}"
    return ""


def _walked(
    made: Repair,
    place: Path,
    hold: Hold,
    settled: Callable[[int, dict[str, Codes]], None],
    shares: dict[str, float],
) -> ByBlock:
    settings, dense = made.settings, made.dense.model
    dense.requires_grad_(False)
    made.opened.model.requires_grad_(False)
    length = max(each.length for each in made.text.blocks.values())
    return ByBlock(
        walk=made.walk,
        dense=Walk(dense),
        loss_of=REPAIRS.get(settings.repair),
        learner=partial(_learner, made),
        shares=shares,
        steps=settings.steps,
        batch=max(1, settings.batch // length),
        seed=made.seed,
        place=place,
        hold=hold,
        settled=settled,
        whole=settings.grids,
    )


def _learner(made: Repair, index: int, block: Any, dense: Any) -> Learner:
    settings, names = made.settings, made.coded_in(index)
    if settings.grids:
        assert made.codes is not None
        place = made.walk.name(index)
        own = {name: made.codes.load(f"{place}.{name}") for name in names}
        return Integers.of(block, dense, own, pruned=made.pruned, rate=made.rate)
    return Weights.of(
        block,
        settings.learns,
        pruned=made.pruned,
        fixed=names,
        rank=settings.rank,
        seed=made.seed,
        rate=made.rate,
    )


def _shares(made: Repair, reference: Losses, before: Losses) -> dict[str, float]:
    """Found once: what a language lacks in the end is not known while blocks are repaired."""
    if not made.lacking:
        return made.base
    lacks = {tag: before[tag] / reference[tag] - 1 for tag in made.base}
    return shares_by_lack(made.base, lacks, made.settings.radius)


def _losses(made: Repair, model: Any) -> Losses:
    """Losses on text held apart; of a model without a head none."""
    if made.reader.answers != "tokens":
        return {}
    reader = made.reader if model is made.opened.model else Reader.of(model)
    return losses_of(reader, made.apart, made.watched, made.seed)


def _zeros(made: Repair) -> int:
    """Zeros of pruned blocks, which stay."""
    if not made.pruned:
        return 0
    return sum(
        each.numel() - int(torch.count_nonzero(each))
        for block in made.walk.blocks
        for each in block.parameters()
        if each.ndim > 1
    )


def _trained(made: Repair, walked: ByBlock) -> int:
    """How many numbers learnt, of all blocks; of a grid the widths of its groups not counted."""
    if made.settings.grids and made.codes is not None:
        shapes = (
            made.codes.row(name)["shape"]
            for name in made.coded
            if made.walk.index_of(name) is not None
        )
        return sum(rows * inputs for rows, inputs in shapes)
    return sum(each.trained for each in walked.done)


def _moved(made: Repair, name: str, found: Codes) -> int:
    """How many integers of a linear are others than before."""
    assert made.codes is not None
    return int((made.codes.load(name).codes_OI != found.codes_OI).sum())


def tried(made: Repair, place: Path, hold: Hold) -> tuple[dict[str, float], int, int]:
    """Seconds by phase from a step on the first block, and numbers: of a block, and of all."""
    for each in (made.opened.model, made.dense.model):
        turn(each, torch.float32, hold)
    walked = _walked(made, place, hold, lambda *_: None, made.base)
    few = replace(walked, walk=made.walk.only(1), steps=1)
    one = timed(lambda: few.repair(made.text.blocks, made.apart.blocks, silent))[1]
    more = replace(walked, walk=made.walk.only(1), steps=2, place=place / "more", done=[])
    more.place.mkdir()
    two = timed(lambda: more.repair(made.text.blocks, made.apart.blocks, silent))[1]
    step = max(0.0, two - one)
    looks = timed(lambda: _losses(made, made.opened.model))[1] * 3
    sizes = [sum(each.numel() for each in block.parameters()) for block in made.walk.blocks]
    phases = {
        "blocks": len(sizes) * (one + step * made.settings.steps),
        "evaluate": looks,
    }
    return phases, max(sizes), sum(sizes)
