"""Fine-tune an encoder on a task with labelled texts: names, topics or sentiment.

The model gets a head with the labels of the training texts, and learns in all languages at once.
After every epoch its dev texts are scored; the best epoch counts. Zeros of a pruned model stay
zeros, so that pruning comes before or after.

Tested in tests/steps/test_finetune.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from babelpress.errors import BadSetting
from babelpress.steps._kind import BLOCKS, TABLE, Done, Estimate, StepReport, StepSettings, Told
from babelpress.steps._pressing import some
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import setting, words
from babelpress.text.labelled import TASKS
from babelpress.text.mixtures import LACKING, OFFERED, WHILE_PRESSING
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = (
    "babelpress finetune intfloat/multilingual-e5-small --task topic --corpus sib200 --out run"
)
RESUMES = True
HEADS = True
OWN_TEXT = True
SEARCHED = (*WHILE_PRESSING, LACKING)  # mixtures that pressing and distilling find
SHOWN = 8  # languages of a line
RANK = 8
RATES = {"full": 2e-5, "pst": 1e-3}  # learning rates


def _between(value: Any) -> Any:
    """Two shares of zeros with .. between; the last alone is one that begins without any."""
    text = str(value)
    if not text or isinstance(value, bool):
        return value
    first, dots, last = text.rpartition("..")
    try:
        shares = (float(first) if dots else 0.0, float(last))
    except ValueError:
        shares = (1.0, 0.0)
    if not (0 <= shares[0] <= shares[1] < 1 and shares[1] > 0):
        raise BadSetting(
            f"gradual is {text}. It is two shares of zeros from 0 to under 1, the second no "
            "smaller, as 0.5..0.95, or the second alone."
        )
    return "..".join(f"{each:g}" for each in shares)


class Settings(StepSettings):
    """One fine-tuning."""

    task: str = setting(
        "ner",
        "ner (names in sentences), topic or sentiment (of whole texts).",
        offers=tuple(TASKS),
    )
    corpus: str = setting(
        "",
        "Folder or hub:ID[@revision] of labelled texts by language, with train, dev and test: as "
        "MasakhaNER or Universal NER, as SIB-200, as AfriSenti.",
    )
    languages: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (), "Languages or groups; all that have training texts by default."
    )
    mixture: str = setting(
        "uniform",
        "How often texts of each language are read: a policy of `babelpress mixture`; proportional "
        "and temperature:T are by the texts that there are.",
        offers=tuple(each for each in OFFERED if each not in SEARCHED),
    )
    epochs: int = setting(5, "Epochs at most: times as many texts as there are.", gt=0)
    batch: int = setting(16, "Texts in a step.", gt=0)
    rate: float | None = setting(
        None,
        f"Learning rate, which falls to zero: {RATES['full']:g} by default, {RATES['pst']:g} with "
        "pst.",
        gt=0,
        allow_inf_nan=False,
    )
    warmup: float = setting(0.1, "Share of the steps in which the rate rises.", ge=0, lt=1)
    decay: float = setting(0.01, "Weight decay.", ge=0, allow_inf_nan=False)
    length: int = setting(
        256, "Tokens of a text at most; longer sentences are split, longer texts are cut.", gt=2
    )
    patience: int = setting(
        2, "Epochs in a row that are no better on dev texts before it ends (0: never).", ge=0
    )
    gradual: Annotated[str, BeforeValidator(_between)] = setting(
        "",
        "Prune by magnitude while it learns, as 0.5..0.95: the share of zeros at first and in the "
        "end; 0.95 begins without any.",
    )
    embeddings: bool = setting(False, "Let --gradual prune token embeddings too.")
    adapt: Literal["full", "pst"] = setting(
        "full", "What learns: all weights, or with pst updates and scores of low rank (--gradual)."
    )
    rank: int = setting(RANK, "Rank of what learns with --adapt pst.", gt=0)
    keep_zeros: Literal["auto", "yes", "no"] = setting(
        "auto",
        "Let zeros of the blocks stay zeros: auto of a run that pruned them, yes of what others "
        "pruned.",
    )
    seed: int = setting(0, "Of the new head, of the order of texts and of dropout.", ge=0)

    @property
    def head(self) -> str:
        """What the class of the model ends in afterwards."""
        from babelpress.models.heads import OF_TEXTS, OF_WORDS

        return OF_WORDS if TASKS[self.task].by_word else OF_TEXTS

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.task not in TASKS:
            raise BadSetting(f"there is no task '{self.task}'. Choose one of {', '.join(TASKS)}.")
        if not self.corpus:
            raise BadSetting(
                f"no labelled texts are named. Name a folder of {self.task} with --corpus, or take "
                f"--corpus hub:{TASKS[self.task].hub}"
            )
        if self.mixture.partition(":")[0] in SEARCHED:
            raise BadSetting(
                f"the mixture {self.mixture} is not of fine-tuning. Use uniform, proportional or "
                "temperature:T."
            )
        if self.adapt == "pst" and (self.embeddings or not self.gradual):
            raise BadSetting(
                "--adapt pst makes linears sparse, and embeddings stay as they are: say how sparse "
                "with --gradual, as --gradual 0.5..0.9, and leave --embeddings out."
            )
        if self.adapt != "pst" and self.rank != RANK:
            raise BadSetting(
                f"--rank {self.rank} is of --adapt pst; with {self.adapt} all weights learn. Leave "
                "it out, or take --adapt pst."
            )
        if self.embeddings and not self.gradual:
            raise BadSetting("--embeddings are pruned by --gradual: give that too, or neither.")
        return self

    @property
    def learning_rate(self) -> float:
        """The one that was given, else the usual one."""
        return RATES[self.adapt] if self.rate is None else self.rate

    @property
    def between(self) -> tuple[float, float] | None:
        """The share of zeros at first and in the end; None where nothing is pruned."""
        first, _, last = self.gradual.partition("..")
        return (float(first), float(last)) if last else None

    def prunes(self, before: frozenset[str]) -> frozenset[str]:
        """What it prunes while it learns is so beside what was before, if that stays."""
        return _pruned(dict(self), before)


def _pruned(step: Mapping[str, Any], before: frozenset[str]) -> frozenset[str]:
    kept = {"yes": before | {BLOCKS}, "no": frozenset[str]()}
    before = kept.get(step.get("keep_zeros", "auto"), before)
    own = {BLOCKS} if step.get("gradual") else set[str]()
    return before | own | ({TABLE} if step.get("embeddings") else set())


class Report(StepReport):
    """What was learnt.

    `labels` are those of the head in order, `had_head` says that the model had it before; `texts`
    are those of every language by split, `held_out` the languages whose dev texts are of its train
    files, `cut` and `split` how many texts were longer than --length. `metric` is what `scores` and
    `losses` of every epoch are of, `best` the number of the epoch that counts, from 0. `zeros` are
    the weights that were pruned and are zero, `trained` is how many numbers learnt,
    `fingerprint` is of all texts, `said` what they say of files that were not read, or of labels
    that are numbers.
    """

    labels: list[str] = Field(default_factory=list)
    had_head: bool = False
    texts: dict[str, dict[str, int]] = Field(default_factory=dict)
    held_out: list[str] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)
    cut: int = 0
    split: int = 0
    metric: str = ""
    scores: list[dict[str, float]] = Field(default_factory=list)
    losses: list[float] = Field(default_factory=list)
    best: int = 0
    zeros: int = 0
    trained: int = 0
    fingerprint: str = ""
    said: list[str] = Field(default_factory=list)

    def pruned(self, before: frozenset[str]) -> frozenset[str]:
        """What was pruned while it learnt is so beside what was before, if that stayed."""
        return _pruned(self.step, before)

    @property
    def dev(self) -> dict[str, float]:
        """The dev scores of the epoch that counts."""
        return self.scores[self.best] if self.scores else {}


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    return (
        f"fine-tune for {settings.task} on {settings.corpus}, {settings.epochs} epochs at most, "
        f"{settings.mixture}"
    )


def check(name: str, walk: "Walk", settings: Settings) -> None:
    """Raise BadModel for a model that is no encoder, BadCorpus where there are no such texts."""
    from babelpress.models.heads import check_encoder
    from babelpress.steps import _finetuning

    check_encoder(name, walk.model.config.to_dict())
    _finetuning.open_texts(settings)


def do(
    opened: "Opened",
    calibration: CalibrationSettings,  # noqa: ARG001 - its texts are labelled ones
    settings: Settings,
    folder: Path,
    *,
    hold: "Hold",  # noqa: ARG001 - weights that are trained stay in memory
    progress: Progress = silent,
) -> Done:
    """Put a head on a model and train both."""
    from babelpress.steps import _finetuning

    return _finetuning.finetune(opened, settings, folder, progress)


def tell(report: Report) -> Told:
    """The task, how many epochs, and the dev scores of the one that counts."""
    step = report.step
    number, labels = sum(each["train"] for each in report.texts.values()), len(report.labels)
    return Told(
        done=f"fine-tune {step['task']}{_sparse(report)}",
        adjective="fine-tuned",
        means="it was trained on labelled texts of a task",
        method=step["task"],
        how=f"{_epochs(report)}, batch {step['batch']}, seed {step['seed']}{_sparse(report)}",
        mixture=report.mixture.policy,
        lines=(
            f"{step['task']}: {labels} labels, {number:,} texts in {len(report.texts)} languages, "
            f"{report.trained:,} numbers trained; {_epochs(report)}.",
            *_zeros(report),
        ),
        warnings=tuple(_warnings(report)),
        remarks=(
            f"Labelled texts of {Path(step['corpus']).name}: {number:,} in "
            f"{len(report.texts)} languages. Labels: {', '.join(report.labels)}.",
            _scores(report),
            *_zeros(report),
        ),
        limits=("What its labels do not name, and texts unlike those that it learnt from.",),
        relation="finetune",
    )


def _epochs(report: Report) -> str:
    many = len(report.scores)
    return f"epoch {report.best + 1} of {many} is the best" if many > 1 else "1 epoch"


def _scores(report: Report) -> str:
    """The dev scores, the worst language first."""
    found = report.dev
    order = sorted(found, key=lambda tag: found[tag])
    named = [f"{tag} {found[tag]:.3f}" for tag in order[:SHOWN]]
    more = f" and {len(order) - SHOWN} languages more" * (len(order) > SHOWN)
    mean = sum(found.values()) / max(1, len(found))
    return f"{report.metric} on dev texts: {', '.join(named)}{more}; mean {mean:.3f}."


def _zeros(report: Report) -> list[str]:
    how = "were zero and stayed so" if not report.step.get("gradual") else "are zero"
    return [f"{report.zeros:,} weights {how}."] if report.zeros else []


def _sparse(report: Report) -> str:
    """How sparse it became while it learnt, and how."""
    between = report.step.get("gradual", "")
    if not between:
        return ""
    by = "pst" if report.step.get("adapt") == "pst" else "gradual magnitude"
    tables = ", embeddings too" if report.step.get("embeddings") else ""
    return f", {by} {between}{tables}"


def _warnings(report: Report) -> list[str]:
    lines: list[str] = list(report.said)
    if report.left_out:
        lines.append(f"Without training texts, and left out: {some(report.left_out)}.")
    if report.held_out:
        lines.append(
            f"Without dev texts, so that a tenth of the train texts stands in: "
            f"{some(report.held_out)}."
        )
    if report.cut:
        lines.append(
            f"{report.cut:,} texts are longer than {report.step['length']} tokens and were cut: a "
            "larger --length reads more of them."
        )
    return lines


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What fine-tuning will take, from steps that are tried."""
    from babelpress.steps import _finetuning

    return _finetuning.estimate(trial, settings, chained=chained)
