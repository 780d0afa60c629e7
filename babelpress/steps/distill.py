"""Distil a model into a student with fewer layers, which learns what its teacher says.

The student begins with layers of its teacher, or is another model with the same tokenizer.

Of an encoder hidden tokens are scored, of a decoder the next ones, of a model without a head its
states, of one that was fine-tuned its labels.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from babelpress.distill import OBJECTIVES, by_objective
from babelpress.errors import BadSetting
from babelpress.steps._kind import Done, Estimate, StepReport, StepSettings, Told
from babelpress.steps._pressing import provenance, some
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import pairs, setting, words
from babelpress.text.labelled import TASKS, find
from babelpress.text.mixtures import LACKING, MINIMAX, OFFERED
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = (
    "babelpress distill babel-mini --layers 2 --mixture lacking --tokens 65536 --length 128 "
    "--steps 200 --out run"
)
RESUMES = True
STRIDE = "stride"
SHOWN = 8  # languages of a line
ROWS = ("tokens", "evaluation", "count_special")  # settings of text that has no rows
BY_DEFAULT = ("hinton", "hidden")  # the second where the model has no head


class Settings(StepSettings):
    """One distillation."""

    layers: int | None = setting(
        None, "Layers of the student, which begins with so many of its teacher's.", gt=0
    )
    student: str | None = setting(
        None, "A model folder to begin with instead, with the tokenizer of the teacher."
    )
    init: str = setting(
        STRIDE,
        "Which of the teacher's layers it begins with: stride (evenly, first and last among them), "
        "last, first.",
        offers=(STRIDE, "last", "first"),
    )
    objective: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (),
        f"{', '.join(OBJECTIVES.names())}; several, with commas between, are added. By default "
        "hinton, or hidden where the model has no head.",
        offers=OBJECTIVES.names(),
    )
    options: Annotated[dict[str, Any], BeforeValidator(pairs)] = setting(
        {},
        "NAME=VALUE of an objective, as in --option temperature=4.0; may be repeated.",
        flag="option",
    )
    task: str | None = setting(
        None,
        f"{', '.join(TASKS)}: --corpus is labelled text of it, all of whose train rows are used, "
        "and the model has a head for its labels.",
        offers=tuple(TASKS),
    )
    store: str | None = setting(
        None, "A folder of `babelpress write` with labels of the task, learnt from beside it."
    )
    mixture: str = setting(
        "uniform",
        "How languages are drawn: a policy of `babelpress mixture`, or lacking: in proportion to "
        "the student's distance to its teacher, found anew at every evaluation.",
        offers=(*(each for each in OFFERED if each != MINIMAX), LACKING),
    )
    steps: int = setting(1000, "Steps of training.", gt=0)
    batch: int = setting(16, "Token blocks in a step.", gt=0)
    rate: float = setting(2e-4, "Learning rate, which falls to zero.", gt=0, allow_inf_nan=False)
    warmup: float = setting(0.05, "Share of the steps in which the rate rises.", ge=0, lt=1)
    evaluate: int = setting(
        100, "Steps between evaluations on text held apart, and between checkpoints.", gt=0
    )
    embeddings: bool = setting(
        False,
        "Train embeddings too, with a head that is tied to them; else they stay the teacher's.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if (self.layers is None) == (self.student is None):
            raise BadSetting(
                "a student is made with --layers N, or given with --student DIR: one of the two."
            )
        if self.student is not None and self.init != STRIDE:
            raise BadSetting(
                f"--init {self.init} chooses layers of the teacher, for --layers; {self.student} "
                "begins with its own. Leave one of them out."
            )
        if self.mixture == MINIMAX:
            raise BadSetting(
                f"the mixture {MINIMAX} is of pressing. Use {LACKING}, which follows what each "
                "language lacks."
            )
        if self.task is not None:
            find(self.task)
        if self.store is not None and self.task is None:
            raise BadSetting(
                f"--store {self.store} is of a task: name it with --task. Written text without "
                "labels is a corpus, for --corpus."
            )
        for name in self.objective:
            OBJECTIVES.require(name)
        by_objective(self.objective or BY_DEFAULT, self.options)
        return self

    @property
    def unread(self) -> dict[str, str]:
        """How much text is read and what is kept apart: of a task all train rows are read."""
        return dict.fromkeys(ROWS, "--task") if self.task else {}

    def prunes(self, before: frozenset[str]) -> frozenset[str]:  # noqa: ARG002
        """Nothing: all that a student begins with learns."""
        return frozenset()


class Report(StepReport):
    """What was learnt.

    `kept` are the teacher's blocks that the student began with, `objectives` those that were used,
    with their options, `distances` those to the teacher by language at every evaluation, the first
    before any step, in `unit`; `losses` the mean training loss since the evaluation before.
    `apart` is the text that distances were found on, `trained` how many numbers learnt.
    """

    kept: list[int] = Field(default_factory=list)
    layers: list[int] = Field(default_factory=list)  # of student and teacher
    objectives: dict[str, dict[str, Any]] = Field(default_factory=dict)
    distances: list[dict[str, float]] = Field(default_factory=list)
    losses: list[float] = Field(default_factory=list)
    unit: str = ""
    apart: dict[str, Any] = Field(default_factory=dict)
    trained: int = 0
    dropped: list[str] = Field(default_factory=list)

    @property
    def distance(self) -> dict[str, float]:
        """The distances after the last step."""
        return self.distances[-1] if self.distances else {}

    def pruned(self, before: frozenset[str]) -> frozenset[str]:  # noqa: ARG002
        """Nothing: all that a student begins with learns."""
        return frozenset()


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    student = (
        f"a student of {settings.layers} layers ({settings.init})"
        if settings.layers
        else f"the student {settings.student}"
    )
    task = f" of {settings.task}" if settings.task else ""
    learns = f" by {', '.join(settings.objective)}" if settings.objective else ""
    return f"distil {student}{task}{learns} in {settings.steps:,} steps, {settings.mixture}"


def do(
    opened: "Opened",
    calibration: CalibrationSettings,
    settings: Settings,
    folder: Path,
    *,
    hold: "Hold",  # noqa: ARG001 - weights that are trained stay in memory
    progress: Progress = silent,
) -> Done:
    """Train a student; the teacher is only run."""
    from babelpress.steps import _distilling

    return _distilling.distil(opened, calibration, settings, folder, progress)


def tell(report: Report) -> Told:
    """Layers of both, what each language lacked before and lacks now."""
    mine, its = report.layers
    by = ", ".join(report.objectives)
    remarks = [line for name in report.objectives for line in provenance(OBJECTIVES, name)]
    return Told(
        done=f"distil {mine} of {its} layers",
        adjective="distilled",
        means="a smaller student was trained on what its teacher says",
        method=by,
        how=f"{report.step['steps']:,} steps of {report.step['batch']} blocks, {_begun(report)}",
        mixture=report.mixture.policy,
        lines=(
            f"a student of {mine} layers from a teacher of {its}, {by}: {report.trained:,} numbers "
            f"trained in {report.step['steps']:,} steps.",
            _distances(report),
            *report.apart.get("notes", ()),
        ),
        warnings=tuple(_lost(report)),
        remarks=(_distances(report), *remarks),
        limits=(
            "Distance to the teacher is no score: what the student can do is known from an "
            "evaluation on text of tests.",
        ),
        relation="finetune",
    )


def _begun(report: Report) -> str:
    """What the student began as."""
    if not report.kept:
        return f"begun as {report.step['student']}"
    return f"begun as layers {', '.join(str(index + 1) for index in report.kept)}"


def _distances(report: Report) -> str:
    """The distance of each language before and after, those that lack most first."""
    first, last = report.distances[0], report.distance
    order = sorted(last, key=lambda tag: -last[tag])
    named = [f"{tag} {first[tag]:.3g} to {last[tag]:.3g}" for tag in order[:SHOWN]]
    more = f" and {len(order) - SHOWN} languages more" * (len(order) > SHOWN)
    return f"distance to the teacher, {report.unit}: {', '.join(named)}{more}."


def _lost(report: Report) -> list[str]:
    """Languages that are further from the teacher than before, and tensors that a student lacks."""
    first, last = report.distances[0], report.distance
    further = [tag for tag in last if last[tag] > first[tag]]
    lines = []
    if further:
        lines.append(
            f"Further from the teacher than before: {some(further)}. Lower --rate, or give more "
            "text or steps."
        )
    if report.dropped:
        lines.append(
            f"Tensors beside the teacher's model that the student lacks: {some(report.dropped)}."
        )
    return lines


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What distilling will take, from one step that is tried."""
    from babelpress.steps import _distilling

    return _distilling.estimate(trial, settings, chained=chained)
