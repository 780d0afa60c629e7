"""What steps share that press the sites of a model: settings, reports, words.

Tested in tests/steps/test_step.py and tests/test_bad_input.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from babelpress.errors import BadMoments, BadSetting
from babelpress.registry import Registry
from babelpress.steps._kind import BLOCKS, StepReport, StepSettings
from babelpress.system.settings import Strict, pairs, setting, words
from babelpress.text.mixtures import LACKING, MEASURED, MINIMAX, OFFERED
from babelpress.text.settings import LOSS, SELF, TEXT, WEIGHING, CalibrationSettings
from babelpress.text.shots import shots_of

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk

MOMENTS_HELP = "A moments folder of this model: nothing is read or run, propagate is dense."


class Minimax(Strict):
    """The loop that finds the mixture with the least damage to the worst language."""

    rounds: int = Field(default=20, gt=0)
    rate: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Measured(Strict):
    """The loop that finds the mixture whose worst language loses least on text held out."""

    rounds: int = Field(default=6, gt=0)
    rate: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    tokens: int = Field(default=2560, gt=1)


@dataclass(frozen=True, slots=True)
class HoldsOut:
    """What needs text held out of the calibration, in words, and tokens of each language."""

    who: str
    tokens: int


class ByMethod(StepSettings):
    """What has a method."""

    method: str


class LookingSettings(StepSettings):
    """What looks at languages apart. With `moments` a step reads those, else calibration text."""

    mixture: str = setting(
        "uniform",
        "How languages are weighted; see `babelpress mixture --help`.",
        offers=OFFERED,
    )
    propagate: Literal["dense", "compressed"] = setting(
        "compressed", "What each block is fed while pressing; dense where moments are given."
    )
    minimax: Minimax = setting(
        Minimax(),
        "The loop of the minimax mixture, which lowers the damage that moments predict.",
        hidden=True,
    )
    moments: str | None = setting(None, MOMENTS_HELP)

    @model_validator(mode="before")
    @classmethod
    def _propagated(cls, data: Any) -> Any:
        """Moments of a folder are those of the dense model."""
        if isinstance(data, Mapping) and data.get("moments") and not data.get("propagate"):
            return {**data, "propagate": "dense"}
        return data

    @model_validator(mode="after")
    def _pressed(self) -> "LookingSettings":
        """What is pressed at once has nothing to lack yet; not every kind can be undone."""
        if self.mixture == LACKING:
            raise BadSetting(
                f"the mixture {LACKING} is of training, where a language's loss is known. Use "
                "uniform, minimax or measured."
            )
        if self.mixture == MEASURED and "measured" not in type(self).model_fields:
            raise BadSetting(
                f"the mixture {MEASURED} is of prune and quantize. Use uniform or minimax."
            )
        return self

    @property
    def looks_twice(self) -> bool:
        """Whether dense moments of all blocks are asked for more than once."""
        again = self.mixture == MEASURED and self.propagate == "dense"
        return again or self.mixture == MINIMAX

    @property
    def leaves_work(self) -> bool:
        """Rounds of the measured mixture."""
        return self.mixture == MEASURED

    @property
    def shares_moments(self) -> bool:
        """Whether it reads moments of the dense model that others may read too."""
        return self.propagate == "dense" and self.moments is None

    @property
    def unread(self) -> dict[str, str]:
        """All that says which text is read, with moments: of these only languages are chosen."""
        return dict.fromkeys((*TEXT, *WEIGHING), "--moments") if self.moments else {}


def check_weighed(asked: CalibrationSettings, settings: LookingSettings) -> None:
    """Raise BadSetting where the loss is to weigh tokens of a model that is pressed meanwhile.

    The pass back goes through all blocks at once, so that there is no pressed block before another.
    """
    if asked.weigh == LOSS and settings.propagate != "dense":
        raise BadSetting(
            f"weigh {LOSS} looks at the dense model as a whole, and propagate is "
            f"{settings.propagate}. Use --propagate dense, or leave --weigh out."
        )


class PressingSettings(LookingSettings, ByMethod):
    """What all steps that press every site by a method have."""

    skip: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (), "Sites or linears to leave dense, by name; * allowed; commas between."
    )
    options: Annotated[dict[str, Any], BeforeValidator(pairs)] = setting(
        {}, "NAME=VALUE of the method, as in --option damp=0.05; may be repeated.", flag="option"
    )
    min_tokens: int | None = setting(
        None,
        "Experts that saw fewer tokens stay as they are; by default the method decides.",
        gt=0,
    )
    measured: Measured = setting(
        Measured(),
        "The loop of the measured mixture; tokens are those of text held out of each language. A "
        "round costs a press and a scoring, with propagate compressed a calibration too.",
        hidden=True,
    )

    @property
    def holds_out(self) -> HoldsOut | None:
        """What needs text held out of the calibration; None where nothing does."""
        measured = self.mixture == MEASURED
        return HoldsOut(f"the mixture {MEASURED}", self.measured.tokens) if measured else None


def check_scored(name: str, walk: "Walk", settings: PressingSettings) -> None:
    """Raise BadModel for the measured mixture of a model that predicts no tokens of one text."""
    if settings.mixture == MEASURED:
        from babelpress.steps import _measured

        _measured.check(name, walk.model)


def check_scorable(
    opened: "Opened", asked: CalibrationSettings, settings: PressingSettings
) -> None:
    """Raise BadCorpus or BadSetting where text is to be held out, and none can be."""
    if settings.holds_out is not None:
        from babelpress.steps import _holding

        _holding.check(opened, asked, settings)


class PressingReport(StepReport):
    """What was done to the sites: exact counts, the rounds that found a mixture, experts' loads.

    Of the measured mixture `held_out` has the tokens of text held out, by language, the split that
    they are of, and `nats`, the dense model's loss there in nats a scored token.

    `table` is what each language was measured to lose by block and option, and what was chosen,
    where a rule goes by that.
    """

    trace: list[dict[str, Any]] = Field(default_factory=list)
    held_out: dict[str, dict[str, Any]] = Field(default_factory=dict)
    sites: list[dict[str, Any]] = Field(default_factory=list)
    zeros: int = 0
    were_zero: int = 0
    weights: int = 0
    experts: dict[str, Any] | None = None
    table: dict[str, Any] = Field(default_factory=dict)

    def pruned(self, before: frozenset[str]) -> frozenset[str]:
        """The blocks, where zeros were made."""
        return before | {BLOCKS} if self.zeros else before


def reads_gram(methods: Registry, name: str) -> bool:
    """Whether a method declares that it reads Gram matrices."""
    return "gram" in methods.facts(name).get("READS", ())


def check_options(methods: Registry, name: str, given: Mapping[str, object]) -> None:
    """Raise BadSetting for an option that an entry has not, or a value of another kind."""
    methods.check_options(name, given)
    methods.check_values(name, given)


def check_held_out(who: str, corpus: str, moments: str | None = None) -> None:
    """Raise BadSetting for what measures on text held out, of text that gives none."""
    if not (corpus == SELF or shots_of(corpus)):
        return
    where = f"moments in {moments} are of" if moments else "the calibration reads"
    raise BadSetting(
        f"{who} is found on plain text that was not read, and {where} {corpus}. "
        "Calibrate on a corpus, or use uniform."
    )


def check_against(folder: str, there: Sequence[str], shares: Mapping[str, float]) -> None:
    """Raise BadMoments where a language that has a share has no moments to make a contrast with.

    Moments of a single language, such as source code, are held against every one.
    """
    wanted = [tag for tag, share in shares.items() if share > 0]
    missing = [tag for tag in wanted if tag not in there] if len(there) > 1 else []
    if missing:
        raise BadMoments(
            f"{folder} has no moments of {some(missing)} to make a contrast with; it has "
            f"{', '.join(there)}. Calibrate it with them, or with a single language, such as "
            "source code, which is then held against all."
        )


def provenance(methods: Registry, name: str) -> tuple[str, ...]:
    """The paper of a method and where it differs from it, as it declares."""
    facts = methods.facts(name) if name in methods.names() else {}
    if "PAPER" not in facts:
        return ()
    return (" ".join((f"{name} is after {facts['PAPER']}.", *facts.get("DIFFERS", ()))),)


def spoken(step: Mapping[str, Any], *more: str) -> str:
    """The options of a method in words, and whatever else there is to say."""
    options = ", ".join(f"{key} {value}" for key, value in step.get("options", {}).items())
    return "; ".join(filter(None, (*more[:1], options, *more[1:])))


def fed_by(step: Mapping[str, Any]) -> str:
    """What blocks were fed while they were pressed."""
    return "pressed blocks" if step.get("propagate") == "compressed" else "dense blocks"


SHOWN = 4  # names in a message; the report has all


def expert_lines(found: Mapping[str, Any] | None) -> list[str]:
    """The lines that a user must read of what `rows` gave."""
    lines = []
    if found and (left := found["left"]):
        lines.append(f"Too few tokens, left as they were: {some(left)}.")
    if found and (missing := found["missing"]):
        named = [f"{name} ({', '.join(tags)})" for name, tags in missing.items()]
        lines.append(f"Experts that saw no token of a language with a share: {some(named)}.")
    return lines


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more, which the report names" * (len(names) > SHOWN)
    return ", ".join(names[:SHOWN]) + more
