"""Shrink: choose blocks, press heads and neurons to zeros and cut those out, then channels.

Nothing is cut that is not zero, so what is cut out changes nothing but the order of sums; that is
measured in every run.

Tested in tests/steps/test_shrink.py.
"""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models.accepted import decodes
from babelpress.models.ledger import ledger
from babelpress.models.open import Opened
from babelpress.models.recording import other_text
from babelpress.models.reshaped import META, bare
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.press.blocks import damage_of
from babelpress.press.shrinker import Shrinker, Units
from babelpress.shrink import STRUCTURES, _stream, blocks
from babelpress.shrink import width as channels
from babelpress.shrink._widths import Width, copied, narrowed
from babelpress.steps import _doing, _worth
from babelpress.steps._doing import Pressed
from babelpress.steps._kind import Done, MixtureRow, ModelRow
from babelpress.steps._pressing import some
from babelpress.steps._worth import Looked
from babelpress.steps.shrink import Report, Settings
from babelpress.system.cost import measured
from babelpress.system.offload import Hold
from babelpress.system.progress import Progress
from babelpress.text import mixtures
from babelpress.text.calibration import CalibrationSet
from babelpress.text.draw import draw
from babelpress.text.mixtures import Mixture
from babelpress.text.settings import CalibrationSettings

WIDTHS = ("heads", "ffn")
# Tokens for every input that is fitted: with 2 the fit of babel-mini at --ffn 0.5 gained nothing on
# other text, with 8 most of what it gained with 32.
ENOUGH = 8
LEAST = 0.9  # of the tokens asked for: with fewer the text had no more
# Of the logits' size, in float32: what sums of the same numbers in another order may change.
FAR = 1e-3


@dataclass(slots=True)
class _Found:
    """What a report tells of, as it is found."""

    calibration: dict[str, Any] = field(default_factory=dict)
    mixture: MixtureRow = field(default_factory=MixtureRow)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    worth: dict[str, list[float]] = field(default_factory=dict)
    joined: list[float] = field(default_factory=list)
    stream: dict[str, float] = field(default_factory=dict)
    damage: dict[str, float] = field(default_factory=dict)
    foretold: dict[str, dict[str, float | None]] = field(default_factory=dict)
    sites: list[dict[str, Any]] = field(default_factory=list)
    apart: float = 0.0
    few: str = ""
    notes: list[str] = field(default_factory=list)


def shrink(
    opened: Opened,
    asked: CalibrationSettings,
    settings: Settings,
    folder: Path,
    hold: Hold,
    progress: Progress,
) -> Done:
    """The model with fewer blocks, heads, neurons and channels.

    Raises BadModel or BadSetting before anything is computed where it cannot be made so, BadModel
    where what was cut out changed the model.
    """
    shapes(opened.name, Walk(opened.model), settings)
    was, dense = ModelRow(name=opened.name, fingerprint=weights_hash(opened.model)), _size(opened)
    dropped = [each.name for each in opened.carried]
    found = _Found()
    with measured() as cost:
        drawn = None if settings.moments else draw(opened, asked)
        looked = Looked.of(opened, asked, settings, drawn)
        before = looked.nats(opened.model, progress)
        if settings.blocks:
            assert drawn is not None
            opened = _fewer(opened, settings, drawn, looked, before, found, hold, progress)
        if settings.narrows:
            opened = _narrower(opened, asked, settings, folder, drawn, found, hold, progress)
        if settings.width:
            assert drawn is not None
            opened = _thinner(opened, asked, settings, drawn, found, hold, progress)
        after = looked.nats(opened.model, progress)
    found.notes += [looked.none] if looked.none else []
    opened = replace(opened, carried=())
    size = _size(opened)
    report = Report(
        step=settings.model_dump(mode="json"),
        model=was,
        ledger=size,
        cost=cost,
        parameters=[each["parameters"] for each in (dense, size)],
        bytes=[each["bytes_dense"] for each in (dense, size)],
        nats={tag: [before[tag], after[tag]] for tag in after},
        looked=looked.told(),
        writes=decodes(opened.model.config.to_dict()),
        dropped=dropped,
        **{
            name: getattr(found, name)
            for name in _Found.__slots__
            if name != "foretold" or found.foretold  # which most runs have not
        },
    )
    return Done(report, {}, opened)


def _size(opened: Opened) -> dict[str, Any]:
    index_of = Walk(opened.model).index_of
    return ledger(opened.model, {}, index_of, opened.stored_dtype, carried=opened.carried)


# ---- what there is -------------------------------------------------------------------------


def shapes(name: str, walk: Walk, settings: Settings) -> Walk:
    """The model as it will be, without weights.

    Raises BadModel where a family has no config for it, BadSetting for a size that cannot be had.
    """
    meta = walk.model.device.type == META
    small = walk if meta else Walk(bare(walk.model))
    if settings.blocks:
        _worth.check_predicts(name, walk, settings)
        number = blocks.find(name, small, settings.blocks)
        kept = blocks.chosen(blocks.kinds(small), [0.0] * len(small.blocks), number)
        small = blocks.without(small, kept)
    if settings.narrows:
        small = Walk(_cut(small, _widths(name, small, settings)))
    if settings.width:
        found = channels.find(name, small, settings.width, settings.multiple)
        _stream.check_norms(small.model, found)
        kept_K = torch.arange(found.after, device=META)
        small = Walk(_stream.narrowed(small.model, found, kept_K))
    return small


def _widths(name: str, walk: Walk, settings: Settings) -> list[Width]:
    """The widths that are asked for."""
    found: list[Width] = []
    for each in WIDTHS:
        if asked := getattr(settings, each):
            more = {"multiple": settings.multiple} if each == "ffn" else {}
            found.append(STRUCTURES.get(each)(name, walk, asked, **more))
    return found


def _cut(walk: Walk, widths: list[Width]) -> PreTrainedModel:
    """A model of its own without units whose columns are zero."""
    config, text = copied(walk.model.config)
    for each in widths:
        STRUCTURES.module(each.flag).resize(text, each)
    return narrowed(walk, widths, config)


def method(walk: Walk, name: str, settings: Settings) -> Shrinker:
    """The units of all blocks, and how they are scored."""
    return _method(_widths(name, walk, settings), settings)


def _method(widths: list[Width], settings: Settings) -> Shrinker:
    units: dict[int, dict[str, Units]] = {}
    for width in widths:
        for index, part in enumerate(width.parts):
            own = Units(part.columns_UC, width.kept)
            units.setdefault(index, {})[part.reading] = own
    return Shrinker(
        score=settings.score,
        over=settings.over,
        fit=settings.fit,
        damp=settings.damp,
        units=units,
    )


# ---- what goes -----------------------------------------------------------------------------


def _fewer(
    opened: Opened,
    settings: Settings,
    drawn: CalibrationSet,
    looked: Looked,
    before: dict[str, float],
    found: _Found,
    hold: Hold,
    progress: Progress,
) -> Opened:
    """The model with fewer blocks."""
    walk, asked, tags = Walk(opened.model), str(settings.blocks), list(drawn.blocks)
    mixed = _mixed(opened, settings, tags)
    shared = {tag for tag in tags if mixed.shares.get(tag, 0) > 0}
    worth = _worth.of_blocks(walk, settings, drawn, looked, before, shared, hold, progress)
    joined = _worth.joined_over(worth, mixed.shares, settings)
    number = blocks.find(opened.name, walk, asked)
    kept = blocks.chosen(blocks.kinds(walk), joined, number)
    found.calibration = dict(drawn.manifest)
    found.mixture = MixtureRow.of(mixed, mixed.shares)
    found.sizes["blocks"], found.kept, found.worth = [len(walk.blocks), number], kept, worth
    found.joined = joined
    found.notes += filter(None, [blocks.note(walk, asked, number)])
    with _worth.passed_by(*(each for n, each in enumerate(walk.blocks) if n not in kept)):
        instead = _said(opened.model)
    made = blocks.without(walk, kept).model
    _check_same(
        made,
        instead,
        "some of its blocks are gone than when they pass on what they are given",
        "it tells blocks apart by their places. Leave out --blocks.",
    )
    return replace(opened, model=made)


def _narrower(
    opened: Opened,
    asked: CalibrationSettings,
    settings: Settings,
    folder: Path,
    drawn: CalibrationSet | None,
    found: _Found,
    hold: Hold,
    progress: Progress,
) -> Opened:
    """The model with fewer heads and neurons."""
    walk = Walk(opened.model)
    widths = _widths(opened.name, walk, settings)
    own = _method(widths, settings)
    pressed = _doing.press(
        opened, asked, settings, own, folder, drawn=drawn, hold=hold, progress=progress
    )
    masked = _said(opened.model)
    made = _cut(walk, widths)
    found.apart = _check_same(
        made,
        masked,
        "its zeros are cut out",
        "what reads them is not what it seems. Leave out --heads, or --ffn.",
    )
    found.calibration, found.mixture = pressed.calibration, pressed.mixture
    found.damage, found.sites = damage_of(pressed.sites), _rows(pressed)
    found.foretold = pressed.foretold()
    found.sizes |= {each.flag: [each.before, each.after] for each in widths}
    found.notes += [each.note for each in widths if each.note]
    if settings.fit:
        inputs = _most_inputs(widths)
        found.few = _few_tokens(found.calibration, found.mixture, inputs, asked, settings)
    return replace(opened, model=made)


def _thinner(
    opened: Opened,
    asked: CalibrationSettings,
    settings: Settings,
    drawn: CalibrationSet,
    found: _Found,
    hold: Hold,
    progress: Progress,
) -> Opened:
    """The model with fewer channels."""
    walk, tags = Walk(opened.model), list(drawn.blocks)
    mixed = _mixed(opened, settings, tags)
    own = channels.find(opened.name, walk, str(settings.width), settings.multiple)

    def seen(gram: bool) -> Any:
        return _stream.reads(
            walk, own, drawn.blocks, mixed.shares, gram=gram, hold=hold, progress=progress
        )

    worth = _stream.worth(walk, own, seen(False))
    kept_K = worth.kept(mixed.shares, settings.over, own.after)
    found.sizes["width"] = [own.before, own.after]
    found.calibration, found.mixture = dict(drawn.manifest), MixtureRow.of(mixed, mixed.shares)
    found.stream = worth.left(kept_K)
    found.notes += filter(None, [own.note])
    if own.after == own.before:
        return opened
    fitted: dict[str, Tensor] = {}
    factors: dict[str, float] = {}
    if settings.fit:
        fitted = _stream.fits(walk, own, kept_K, seen(True), settings.damp)
        few = _few_tokens(found.calibration, found.mixture, own.after, asked, settings)
        factors = worth.factors(kept_K, mixed.shares)
        found.few = found.few or few
    masked = _stream.zeroed(walk, own, kept_K, factors, fitted)
    del fitted  # as large as what is made of it
    before = _said(masked)
    made = _stream.cut(masked, own, kept_K)
    apart = _check_same(
        made,
        before,
        "channels that are zero everywhere are cut out",
        "what reads or writes them is not what it seems. Leave out --width.",
    )
    found.apart = max(found.apart, apart)
    return replace(opened, model=_stream.as_stored(opened.model, made))


def _mixed(opened: Opened, settings: Settings, tags: list[str]) -> Mixture:
    """The mixture that was asked for, of these languages."""
    mixed = mixtures.mixture(settings.mixture, tags, model=opened.name)
    mixtures.check_there(mixed, tags)
    return mixed


def _most_inputs(widths: list[Width]) -> int:
    """How many inputs are fitted at most, of a linear."""
    fitted = [each for each in widths if each.kept < each.units]
    return max((each.kept * each.parts[0].columns_UC.shape[1] for each in fitted), default=0)


def _few_tokens(
    calibration: dict[str, Any],
    mixture: MixtureRow,
    inputs: int,
    asked: CalibrationSettings,
    settings: Settings,
) -> str:
    """A line where text is too little for the fit of so many inputs; nothing where it is enough."""
    there = calibration.get("languages", {})
    with_share = [tag for tag, share in mixture.shares.items() if share > 0]
    tokens = sum(int(there.get(tag, {}).get("tokens", 0)) for tag in with_share)
    wanted = ENOUGH * inputs
    if tokens >= wanted:
        return ""
    drawn = len(with_share) * asked.tokens
    if settings.moments:
        more = "Calibrate with more --tokens"
    elif tokens < drawn * LEAST:
        more = f"There is no more text of {some(with_share)}: add languages or another --corpus"
    else:  # the first token of a block does not count, so more are drawn than are fitted on
        each = -(-wanted * asked.tokens // tokens)
        more = f"Give --tokens {-(-each // asked.length) * asked.length} (of each language)"
    return (
        f"{tokens:,} tokens are few to fit {inputs:,} inputs on: other text may gain nothing. "
        f"{more} for {ENOUGH} an input, or leave it out with --no-fit."
    )


def _rows(pressed: Pressed) -> list[dict[str, Any]]:
    """Of every site the share of its output that each language lost."""
    return [
        {
            "block": each.block,
            "site": each.site,
            "damage": {
                tag: part.numerator / max(part.denominator, 1e-30)
                for tag, part in each.damage.items()
            },
        }
        for each in pressed.sites
    ]


@torch.inference_mode()
def _said(model: PreTrainedModel) -> Tensor:
    """What a model makes of a few tokens: logits, or states where it has no head.

    In float32 at least: sums in half precision hide what is wrong.
    """
    if model.dtype.itemsize < torch.float32.itemsize:
        model = deepcopy(model).float()
    ids_1T = other_text(model).to(model.device)
    sides = {"decoder_input_ids": ids_1T} if model.config.is_encoder_decoder else {}
    asked: Any = model
    return asked(ids_1T, use_cache=False, **sides)[0].double().cpu()


def _check_same(made: PreTrainedModel, before: Tensor, when: str, so: str) -> float:
    """How far apart what was said `before` is from what a smaller model says, as a share of it.

    Raises BadModel where that is more than another order of sums explains.
    """
    apart = float((before - _said(made)).norm() / before.norm().clamp(min=1e-30))
    if not apart <= FAR:  # not a number is far
        raise BadModel(
            f"{type(made).__name__} computes something else when {when} (logits {apart:.2g} of "
            f"their size apart), so {so}"
        )
    return apart
