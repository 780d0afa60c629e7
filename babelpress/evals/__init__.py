"""Evaluations. The folder is the registry: `evals/bits_per_byte.py` is `bits_per_byte`.

An evaluation is a module with constants and one or two functions:

    METRIC = "…"             the name of what is measured
    SPOKEN = "…"             the same as a reader says it
    LOWER_IS_BETTER = True   which direction is a loss
    NEEDS_RANGES = True      where `measure` asks what calibration saw
    BINARY = True            where a document is right or wrong, 1 or 0 of 1: two models are then
                             compared by McNemar's test
    ONE_SIDED = True         where a model may not see the tokens after the one that it predicts
    HEAD = "For…"            where a model must have the head of a task: what its class ends in
    SCORES_BY = "of"         where an option names another evaluation that does the scoring: what
                             that asks of a model is asked too
    PAIRED = True            where an encoder-decoder can be scored; "only", where nothing else can
    FIRST_ORDER = True       where what a document has is a part of the whole, and no score of it
    TIMED = True             where times are measured: they hang on the machine, and those of two
                             are never compared
    SHOWN = ("…",)           the parts told to `detail` that `eval` shows beside the score
    COMPARED_WITH = "eng_Latn"  where all languages are compared with one, which then has no score;
                             an option that is called `pivot` names another
    def measure(model, tokenizer, documents, *, option=default, ...) -> one Tally per language
    def texts(corpus, *, option=default, ...) -> Texts
                             where it brings documents of its own: what `--corpus` names for it;
                             else the test split of a corpus
    def made_with(options) -> what its scores hang on besides model, text and options: the
                             version of a library, say; scores made with another are other ones
    def check(options) -> None
                             raises BadSetting for values that are none, before a model is opened
    def notes() -> tuple[str, ...]
                             what is to be said beside such scores
    def baselines(documents) -> what a score is held against, by HELD_AGAINST

Their keyword arguments are its options, but for those that it is given (`GIVEN`): `window`, tokens
in a window; `memory_mb`, memory for what it computes at once; `progress`; `detail`, which it tells
the parts of each language's score by name: those at every site, or in every wrong language; `kept`,
where what a model said of choices is looked for and left; and with NEEDS_RANGES `ranges`, the
largest activations of every site by name.

An option that is called `metric` says which of several things is measured, all with the same
direction: rows of results carry its value, and METRIC that of its default.

A tally is a ratio of sums, document by document, so that intervals, gate and report work for it. It
changes nothing in the model and writes nothing to disk; a failure is an error, never a zero.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from babelpress.errors import BadSetting
from babelpress.registry import Registry
from babelpress.text import languages

GIVEN = frozenset({"window", "memory_mb", "ranges", "detail", "kept", "progress"})
EVALUATIONS = Registry(__name__, __path__, "evaluation", ("measure", "texts"), given=GIVEN)
HELD_AGAINST = ("chance", "majority")  # of a score; nothing where there is no such thing

Detail = Callable[[str, Mapping[str, float]], None]
"""What is told a language, and the parts of its score by name."""


def unheard(_language: str, _parts: Mapping[str, float]) -> None:
    """The detail of those who do not ask."""


class Document(Protocol):
    """Something that is scored: its name, its own within a language, and all that it says."""

    @property
    def id(self) -> str: ...

    @property
    def text(self) -> str: ...


class Texts(Protocol):
    """The documents of an evaluation by language."""

    @property
    def name(self) -> str: ...

    def languages(self) -> list[str]: ...

    def documents(self, tag: str, split: str) -> Sequence[Document]: ...

    def require(self, tags: Iterable[str]) -> None: ...


@runtime_checkable
class Says(Protocol):
    """Texts that know what lies beside them and is not read."""

    def says(self) -> tuple[str, ...]:
        """A sentence about it; none where all is read."""
        ...


@runtime_checkable
class Finds(Protocol):
    """Texts that find out by themselves what an option leaves open."""

    def found(self) -> Mapping[str, str]:
        """Options, with the values that they came to."""
        ...


class Facts(NamedTuple):
    """What an evaluation declares."""

    metric: str
    spoken: str
    lower_is_better: bool
    needs_ranges: bool


def facts(name: str) -> Facts:
    """What an evaluation declares; it is read, not imported. Raises UnknownName."""
    found = EVALUATIONS.facts(name)
    metric = found["METRIC"]
    spoken = found.get("SPOKEN", metric.replace("_", " "))
    return Facts(metric, spoken, found["LOWER_IS_BETTER"], found.get("NEEDS_RANGES", False))


def metric(name: str, given: Mapping[str, Any]) -> str:
    """What an evaluation measures with these options. Raises UnknownName."""
    return str(given.get("metric", facts(name).metric))


def made_with(name: str, given: Mapping[str, Any]) -> dict[str, str]:
    """What its scores hang on besides model, text and options; mostly nothing."""
    own = EVALUATIONS.optional(name, "made_with")
    return own({**options(name), **given}) if own else {}


def check(name: str, given: Mapping[str, Any]) -> None:
    """Raise BadSetting for options that an evaluation cannot have; it is imported."""
    if own := EVALUATIONS.optional(name, "check"):
        own({**options(name), **given})


def is_binary(name: str) -> bool:
    """Whether a document is right or wrong; it is read, not imported. Raises UnknownName."""
    return bool(EVALUATIONS.facts(name).get("BINARY", False))


def is_first_order(name: str) -> bool:
    """Whether a document's part is no score of its own; read, not imported. Raises UnknownName."""
    return bool(EVALUATIONS.facts(name).get("FIRST_ORDER", False))


def is_timed(name: str) -> bool:
    """Whether times are measured; it is read, not imported. Raises UnknownName."""
    return bool(EVALUATIONS.facts(name).get("TIMED", False))


def shown(name: str) -> tuple[str, ...]:
    """The parts of a score that stand beside it; read, not imported. Raises UnknownName."""
    return tuple(EVALUATIONS.facts(name).get("SHOWN", ()))


def notes(name: str) -> tuple[str, ...]:
    """What is to be said beside the scores of an evaluation; mostly nothing."""
    own = EVALUATIONS.optional(name, "notes")
    return own() if own else ()


def one_sided(name: str) -> bool:
    """Whether encoders cannot be scored; it is read, not imported. Raises UnknownName."""
    return bool(EVALUATIONS.facts(name).get("ONE_SIDED", False))


def head(name: str) -> str:
    """What the class of a model ends in that an evaluation scores, empty where any will do.

    It is read, not imported. Raises UnknownName.
    """
    return str(EVALUATIONS.facts(name).get("HEAD", ""))


def through(names: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """The evaluations, and those that they score by, as options say; read, not imported."""
    by = [options_of(names, given)[name].get(_scores_by(name), "") for name in names]
    return list(dict.fromkeys([*names, *(each for each in by if each)]))


def _scores_by(name: str) -> str:
    return str(EVALUATIONS.facts(name).get("SCORES_BY", ""))


def paired(name: str) -> bool | str:
    """Whether encoder-decoders can be scored, or "only" they; it is read, not imported."""
    return EVALUATIONS.facts(name).get("PAIRED", False)


def compared_with(name: str, given: Mapping[str, Any]) -> str:
    """The tag of the language that an evaluation compares all others with: it has no score there.

    Empty where there is none. It is read, not imported. Raises UnknownName.
    """
    usual = EVALUATIONS.facts(name).get("COMPARED_WITH", "")
    return languages.find(str(given.get("pivot", usual))).tag if usual else ""


def no_score(name: str, tag: str) -> str:
    """What is said of the language that an evaluation compares with, where it is asked for."""
    return f"{languages.find(tag).name} is what {name} compares with; it has no score of its own."


def options(name: str) -> dict[str, object]:
    """The options of an evaluation of its own, with their defaults; they are read, not imported."""
    return EVALUATIONS.options(name)


def options_of(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Which of the options that were given each evaluation takes.

    Raises BadSetting for one that none of them has, or a value of another kind than its default.
    """
    known = {name: options(name) for name in names}
    if lost := sorted(set(given) - {key for each in known.values() for key in each}):
        accepts = "; ".join(
            f"{name} has {', '.join(f'{k}={v}' for k, v in each.items()) or 'no options'}"
            for name, each in known.items()
        )
        raise BadSetting(f"no evaluation asked for has an option {', '.join(lost)}: {accepts}.")
    for name in known:
        EVALUATIONS.check_values(name, given)
    return {name: {key: given[key] for key in each if key in given} for name, each in known.items()}


def accepts(name: str, argument: str) -> bool:
    """Whether an evaluation's `measure` takes an argument that it may be given."""
    return argument in inspect.signature(EVALUATIONS.get(name)).parameters


def baselines(name: str, documents: Sequence[Document]) -> dict[str, float]:
    """What the score of an evaluation on these documents is held against; mostly nothing."""
    own = EVALUATIONS.optional(name, "baselines")
    return own(documents) if own else {}
