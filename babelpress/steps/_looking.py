"""What a pressing step looks at: its text or a folder of moments, and the mixture of languages.

Mixtures that go by training shares go by those of the model that a chain began with.

Tested in tests/steps/test_step.py, tests/steps/test_contrast.py, tests/moments/test_store.py and
tests/sweeps/test_one_pass.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting
from babelpress.models.open import Opened
from babelpress.models.sites import Site
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments.expert_loads import languages_of
from babelpress.moments.gather import gather_dense
from babelpress.moments.store import BlockMoments, Store
from babelpress.moments.weigh import check, gather_weighed
from babelpress.press.method import Method
from babelpress.steps._pressing import LookingSettings, check_against
from babelpress.system.offload import Hold, in_memory
from babelpress.system.progress import Progress
from babelpress.text import mixtures
from babelpress.text.calibration import CalibrationSet
from babelpress.text.draw import draw
from babelpress.text.languages import select
from babelpress.text.mixtures import Mixture
from babelpress.text.settings import EVENLY, LOSS, CalibrationSettings
from babelpress.text.token_blocks import TokenBlocks


@dataclass(frozen=True, slots=True)
class Source:
    """What a step looks at: its languages, their text, and dense moments by block.

    `there` are all languages with moments; `blocks` is empty where the moments are of a folder.
    """

    languages: list[str]
    there: list[str]
    blocks: Mapping[str, TokenBlocks]
    manifest: Mapping[str, Any]
    moments: Callable[[int], BlockMoments]


@dataclass(frozen=True, slots=True)
class Offered:
    """Moments of a dense model that others look at too, who take them block by block.

    `model` is its fingerprint; they have Gram matrices where `gram` says so. `take` gives those of
    the next block, once.
    """

    model: str
    languages: tuple[str, ...]
    manifest: Mapping[str, Any]
    gram: bool
    take: Callable[[], BlockMoments]


_OFFERED: ContextVar[Offered | None] = ContextVar("offered moments", default=None)


@contextmanager
def offering(moments: Offered) -> Iterator[None]:
    """Inside, a step on dense blocks of that model takes these moments, and looks at no text."""
    token = _OFFERED.set(moments)
    try:
        yield
    finally:
        _OFFERED.reset(token)


def of_offered(
    model: str, asked: CalibrationSettings, settings: LookingSettings, *, gram: bool
) -> Source | None:
    """Moments that are offered to a step on this model; None where it has to look itself.

    An offer is taken once: a step after it on the same model, which the first has not changed,
    looks itself. It sees what it would see in a folder of its own: a method that needs no Gram
    matrices, none.
    """
    offered = _OFFERED.get()
    if offered is None or not settings.shares_moments or settings.looks_twice:
        return None
    if model != offered.model or (gram and not offered.gram) or asked.weigh != EVENLY:
        return None
    _OFFERED.set(None)
    taken = count()

    def moments(index: int) -> BlockMoments:
        assert index == next(taken), "blocks are taken in order"
        block = offered.take()
        if gram:
            return block
        return {
            site: {tag: each.without_gram() for tag, each in seen.items()}
            for site, seen in block.items()
        }

    there = [*offered.languages]
    return Source(_chosen(asked, there), there, {}, offered.manifest, moments)


def of_text(
    opened: Opened,
    walk: Walk,
    asked: CalibrationSettings,
    method: Method,
    again: bool,
    hold: Hold,
    progress: Progress,
    drawn: CalibrationSet | None = None,
) -> Source:
    """Text, and its dense moments if they are asked for; `drawn` is text that was drawn before.

    Only with `again` are moments kept, for whoever asks for a block a second time, and where
    tokens are weighed by the loss. Raises what `weigh.check` raises where that cannot be.
    """
    weighed = asked.weigh == LOSS
    if weighed:
        check(walk, offload=hold is not in_memory)
    found = drawn or draw(opened, asked)
    # A pass that weighs goes through the whole model: all are done before any block is pressed.
    last, keeps = len(walk.blocks) - 1, again or weighed
    gathered: dict[int, BlockMoments] = {}
    coming: list[Iterator[tuple[int, BlockMoments]]] = []

    def moments(index: int) -> BlockMoments:
        if not coming:
            kept: dict[str, Any] = {
                "gram": method.needs_gram,
                "vectors": method.vectors,
                "progress": progress,
            }
            coming.append(
                gather_weighed(walk, found.blocks, slopes=asked.first_order, **kept)
                if weighed
                else gather_dense(walk, found.blocks, hold=hold, **kept)
            )
        if index not in gathered:
            if not keeps:
                gathered.clear()
            upto = last if weighed else index
            gathered.update((at, _held(each, hold, keeps)) for at, each in _until(coming[0], upto))
            if upto == last:
                next(coming[0], None)  # nothing more, but the progress of the last
        return gathered[index]

    tags = list(found.blocks)
    return Source(tags, tags, found.blocks, {**found.manifest, **asked.weighing}, moments)


def _until(
    coming: Iterator[tuple[int, BlockMoments]], index: int
) -> Iterator[tuple[int, BlockMoments]]:
    """The next moments, up to those of a block."""
    for at, each in coming:
        yield at, each
        if at == index:
            return


def _held(moments: BlockMoments, hold: Hold, again: bool) -> BlockMoments:
    """Gram matrices of every block are more than one model: they lie where hidden states do."""
    if not again:
        return moments
    return {
        site: {
            tag: each if each.gram is None else replace(each, gram=hold(each.gram))
            for tag, each in seen.items()
        }
        for site, seen in moments.items()
    }


def of_folder(
    opened: Opened, asked: CalibrationSettings, settings: LookingSettings, who: str, *, gram: bool
) -> Source:
    """Moments that were saved. Raises BadMoments or BadSetting where they are no use to `who`."""
    assert settings.moments is not None
    store = _opened(Path(settings.moments), opened)
    if settings.propagate != "dense":
        raise BadSetting(
            "moments of a folder are of the dense model: use propagate dense, or drop moments."
        )
    if gram and not store.identity["gram"]:
        raise BadSetting(
            f"{who} needs Gram matrices, which {settings.moments} has not. "
            "Calibrate again with --gram."
        )
    there = store.identity["languages"]
    languages = _chosen(asked, there)
    if missing := [tag for tag in languages if tag not in there]:
        raise BadMoments(
            f"{settings.moments} has no moments of {', '.join(missing)}; it has "
            f"{', '.join(there)}. Calibrate with them, or leave them out of --languages."
        )
    return Source(languages, there, {}, store.manifest["calibration"], store.load)


def _chosen(asked: CalibrationSettings, there: Sequence[str]) -> list[str]:
    """The languages that are asked for, in the order of who asks; all where none are named."""
    return select(asked.languages, among=there) if asked.languages else [*there]


def _opened(folder: Path, opened: Opened) -> Store:
    """A moments folder of this model. Raises BadMoments for one of another."""
    store = Store.open(folder)
    store.check(
        model=weights_hash(opened.model),
        tokenizer=tokenizer_hash(opened.tokenizer),
        dtype=str(opened.model.dtype),
    )
    return store


def beside(source: Source, opened: Opened, against: str, shares: Mapping[str, float]) -> Source:
    """The same with what a second moments folder has of every input, to make a contrast with.

    Raises BadMoments for moments of another model, or without a language that has a share.
    """
    store = _opened(Path(against), opened)
    check_alike(against, store.weigh, source.manifest.get("weigh", EVENLY))
    check_against(against, store.identity["languages"], shares)
    return replace(
        source, moments=lambda index: contrasted(source.moments(index), store.load(index))
    )


def check_alike(against: str, there: str, here: str) -> None:
    """Raise BadMoments where tokens count otherwise in the moments that a contrast is made with."""
    if there != here:
        raise BadMoments(
            f"{against} has moments whose tokens are weighed otherwise ({there}, not {here}), so "
            f"that nothing can be held against them. Calibrate it again with --weigh {here}."
        )


def text_of(folder: str) -> Mapping[str, Any]:
    """The text that moments of a folder were taken of."""
    return Store.open(Path(folder)).manifest["calibration"]


def contrasted(moments: BlockMoments, other: BlockMoments) -> BlockMoments:
    """Moments of a block, with the mean squares of the same inputs in another text.

    Each language has its own of the other text, or those of the one language that this is in.
    Inputs of an expert that no token of the other text chose never fired in it.
    """
    there = languages_of(other.values())
    only = there[0] if len(there) == 1 else None

    def mean_square(site: Site, tag: str) -> Tensor | None:
        if only is None and tag not in there:
            return None
        seen = other[site].get(only or tag)
        if seen is None or not seen.mass:
            return torch.zeros(site.inputs, dtype=torch.float64)
        return seen.sumsq_I / seen.mass

    return {
        site: {tag: replace(each, against_I=mean_square(site, tag)) for tag, each in seen.items()}
        for site, seen in moments.items()
    }


def mixture_of(policy: str, source: Source, model: str) -> Mixture:
    """The mixture of a step. Raises BadSetting for a share of a language that nothing was seen of.

    Moments may take hours to gather, so this is known first.
    """
    mixed = mixtures.mixture(policy, source.languages, model=model)
    mixtures.check_there(mixed, source.there)
    return mixed
