"""Distil a model into a smaller student, which learns what its teacher says.

The student begins with layers of its teacher, with fewer neurons, heads or channels too (it is
shrunk first), or is another model with the same tokenizer. Without any of these the model is the
student, a run that was shrunk, and its teacher is the model that the run began with.

Of an encoder hidden tokens are scored, of a decoder the next ones, of a model without a head its
states, of one that was fine-tuned its labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from babelpress.distill import OBJECTIVES, by_objective
from babelpress.errors import BadModel, BadSetting
from babelpress.steps._apart import Apart
from babelpress.steps._kind import Done, Estimate, StepSettings, Told
from babelpress.steps.shrink import MULTIPLE, Size
from babelpress.steps.shrink import Settings as Shrinking
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import pairs, setting, words
from babelpress.text.labelled import TASKS, find
from babelpress.text.mixtures import LACKING, OFFERED, WHILE_PRESSING
from babelpress.text.settings import CalibrationSettings
from babelpress.train import WATCHED

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = (
    "babelpress distill babel-mini --layers 2 --width 0.75 --mixture lacking --tokens 65536 "
    "--length 128 --steps 200 --out run"
)
RESUMES = True
DENSE = True
STRIDE, INFLUENCE, RANDOM = "stride", "influence", "random"
BY_PLACE = (STRIDE, "last", "first")
SIZES = ("ffn", "heads", "width")
ROWS = ("tokens", "evaluation", "count_special")  # settings of text that has no rows
BY_DEFAULT = ("hinton", "hidden")  # the second where the model has no head


class Settings(StepSettings):
    """One distillation."""

    layers: int | None = setting(
        None, "Layers of the student, which begins with so many of its teacher's.", gt=0
    )
    ffn: Size = setting(None, "Neurons of the student, a share or a number, as `shrink --ffn`.")
    heads: Size = setting(None, "Attention heads of the student, as `shrink --heads`.")
    width: Size = setting(None, "Channels of the student's hidden size, as `shrink --width`.")
    multiple: int = setting(
        MULTIPLE, "Neurons and channels are rounded down to a multiple, as of `shrink`.", gt=0
    )
    student: str | None = setting(
        None, "A model folder to begin with instead, with the tokenizer of the teacher."
    )
    against: str | None = setting(
        None,
        "The teacher of a model that is a student already: a folder, a hub id or a run; by default "
        "the one that the run began with.",
    )
    init: str | None = setting(
        None,
        "What it begins with: layers of the teacher by place, stride (evenly, first and last among "
        "them), last or first; by influence, what each is worth to every language, as with --ffn, "
        "--heads or --width; or random, nothing of the teacher but its shapes: a control. By "
        "default stride of --layers alone, else influence.",
        offers=(*BY_PLACE, INFLUENCE, RANDOM),
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
        "How languages are drawn: a policy of `babelpress mixture`, or lacking: by what each loses "
        "against the teacher on text held apart, found anew at every evaluation.",
        offers=(*(each for each in OFFERED if each not in WHILE_PRESSING), LACKING),
    )
    radius: float = setting(
        0.1,
        "How far lacking may go from even shares: half the mean squared relative difference.",
        ge=1e-6,
        allow_inf_nan=False,
    )
    steps: int = setting(1000, "Steps of training.", gt=0)
    batch: int = setting(16, "Token blocks in a step.", gt=0)
    rate: float = setting(2e-4, "Learning rate, which falls to zero.", gt=0, allow_inf_nan=False)
    warmup: float = setting(0.05, "Share of the steps in which the rate rises.", ge=0, lt=1)
    evaluate: int = setting(
        100, "Steps between evaluations on text held apart, and between checkpoints.", gt=0
    )
    patience: int = setting(
        0, "Stop where so many evaluations in a row were no better; 0 never stops.", ge=0
    )
    watch: str = setting(
        WATCHED[0],
        "Which loss is watched, to keep what did best and to stop: of the worst language, or the "
        "mean of all.",
        offers=WATCHED,
    )
    embeddings: bool = setting(
        False,
        "Train embeddings too, with a head that is tied to them; else they stay the teacher's. Of "
        "a student that was made narrower, or begins at random, they always learn.",
    )

    @model_validator(mode="before")
    @classmethod
    def _begun(cls, given: Any) -> Any:
        """Say what a student begins with where that was left out.

        Older recipes say stride of a --student too, which has its own layers.
        """
        if not isinstance(given, Mapping):
            return given
        init, sized = given.get("init"), any(given.get(each) is not None for each in SIZES)
        if init is None and sized:
            init = INFLUENCE
        elif init is None and given.get("layers") is not None:
            init = STRIDE
        elif init == STRIDE and given.get("student") is not None:
            init = None
        return {**given, "init": init}

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        self._check_student()
        if self.watch not in WATCHED:
            raise BadSetting(f"--watch {self.watch} is none of {', '.join(WATCHED)}.")
        if self.radius != type(self).model_fields["radius"].default and self.mixture != LACKING:
            raise BadSetting(
                f"--radius has no effect without --mixture {LACKING}. Give both or none."
            )
        if self.mixture in WHILE_PRESSING:
            raise BadSetting(
                f"the mixture {self.mixture} is of pressing. Use {LACKING}, which follows what "
                "each language lacks."
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

    def _check_student(self) -> None:
        """Raise BadSetting where what a student begins as does not fit together."""
        sizes = [each for each in ("layers", *SIZES) if getattr(self, each) is not None]
        if self.init not in (None, *BY_PLACE, INFLUENCE, RANDOM):
            raise BadSetting(
                f"no way to begin a student is called '{self.init}'. Use "
                f"{', '.join((*BY_PLACE, INFLUENCE, RANDOM))}."
            )
        if self.student is not None and sizes:
            raise BadSetting(
                f"a student is made with --{sizes[0]}, or given with --student DIR: one of the two."
            )
        if self.student is not None and self.init is not None:
            raise BadSetting(
                f"--init {self.init} is for a student that is made of the teacher; {self.student} "
                "begins with its own layers. Leave one of them out."
            )
        if self.init in BY_PLACE and (sizes != ["layers"]):
            raise BadSetting(
                f"--init {self.init} chooses layers by their place, for --layers alone. Leave it "
                "out, or the other sizes."
            )
        if self.init == INFLUENCE and not sizes:
            raise BadSetting(
                f"--init {INFLUENCE} chooses what stays of the teacher, and no size is asked for. "
                "Say what stays, with --layers 4 or --width 0.75, or leave it out."
            )
        if self.multiple != MULTIPLE and not (self.ffn or self.width):
            raise BadSetting("--multiple has no effect without --ffn or --width. Leave it out.")
        if self.against is not None and (sizes or self.student):
            raise BadSetting(
                "--against names the teacher of a model that is a student already; with "
                f"--{sizes[0] if sizes else 'student'} the model is the teacher. Leave one out."
            )
        if self.task is not None and (self.at_hand or self.shrinks):
            raise BadSetting(
                "--task needs --layers alone, or --student: a shrunk student learns from text. "
                "Distil before it is fine-tuned."
            )

    @property
    def shrinks(self) -> bool:
        """Whether a step before it makes the student."""
        sized = any(getattr(self, each) is not None for each in SIZES)
        return sized or (self.layers is not None and self.init in (INFLUENCE, RANDOM))

    @property
    def at_hand(self) -> bool:
        """Whether the model itself is the student."""
        return self.layers is None and self.student is None and not self.shrinks

    @property
    def unread(self) -> dict[str, str]:
        """How much text is read and what is kept apart: of a task all train rows are read."""
        return dict.fromkeys(ROWS, "--task") if self.task else {}

    def prunes(self, before: frozenset[str]) -> frozenset[str]:  # noqa: ARG002
        """Nothing: all that a student begins with learns."""
        return frozenset()


class Report(Apart):
    """What was learnt.

    The reference is the teacher; it stands in `against` where the model was the student. `kept` are
    the teacher's blocks that the student began with, `objectives` those that were used, with their
    options, `distances` those to the teacher by language at every evaluation, in `unit`,
    `parameters` are of student and teacher.
    """

    kept: list[int] = Field(default_factory=list)
    layers: list[int] = Field(default_factory=list)  # of student and teacher
    objectives: dict[str, dict[str, Any]] = Field(default_factory=dict)
    distances: list[dict[str, float]] = Field(default_factory=list)
    unit: str = ""
    dropped: list[str] = Field(default_factory=list)
    best: int = -1  # older runs kept the last
    parameters: list[int] = Field(default_factory=list)

    @property
    def distance(self) -> dict[str, float]:
        """The distances of what is kept."""
        return self.distances[self.best] if self.distances else {}

    def pruned(self, before: frozenset[str]) -> frozenset[str]:  # noqa: ARG002
        """Nothing: all that a student begins with learns."""
        return frozenset()


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    student = (
        f"a student of {settings.layers} layers ({settings.init})"
        if settings.layers
        else f"the student {settings.student}"
        if settings.student
        else f"{settings.against or 'what it all began with'} into the model at hand"
    )
    task = f" of {settings.task}" if settings.task else ""
    learns = f" by {', '.join(settings.objective)}" if settings.objective else ""
    return f"distil {student}{task}{learns} in {settings.steps:,} steps, {settings.mixture}"


def parts(settings: Settings) -> list[tuple[str, StepSettings]]:
    """A student that is shrunk first is two steps."""
    if not settings.shrinks:
        return []
    sizes = {each: getattr(settings, each) for each in SIZES}
    mixture = "uniform" if settings.mixture == LACKING else settings.mixture
    layers = None if settings.layers is None else str(settings.layers)
    rest = {"layers": None, "multiple": MULTIPLE, **dict.fromkeys(SIZES)}
    init = RANDOM if settings.init == RANDOM else None
    fit = init is None  # weights at random are drawn anew, and only shapes are of use
    first = Shrinking(blocks=layers, mixture=mixture, multiple=settings.multiple, fit=fit, **sizes)
    return [("shrink", first), ("distill", settings.model_copy(update={**rest, "init": init}))]


def follows(settings: Settings, before: Sequence[tuple[str, StepSettings]]) -> None:
    """Raise BadSetting where it cannot come after the steps `before` it in a recipe."""
    if not settings.at_hand:
        return
    pruned: frozenset[str] = frozenset()
    by = ""
    for kind, step in before:
        had, pruned = bool(pruned), step.prunes(pruned)
        by = by if had else kind
    if pruned:
        raise BadSetting(f"distill cannot come after {by}: {ZEROS}")


def check_pruned(name: str, settings: Settings, pruned: frozenset[str]) -> None:
    """Raise BadModel for a pruned model that is to be the student."""
    if settings.at_hand and pruned:
        raise BadModel(f"{name} was pruned: {ZEROS}")


ZEROS = (
    "all of a student learns, and its zeros would go. Use recover, which keeps them, or prune "
    "afterwards."
)


def check(name: str, walk: "Walk", settings: Settings) -> "Walk":
    """Raise BadModel or BadSetting for a kind of model, head or number of layers that does not fit.

    What comes is the student, in shapes.
    """
    from babelpress.steps import _distilling

    return _distilling.shapes(name, walk, settings)


def check_text(opened: "Opened", calibration: CalibrationSettings, settings: Settings) -> None:
    """Raise BadModel for a tokenizer without a mask where one is needed, BadCorpus for too little
    text."""
    from babelpress.steps import _distilling

    _distilling.check_text(opened, calibration, settings)


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
    from babelpress.steps import _distilled

    return _distilled.tell(report)


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What distilling will take, from one step that is tried."""
    from babelpress.steps import _distilling

    return _distilling.estimate(trial, settings, chained=chained)
