"""Repair a pressed model: what is left of it learns to do what the dense one does.

Zeros stay zeros, integers stay on their grid, and shapes stay: an export goes on as
before. Languages are drawn alike, by a mixture, or by what each lacks.

Repairs: logits (the whole model learns what the dense one says), blocks (every
attention and MLP by itself, for models larger than memory), rounding (integers of
a quantized model), text (no dense model: the control of a table).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from babelpress.errors import BadSetting
from babelpress.recover import REPAIRS
from babelpress.steps._apart import Apart
from babelpress.steps._kind import Done, Estimate, StepSettings, Told
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import setting
from babelpress.text.mixtures import LACKING, OFFERED, WHILE_PRESSING
from babelpress.text.settings import CalibrationSettings
from babelpress.train import WATCHED

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = (
    "babelpress recover run --mixture lacking --tokens 65536 --length 256 --steps 200 --out mended"
)
RESUMES = True
GOES_ON = True
DENSE = True
LOW_RANK = "low-rank"
TUNED = ("weights", "norms", LOW_RANK)
BESIDE, KEPT = TEACHERS = ("beside", "kept")
OF_WHOLE = ("minutes", "patience", "teacher", "embeddings", "watch", "warmup", "evaluate")


class Settings(StepSettings):
    """One repair."""

    against: str | None = setting(
        None,
        "The dense model: a folder, a hub id or a run; by default the one that the run began with.",
    )
    repair: str = setting("logits", f"{', '.join(REPAIRS.names())}.", offers=REPAIRS.names())
    tune: str | None = setting(
        None,
        "What learns: weights (all that were not pruned, norms and biases; of a quantized model "
        "norms and biases), norms (these alone), low-rank (these, and an update of each matrix "
        "that becomes a part of it). By default weights.",
        offers=TUNED,
    )
    mixture: str = setting(
        "uniform",
        "How languages are drawn: a policy of `babelpress mixture`, or lacking: by what each loses "
        "against the dense model on text held apart, found anew at every evaluation.",
        offers=(*(each for each in OFFERED if each not in WHILE_PRESSING), LACKING),
    )
    radius: float = setting(
        0.1,
        "How far lacking may go from even shares: half the mean squared relative difference.",
        ge=1e-6,
        allow_inf_nan=False,
    )
    steps: int = setting(200, "Steps of training; of blocks and rounding for every block.", gt=0)
    minutes: float | None = setting(
        None,
        "Stop after so many minutes, if that is sooner: the rate falls by the clock, and two such "
        "runs are not the same.",
        gt=0,
        allow_inf_nan=False,
    )
    batch: int = setting(
        6144,
        "Tokens in a step; a step has one token block at least, of blocks and rounding four of a "
        "language, which are read together.",
        gt=0,
    )
    rate: float | None = setting(
        None,
        "Learning rate, which falls to zero as a cosine, of blocks and rounding in a line; by "
        "default that of the repair and of what learns.",
        gt=0,
        allow_inf_nan=False,
    )
    warmup: float = setting(0.05, "Share of the steps in which the rate rises.", ge=0, lt=1)
    evaluate: int = setting(
        25, "Steps between evaluations on text held apart, and between checkpoints.", gt=0
    )
    patience: int = setting(
        0, "Stop where so many evaluations in a row were no better; 0 never stops.", ge=0
    )
    watch: str = setting(
        "worst",
        "Which loss is watched, to keep what did best and to stop: of the worst language, or the "
        "mean of all.",
        offers=WATCHED,
    )
    teacher: str = setting(
        BESIDE,
        "The dense model stays in memory beside, or is run once and what it says of all text is "
        "kept on disk.",
        offers=TEACHERS,
    )
    top: int = setting(64, "Tokens of the vocabulary that are kept of what it says.", gt=0)
    rank: int = setting(8, "Rank of the updates of low-rank.", gt=0)
    embeddings: bool = setting(
        False, "Embeddings and head learn too; else they stay, and with them their rows."
    )

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        REPAIRS.require(self.repair)
        for name, allowed in (("tune", TUNED), ("teacher", TEACHERS), ("watch", WATCHED)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise BadSetting(f"--{name} {value} is none of {', '.join(allowed)}.")
        if self.mixture in WHILE_PRESSING:
            raise BadSetting(
                f"the mixture {self.mixture} is of pressing. Use {LACKING}, which follows what "
                "each language lacks."
            )
        if self.tune is not None and self.grids:
            raise BadSetting(
                f"--tune {self.tune} has no effect with --repair {self.repair}, which changes the "
                "integers alone. Leave it out, or use --repair logits."
            )
        if self.teacher == KEPT and self.repair != "logits":
            raise BadSetting(
                f"--teacher {KEPT} is for --repair logits: {self.repair} does not learn what a "
                "dense model says. Leave it out."
            )
        for name in OF_WHOLE:
            if self.by_block and self._given(name):
                raise BadSetting(
                    f"--{name} has no effect with --repair {self.repair}, which goes block by "
                    "block. Leave it out, or use --repair logits."
                )
        for name, does, what in (
            ("top", self.teacher == KEPT, f"--teacher {KEPT}"),
            ("rank", self.tune == LOW_RANK, f"--tune {LOW_RANK}"),
            ("radius", self.mixture == LACKING, f"--mixture {LACKING}"),
        ):
            if self._given(name) and not does:
                raise BadSetting(f"--{name} has no effect without {what}. Give both or none.")
        return self

    def _given(self, name: str) -> bool:
        """Whether a setting is another one than by default."""
        return getattr(self, name) != type(self).model_fields[name].default

    @property
    def by_block(self) -> bool:
        """Whether blocks learn one after the other."""
        return REPAIRS.facts(self.repair)["OF"] == "parts"

    @property
    def grids(self) -> bool:
        """Whether integers are learnt."""
        return bool(REPAIRS.facts(self.repair).get("GRIDS"))

    @property
    def learns(self) -> str:
        """What learns."""
        return "integers" if self.grids else self.tune or TUNED[0]

    def first_rate(self, learns: str) -> float:
        """The learning rate for what learns: of integers half a step is gone in all steps."""
        if self.rate is not None:
            return self.rate
        return 1 / self.steps if self.grids else REPAIRS.facts(self.repair)["RATES"][learns]


class Report(Apart):
    """What was repaired.

    The reference is the dense model. `learnt` is what learnt, at a top `rate`; `zeros` are how many
    stayed zero, `coded` how many weights stay on a grid and `moved` how many of their integers are
    others. Block by block, `parts` are the errors of every block before and after, and `read` the
    tokens that each block read, of all languages together.
    """

    learnt: str = ""
    rate: float = 0.0
    zeros: int = 0
    coded: int = 0
    moved: int = 0
    parts: list[dict[str, float]] = Field(default_factory=list)

    @property
    def distance(self) -> dict[str, float]:
        """What each language still loses on text held apart, as a share of the dense loss."""
        return self.lacks(self.best) if self.losses_apart else {}

    def pruned(self, before: frozenset[str]) -> frozenset[str]:
        """What was pruned before: its zeros stay."""
        return before


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    against = f" against {settings.against}" if settings.against else ""
    each = " of each block" if settings.by_block else ""
    return (
        f"recover by {settings.repair}{against}: {settings.learns} learn in {settings.steps:,} "
        f"steps{each} of {settings.batch:,} tokens, {settings.mixture}"
    )


def follows(settings: Settings, before: Sequence[tuple[str, Any]]) -> None:
    """Raise BadSetting where it cannot come after the steps `before` it in a recipe."""
    if settings.against or not settings.by_block:
        return
    shrunk = [each for kind, each in before if kind == "shrink"]
    if any(each.blocks or each.width or (settings.grids and each.narrows) for each in shrunk):
        raise BadSetting(
            f"recover by {settings.repair} cannot come after shrink: it holds each block against "
            "one of the dense model, and those have other shapes. Use --repair logits."
        )


def do(
    opened: "Opened",
    calibration: CalibrationSettings,
    settings: Settings,
    folder: Path,
    *,
    hold: "Hold",
    progress: Progress = silent,
) -> Done:
    """Repair a model in place."""
    from babelpress.steps import _recovering

    return _recovering.recover(opened, calibration, settings, folder, hold, progress)


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What a repair will take, from steps that are tried."""
    from babelpress.steps import _recovering

    return _recovering.estimate(trial, settings, chained=chained)


def tell(report: Report) -> Told:
    """What each language lost before and loses now."""
    from babelpress.steps import _repaired

    return _repaired.tell(report)
