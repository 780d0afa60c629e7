"""Prune a model in one step. Kept zeros are exact; embeddings and head are left alone.

Tested in tests/steps/test_step.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from babelpress import allocate
from babelpress.errors import BadSetting
from babelpress.numerics import notation
from babelpress.prune import PRUNERS
from babelpress.steps import _by_table, _protecting
from babelpress.steps._kind import BLOCKS, Done, Estimate, Told
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
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import pairs, setting
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk
    from babelpress.press.method import Pruner
    from babelpress.steps._estimating import Trial
    from babelpress.steps._looking import Source
    from babelpress.system.offload import Hold

EXAMPLE = "babelpress prune babel-mini --method wanda --pattern 0.5 --mixture uniform --out run"
PERMUTED = (
    "the neurons of its MLPs, and what attention values are made of inside heads, stand in another "
    "order than in the model before, which computes the same: their numbers are others."
)


def _pattern(value: Any) -> str:
    return notation.written(str(value))


def _contrasting() -> list[str]:
    """The methods that make a contrast with a second text."""
    return [name for name in PRUNERS.names() if "against" in PRUNERS.facts(name).get("READS", ())]


def _check_contrast(method: str, against: str | None, propagate: str) -> None:
    """Raise BadSetting for a contrast without a second text, and the other way round."""
    contrasting = _contrasting()
    if against is None and method in contrasting:
        raise BadSetting(
            f"{method} makes a contrast between two texts: give the moments of what to keep with "
            "--moments, and of what to hold against it with --against."
        )
    if against is not None and method not in contrasting:
        raise BadSetting(
            f"{method} makes no contrast with {against}. Drop --against, or use --method "
            f"{' or '.join(contrasting)}."
        )
    if against is not None and propagate != "dense":
        raise BadSetting(
            "moments of --against are of the dense model: use --propagate dense, or leave it out."
        )


class Settings(_by_table.AllocatingSettings):
    """One pruning step."""

    method: str = setting("wanda", f"{', '.join(PRUNERS.names())}.", offers=PRUNERS.names())
    pattern: Annotated[str, BeforeValidator(_pattern)] = setting(
        "0.5",
        "0.5 (of every row), 0.5/layer, 0.5/128 (of every 128 columns), 2of4 (keep 2).",
        offers=("0.5", "0.5/layer", "0.5/128", "2of4"),
    )
    allocate: str = setting(
        "uniform",
        f"How much each block gives, the same in all: {', '.join(allocate.RULES.names())}.",
        offers=allocate.RULES.names(),
    )
    allocation: Annotated[dict[str, Any], BeforeValidator(pairs)] = setting(
        {}, "NAME=VALUE of the rule that allocates; may be repeated.", flag="allocate-option"
    )

    protect: Annotated[dict[str, Any], BeforeValidator(_protecting.read)] = setting(
        {},
        "File of neurons, features and sites that are not pruned, or used:LANGUAGE:SHARE: others "
        "go in their place.",
    )
    against: str | None = setting(
        None,
        f"A second moments folder, of text that shall not matter: for {', '.join(_contrasting())}; "
        "propagate is dense.",
    )

    @model_validator(mode="before")
    @classmethod
    def _beside(cls, data: Any) -> Any:
        """A contrast is made between moments of the dense model."""
        if isinstance(data, Mapping) and data.get("against") and not data.get("propagate"):
            return {**data, "propagate": "dense"}
        return data

    @model_validator(mode="after")
    def _options(self) -> "Settings":
        check_options(PRUNERS, self.method, self.options)
        notation.check_permute(self.method, self.options, self.pattern)
        check_options(allocate.RULES, self.allocate, self.allocation)
        _by_table.check(self.allocate, self.allocation, pattern=self.pattern)
        _check_contrast(self.method, self.against, self.propagate)
        if self.against is not None and self.against == self.moments:
            raise BadSetting(
                f"--moments and --against are both {self.against}: a text makes no contrast with "
                "itself. Name moments of other text with --against."
            )
        _protecting.protected(self.protect)
        return self

    @property
    def looks_twice(self) -> bool:
        """Minimax does, and every rule that looks at blocks."""
        return super().looks_twice or self.allocate != "uniform"

    @property
    def needs_gram(self) -> bool:
        """Whether the method reads Gram matrices."""
        return reads_gram(PRUNERS, self.method)

    def prunes(self, before: frozenset[str]) -> frozenset[str]:
        """The blocks."""
        return before | {BLOCKS}


class Report(PressingReport):
    """`allocated` are the shares of each block that went, where a rule gave blocks their own.

    `against` is the text that a contrast was made with, as `calibration` is the other. `unpermuted`
    are the sites whose inputs stayed in order where a method was to permute them.
    """

    allocated: list[float] = Field(default_factory=list)
    against: dict[str, Any] = Field(default_factory=dict)
    unpermuted: list[str] = Field(default_factory=list)


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    rule = "" if settings.allocate == "uniform" else f", by block as {settings.allocate} says"
    against = "" if settings.against is None else f"against {settings.against}"
    parts = (f"{settings.method} {settings.pattern}{rule}", settings.mixture, against)
    return ", ".join(filter(None, (*parts, _protecting.words(settings.protect))))


def method(settings: Settings) -> "Pruner":
    """The method with its options and pattern; what is protected is known with the model only."""
    from babelpress.press.method import Pruner

    return Pruner.of(
        settings.method,
        settings.pattern,
        settings.options,
        settings.skip,
        min_tokens=settings.min_tokens,
    )


def check(name: str, walk: "Walk", settings: Settings) -> None:
    """Raise BadLayer, BadModel or BadSetting where a model cannot be pruned so: from its shapes."""
    from babelpress.press import fitting

    _by_table.check_model(name, walk, settings.allocate)
    fitting.check(walk, _protecting.protected(settings.protect).within(method(settings), walk))
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
    """Prune a model in place."""
    from babelpress.models.walk import Walk
    from babelpress.steps import _allocating, _doing, _looking

    rule = _allocating.Rule(settings.allocate, settings.allocation)
    protected = _protecting.protected(settings.protect)
    chooser = _by_table.chooser(opened, calibration, settings, folder, hold, progress)

    def seen(source: "Source") -> None:
        protected.check_languages(source.there)
        if chooser:
            chooser.look(source)

    pressed = _doing.press(
        opened,
        calibration,
        settings,
        protected.within(method(settings), Walk(opened.model)),
        folder,
        against=settings.against,
        seen=seen,
        allocate=chooser.allocate if chooser else rule.allocate if rule.differs else None,
        hold=hold,
        progress=progress,
    )
    own: dict[str, Any] = {"allocated": _allocating.shares(pressed)} if rule.differs else {}
    if chooser and chooser.told:
        own["table"] = chooser.told
    if settings.against is not None:
        own["against"] = _looking.text_of(settings.against)
    if found := pressed.unordered():
        own["unpermuted"] = found
    return pressed.done(Report, **own)


def tell(report: Report) -> Told:
    """Method and pattern; zeros make nothing faster."""
    step = report.step
    name, pattern, rule = step["method"], step["pattern"], step.get("allocate", "uniform")
    by = "" if rule == "uniform" else f"by block as {rule} says"
    return Told(
        done=f"{name} {pattern}",
        adjective="pruned",
        means="a share of the weights in its blocks is set to zero, the rest stays or is fitted",
        method=name,
        how=spoken(step, pattern, by, _against(report), _protecting.words(step.get("protect", {}))),
        mixture=report.mixture.policy,
        fed_by=fed_by(step),
        left_out=", ".join(step.get("skip", ())),
        lines=(
            f"{name} {pattern}: {report.zeros:,} of {report.weights:,} weights are zero.",
            *rounds_line(report),
            *_no_room(report, rule),
            *_permuted(report),
            *_by_table.lines(rule, report.table),
        ),
        warnings=tuple(expert_lines(report.experts)),
        remarks=(
            *provenance(PRUNERS, name),
            *provenance(allocate.RULES, rule),
            *rounds_line(report),
            *((PERMUTED,) if step.get("options", {}).get("permute") else ()),
        ),
        limits=("Speed: the zeros lie in an ordinary dense file, and make nothing faster.",),
        note=(
            "Zeros alone make nothing faster.",
            "A sparse model is an ordinary dense file of the same size, and mainstream engines run "
            "it at the same speed. Speed and size come from quantization, vocabulary trimming, "
            "structural pruning and distillation.",
        ),
        listings=(
            *rounds_tables(report),
            *_by_table.listings(
                rule, report.table, "share of its weights that went", _allocated(report)
            ),
        ),
    )


def _against(report: Report) -> str:
    """The text that a contrast was made with."""
    text = report.against
    return f"against {text['corpus']} in {some([*text['languages']])}" if text else ""


def _no_room(report: Report, rule: str) -> list[str]:
    """What is to be said where a rule had nothing to choose from, as with 1of4."""
    if not report.allocated or report.table or len(set(report.allocated)) > 1:
        return []
    pattern = report.step["pattern"]
    return [f"{rule} gave every block the same: {pattern} has too few counts to choose from."]


def _allocated(report: Report) -> dict[int, float]:
    """The share of each block that went."""
    blocks = sorted({row["block"] for row in report.sites})
    return dict(zip(blocks, report.allocated, strict=True)) if report.allocated else {}


def _permuted(report: Report) -> list[str]:
    """The sites that no layer before could put in order."""
    if not report.unpermuted:
        return []
    return [f"Not permuted, for no layer before can: {some(report.unpermuted)}."]


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What pruning will take."""
    from babelpress.steps import _estimating

    found = _estimating.pressing(
        trial, settings, method(settings), against=settings.against, chained=chained
    )
    return _by_table.estimated(found, trial, settings)
