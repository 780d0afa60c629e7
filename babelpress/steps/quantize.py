"""Quantize a model in one step. Of a pruned model every zero stays exactly zero.

The run keeps integers, scales and zero points in codes/, which `babelpress export` packs, and in
model/ the weights that they stand for.

Tested in tests/steps/test_step.py.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from babelpress import allocate
from babelpress.errors import BadSetting
from babelpress.models.gguf_header import KINDS
from babelpress.numerics.notation import check_grid
from babelpress.quantize import QUANTIZERS
from babelpress.steps import _by_table
from babelpress.steps._kind import Done, Estimate, Told
from babelpress.steps._pressing import (
    PressingReport,
    check_options,
    check_scorable,
    check_scored,
    expert_lines,
    fed_by,
    provenance,
    reads_gram,
    some,
    spoken,
)
from babelpress.steps._rounds import rounds_line, rounds_tables
from babelpress.system.progress import Progress, remark, silent
from babelpress.system.settings import pairs, setting
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk
    from babelpress.numerics.grids import Grid
    from babelpress.press.method import Method
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = "babelpress quantize babel-mini --method gptq --bits 4 --group 64 --out run"
LAST = "codes cannot be pressed again"
EIGHT = "8bit"
OUTSIDE = ("token_embd", "output")  # matrices of a GGUF file that lie in no block


UNIFORM = "uniform"
RULES = (UNIFORM, *filter(allocate.by_table, allocate.RULES.names()))  # those of bits


def _group(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _by_block(value: Any) -> Any:
    """Bits by block: a mapping, or the YAML file that one is in."""
    return allocate.bits_by_block(value)


class Settings(_by_table.AllocatingSettings):
    """One quantization step: the last one of a recipe."""

    method: str = setting("gptq", f"{', '.join(QUANTIZERS.names())}.", offers=QUANTIZERS.names())
    bits: int = setting(4, "2, 3, 4 or 8 for a weight.")
    group: Annotated[int | str, BeforeValidator(_group)] = setting(
        128, "How many inputs of a row share a scale, or channel for the whole row."
    )
    symmetric: bool = setting(
        True,
        "Zero in the middle of the grid, or a zero point for every group.",
        negative="asymmetric",
    )
    clip: str = setting(
        "mse",
        "mse, the range of a group that has the least squared error, or none.",
        offers=("mse", "none"),
    )
    keep_zeros: bool = setting(True, "Leave weights that are zero exactly zero.")
    embeddings: Literal["dense", "8bit"] = setting(
        "dense", "dense, or 8bit: embedding and head at eight bits too (export takes it to gguf)."
    )
    bits_by_block: Annotated[dict[int, int], BeforeValidator(_by_block)] = setting(
        {}, "YAML file with other bits for some blocks, as in 0: 8, one block a line."
    )
    allocate: str = setting(
        UNIFORM,
        f"How many bits each block gets, {' or '.join(RULES)}; in all no more than --bits in each.",
        offers=RULES,
    )
    allocation: Annotated[dict[str, Any], BeforeValidator(pairs)] = setting(
        {}, "NAME=VALUE of the rule that allocates; may be repeated.", flag="allocate-option"
    )

    @model_validator(mode="after")
    def _options(self) -> "Settings":
        check_options(QUANTIZERS, self.method, self.options)
        for bits in (self.bits, *self.bits_by_block.values()):
            check_grid(bits, self.group, self.clip)
        check_options(allocate.RULES, self.allocate, self.allocation)
        if self.allocate not in RULES:
            raise BadSetting(
                f"{self.allocate} says how many weights of a block go, not how many bits it gets. "
                f"Use --allocate {' or '.join(RULES)}."
            )
        if self.allocate != UNIFORM and self.bits_by_block:
            raise BadSetting(
                f"--bits-by-block and --allocate {self.allocate} both say what blocks get. Leave "
                "one of them out."
            )
        _by_table.check(self.allocate, self.allocation, bits=self.bits)
        return self

    @property
    def needs_gram(self) -> bool:
        """Whether the method reads Gram matrices."""
        return reads_gram(QUANTIZERS, self.method)

    @property
    def grid(self) -> "Grid":
        """The grid of the linears. Raises BadSetting."""
        return self.grid_of(self.bits)

    def grid_of(self, bits: int) -> "Grid":
        """The same grid with other bits."""
        from babelpress.numerics.grids import Grid

        return Grid(bits, self.group, self.symmetric, self.clip)


class Report(PressingReport):
    """`grid` in words; `unfolded` are sites whose scales no layer before them can take."""

    grid: str = ""
    unfolded: list[str] = Field(default_factory=list)

    def pruned(self, before: frozenset[str]) -> frozenset[str]:
        """What was pruned before: an integer that stands for zero is no pruning."""
        return before


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    rule = "" if settings.allocate == UNIFORM else f", by block as {settings.allocate} says"
    return f"{settings.method} {_words(settings)}{rule}, {settings.mixture}"


def method(settings: Settings) -> "Method":
    """The method with its options and grid."""
    from dataclasses import replace

    from babelpress.press.method import Quantizer

    plain = Quantizer.of(
        settings.method,
        settings.grid,
        settings.options,
        settings.skip,
        keep_zeros=settings.keep_zeros,
        min_tokens=settings.min_tokens,
    )
    grids = {block: settings.grid_of(bits) for block, bits in settings.bits_by_block.items()}
    return replace(plain, grids=grids)


def check(name: str, walk: "Walk", settings: Settings) -> None:
    """Raise BadLayer, BadModel or BadSetting where a model cannot be quantized so: from shapes."""
    from babelpress.press import fitting

    _by_table.check_model(name, walk, settings.allocate)
    last = len(walk.blocks) - 1
    if wrong := [block for block in settings.bits_by_block if block > last]:
        raise BadSetting(f"there is no block {wrong[0]}: those of {name} are 0 to {last}.")
    fitting.check(walk, method(settings))
    check_scored(name, walk, settings)


def check_text(opened: "Opened", calibration: CalibrationSettings, settings: Settings) -> None:
    """Raise BadCorpus or BadSetting where text is to be held out, and there is none."""
    check_scorable(opened, calibration, settings)


def do(
    opened: "Opened",
    calibration: CalibrationSettings,
    settings: Settings,
    folder: Path,
    *,
    hold: "Hold",
    progress: Progress = silent,
) -> Done:
    """Quantize a model in place; its codes go into the folder."""
    from babelpress.press.embeddings import quantize_tables
    from babelpress.steps import _doing

    for line in _again(opened.lies_on, settings.bits):
        remark(progress, f"warning: {line}")
    chooser = _by_table.chooser(opened, calibration, settings, folder, hold, progress)
    pressed = _doing.press(
        opened,
        calibration,
        settings,
        method(settings),
        folder,
        seen=chooser.look if chooser else None,
        allocate=chooser.allocate if chooser else None,
        tables=quantize_tables if settings.embeddings == EIGHT else None,
        hold=hold,
        progress=progress,
    )
    own: dict[str, Any] = {"table": chooser.told} if chooser and chooser.told else {}
    grid = _words(settings, own.get("table"))
    return pressed.done(Report, grid=grid, unfolded=pressed.unfolded(), **own)


def _words(settings: Settings, table: Mapping[str, Any] | None = None) -> str:
    other = {str(block): bits for block, bits in settings.bits_by_block.items()}
    if table:
        got = _by_table.names(table)
        other = {str(block): bits for block, bits in got.items() if bits != settings.bits}
    named = ", ".join(f"{bits} bits in block {block}" for block, bits in other.items())
    return f"{settings.grid}; {named}" if named else str(settings.grid)


def tell(report: Report) -> Told:
    """Method and grid; sites whose scales could not be folded are named."""
    step = report.step
    rule = step.get("allocate", UNIFORM)
    by = "" if rule == UNIFORM else f"by block as {rule} says"
    lines = [f"{step['method']} at {report.grid}: {report.weights:,} weights."]
    if report.were_zero and step.get("keep_zeros"):
        lines.append(f"{report.were_zero:,} pruned ones are still exactly zero.")
    remarks = provenance(QUANTIZERS, step["method"])
    if report.unfolded:
        lines.append(f"Not scaled, for no layer before can: {some(report.unfolded)}.")
        remarks += (
            "the scales of these sites could not be folded into a layer before them, so they have "
            f"the plain grid: {', '.join(report.unfolded)}.",
        )
    eight = "embedding and head at 8 bits" if step.get("embeddings") == EIGHT else ""
    rounds = rounds_line(report)
    return Told(
        done=f"{step['method']} {report.grid}",
        adjective="quantized",
        means="its weights are rounded to the few values that so many bits can name",
        method=step["method"],
        how=spoken(step, report.grid, by, eight),
        mixture=report.mixture.policy,
        fed_by=fed_by(step),
        left_out=", ".join(step.get("skip", ())),
        lines=(" ".join(lines), *rounds, *_by_table.lines(rule, report.table)),
        warnings=(
            *expert_lines(report.experts),
            *_again(report.model.lies_on, report.step.get("bits", 0)),
        ),
        remarks=(*remarks, *rounds),
        relation="quantized",
        note=(
            "A quantized model was measured with its weights unpacked.",
            "An engine that loads the packed file computes with the same weights, and rounds in "
            "its own way; how fast it is depends on the engine.",
        ),
        listings=(
            *rounds_tables(report),
            *_by_table.listings(rule, report.table, "bits"),
        ),
    )


def _again(lies_on: Mapping[str, Mapping[str, int]], bits: int) -> list[str]:
    """A warning where matrices of a GGUF file are rounded already, to no more bits than these."""
    counted: Counter[str] = Counter()
    for part, found in lies_on.items():
        if part not in OUTSIDE:
            counted.update(found)
    kinds = {each.name: each for each in KINDS.values() if each.bits}
    coarse = {name: kinds[name] for name in counted if name in kinds and kinds[name].bits <= bits}
    if not coarse:
        return []
    named = ", ".join(
        f"{counted[name]} {name} ({each.bits} bits{f', group {each.group}' if each.group else ''})"
        for name, each in coarse.items()
    )
    return [
        f"this GGUF file is quantized already: of its {counted.total()} matrices in blocks "
        f"{named}. Losses are measured against the file, so what {bits} bits cost the model that "
        "it was made of is not seen: give that model to see it."
    ]


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What quantizing will take."""
    from babelpress.steps import _estimating

    eight = settings.embeddings == EIGHT
    found = _estimating.pressing(trial, settings, method(settings), tables=eight, chained=chained)
    return _by_table.estimated(found, trial, settings)
