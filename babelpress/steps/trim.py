"""Trim a model's vocabulary to the pieces that text of some languages uses.

What goes are rows of embedding and head; all other weights stay. Kept beside what
the text uses are special and added tokens, bytes, digits, punctuation, what a chat
template writes, and whatever a kept piece is merged from: text whose pieces are all
kept is read as before.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from babelpress.errors import BadSetting
from babelpress.steps._kind import Done, Estimate, Listing, StepReport, StepSettings, Told
from babelpress.steps._pressing import some
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import setting, words
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = "babelpress trim babel-mini --languages en,sw,hi --size 4000 --floor 0.98 --out run"
OWN_TEXT = True
KEEPS_WEIGHTS = True
NEW_TOKENS = "it gives tokens other numbers"
FLOOR = 0.99  # of a size without one
MIB = 2**20


class Settings(StepSettings):
    """One trimming."""

    corpus: str | None = setting(
        None,
        "Text whose train documents are counted: embedded, a folder, or hub:ID[@revision]; in a "
        "recipe by default that of its calibration.",
        offers=("embedded",),
    )
    languages: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (), "Languages or groups that the model keeps; all of the corpus by default."
    )
    size: int | None = setting(
        None,
        "Tokens at most; by default all that the text uses, or as few as --floor allows. Room that "
        "the text leaves goes to other pieces in its languages' scripts, by id.",
        gt=0,
    )
    floor: float | None = setting(
        None,
        "Share of the tokens of its text that every language keeps at least; 0.99 with --size.",
        gt=0,
        le=1,
        allow_inf_nan=False,
    )
    characters: str = setting(
        "scripts",
        "Single characters that stay whatever the text uses: scripts (of the languages, and Latin) "
        "or all.",
        offers=("scripts", "all"),
    )
    placeholders: bool = setting(
        True,
        "Keep tokens that nobody has given a use yet, as <unused12>.",
        negative="no-placeholders",
    )
    also: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (), "Texts whose pieces stay too, such as prompts; commas between."
    )

    @model_validator(mode="after")
    def _known(self) -> "Settings":
        if self.characters not in ("scripts", "all"):
            raise BadSetting(
                f"--characters {self.characters} is neither scripts nor all. Use scripts."
            )
        return self

    @property
    def level(self) -> float:
        """The coverage that every language has at least."""
        if self.floor is not None:
            return self.floor
        return 1.0 if self.size is None else FLOOR


class Report(StepReport):
    """What stayed.

    `pieces` is the kind of tokenizer model; `tokens` are how many there were and are, `always` how
    many of these stay whatever the text uses, `placeholders` how many of those are placeholders.
    `row_bytes` is what a token takes in the file. `text` is what was counted of each language,
    `coverage` the share of its tokens whose piece is kept there; `points` are other sizes and what
    they would cover. `held` is what was found on text that was not counted, also in languages that
    were not asked for, and `unread` those of them that have no such text, or were not looked for.
    `gone` are files that could not be written for the new tokens.
    """

    pieces: str = ""
    tokens: list[int] = Field(default_factory=list)
    always: int = 0
    placeholders: int = 0
    row_bytes: int = 0
    corpus: str = ""
    fingerprint: str = ""
    text: dict[str, dict[str, int]] = Field(default_factory=dict)
    coverage: dict[str, float] = Field(default_factory=dict)
    points: list[dict[str, Any]] = Field(default_factory=list)
    held: dict[str, dict[str, Any]] = Field(default_factory=dict)
    unread: list[str] = Field(default_factory=list)
    gone: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @property
    def served(self) -> tuple[str, ...]:
        """The languages that were asked for."""
        return tuple(self.coverage)

    @property
    def covered(self) -> dict[str, float]:
        """The share of each language's held-out tokens whose piece is kept."""
        return {tag: each["coverage"] for tag, each in self.held.items()}

    def pruned(self, before: frozenset[str]) -> frozenset[str]:
        """What was pruned before: rows that stay are as they were."""
        return before


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    return f"trim {_wanted(settings.model_dump())}{_of(settings)}"


def _wanted(step: Mapping[str, Any]) -> str:
    if step["size"] is not None:
        return f"to {step['size']:,} tokens, floor {step['floor'] or FLOOR:g}"
    if step["floor"] is not None:
        return f"to as few tokens as cover {step['floor']:g} of every language"
    return "to all tokens that the text uses"


def _of(settings: Settings) -> str:
    text = f" of {settings.corpus}" if settings.corpus else ""
    return f"{text} in {some(settings.languages)}" if settings.languages else text


def check(name: str, walk: "Walk", settings: Settings) -> None:
    """Raise BadModel where tokens have rows that are not known here, or none can be rewritten."""
    from babelpress.models import vocabulary
    from babelpress.steps import _trimming

    vocabulary.check(name, walk.model)
    _trimming.check_tokenizer(name, walk.model)
    if settings.corpus is not None:
        _trimming.open_text(settings.corpus, settings.languages)


def do(
    opened: "Opened",
    calibration: CalibrationSettings,
    settings: Settings,
    folder: Path,  # noqa: ARG001 - nothing is kept until it is done
    *,
    hold: "Hold",  # noqa: ARG001 - blocks are not touched
    progress: Progress = silent,
) -> Done:
    """Trim a model in place."""
    from babelpress.steps import _trimming

    return _trimming.trim(opened, calibration, settings, progress)


# ---- how it is told ------------------------------------------------------------------------


def tell(report: Report) -> Told:
    """How many tokens stay, what that saves, and what each language keeps."""
    before, after = report.tokens
    saved = (before - after) * report.row_bytes / MIB
    worst = min(report.coverage, key=lambda tag: (report.coverage[tag], tag))
    return Told(
        done=f"trim to {after:,} tokens",
        adjective="trimmed",
        means="rows of tokens that text of its languages does not use are taken out",
        method="trim",
        how=f"{after:,} of {before:,} tokens, {_wanted(report.step)}",
        left_out=", ".join(report.gone),
        lines=(
            f"{after:,} of {before:,} tokens stay ({report.pieces.replace('_', ' ')}), "
            f"{saved:,.1f} MiB less; {report.always:,} of them whatever the text uses.",
            f"The least-served language is {worst}: {report.coverage[worst]:.4f} of its tokens.",
            *_room(report),
            *_placeholders(report),
            *_proof(report),
            *report.notes,
        ),
        warnings=tuple(_warnings(report)),
        remarks=(_counted(report), *_proof(report)),
        limits=(
            "Languages whose text was not counted: they are read as more tokens, or as unknown "
            "ones where the tokenizer has no bytes to fall back to.",
        ),
        note=(
            "A trimmed vocabulary.",
            "Embedding and head have fewer rows, and every other weight is as it was. Text whose "
            "pieces all stayed is read as the same pieces, but for words that were unknown; other "
            f"text is read as more pieces. {_logits_note(report)}",
        ),
        listings=(_trade_off(report), _held(report)),
    )


def _counted(report: Report) -> str:
    size = sum(each["bytes"] for each in report.text.values())
    return (
        f"Tokens were counted in {size / MIB:.1f} MiB of train text of {Path(report.corpus).name} "
        f"in {len(report.text)} languages. {report.tokens[1]:,} of {report.tokens[0]:,} stay, "
        f"{report.always:,} of them whatever the text uses."
    )


def _room(report: Report) -> list[str]:
    """That fewer stay than were asked for: no others are of the scripts of the text."""
    size = report.step.get("size")
    if size is None or report.tokens[1] >= min(size, report.tokens[0]):
        return []
    return [
        f"{report.tokens[1]:,} stay, fewer than --size {size:,}: other tokens are of other scripts "
        "than the text, or need more that they are made of than there is room for."
    ]


def _placeholders(report: Report) -> list[str]:
    if not report.placeholders:
        return []
    size = report.placeholders * report.row_bytes / MIB
    return [
        f"{report.placeholders:,} of them are placeholders, {size:.1f} MiB: --no-placeholders "
        "drops them."
    ]


def _proof(report: Report) -> list[str]:
    """What was found on held-out text of the languages that were asked for, in two sentences."""
    asked = [report.held[tag] for tag in report.served if tag in report.held]
    number = sum(each["lines"] for each in asked)
    whole, same = (sum(each[key] for each in asked) for key in ("whole", "same"))
    lines = []
    if number:
        lines.append(
            f"Of {number:,} lines of held-out text all pieces of {whole:,} are kept, and {same:,} "
            f"are read as the same pieces as before ({100 * same / number:.1f} %)."
        )
    if tried := [each["logits"] for each in asked if each.get("logits")]:
        logits, equal = (sum(each[key] for each in tried) for key in ("numbers", "equal"))
        states = all(each["states"] for each in tried)
        apart = max(each["apart"] for each in tried)
        bits = (
            "equal bit for bit"
            if equal == logits
            else f"equal bit for bit in {equal / logits:.4%}, and {apart:.2g} apart at most (a "
            "product of another width is summed in another order)"
        )
        states_are = f"States before the head are {'equal bit for bit' if states else 'not equal'}"
        more = f", and {logits:,} logits of kept tokens are {bits}" if logits else ""
        lines.append(f"{states_are}{more}.")
    return lines


def _logits_note(report: Report) -> str:
    if any(each.get("logits") for each in report.held.values()):
        return "How far states and logits are those of the untrimmed model was measured (above)."
    return "Whether states and logits are those of the untrimmed model was not measured."


def _warnings(report: Report) -> list[str]:
    lines = []
    level = report.step["floor"] or FLOOR
    held = {tag: report.held[tag] for tag in report.served if tag in report.held}
    if low := [f"{tag} {each['coverage']:.4f}" for tag, each in held.items() if _low(each, level)]:
        lines.append(
            f"On held-out text less than {level:g} of the tokens are kept: {some(low)}. Count more "
            "text of these languages, or of the kind that the model will read."
        )
    if lost := [tag for tag, each in held.items() if each["unknown"][1] > each["unknown"][0]]:
        lines.append(
            f"More unknown tokens than before: {some(lost)}. Count more text, or keep --characters "
            "all."
        )
    if odd := [tag for tag, each in held.items() if each["odd"]]:
        lines.append(
            f"Lines whose pieces are all kept but that are read as others: {some(odd)}. Words "
            "that were unknown can be read now."
        )
    if worse := [tag for tag, each in held.items() if _rose(each)]:
        lines.append(f"Tokens are less likely than before in {some(worse)}, which must not be.")
    if other := [f"{tag} ({apart})" for tag, each in held.items() if (apart := _apart(each))]:
        lines.append(f"Not what the untrimmed model computes, which must not be: {some(other)}.")
    if report.gone:
        lines.append(
            f"Not written for the new tokens, and left out: {some(report.gone)}. Engines read "
            "tokenizer.json instead; SentencePiece models need the packages sentencepiece and "
            "protobuf."
        )
    if report.unread:
        lines.append(f"Without held-out text, so that nothing is known: {some(report.unread)}.")
    return lines


def _low(held: Mapping[str, Any], level: float) -> bool:
    return held["coverage"] < level


def _apart(held: Mapping[str, Any]) -> str:
    """What of a language is not as it was beyond rounding, and how far apart; nothing if none."""
    if not (found := held.get("logits")):
        return ""
    apart = f"logits up to {found['apart']:.2g} apart"
    far = not found["apart"] <= found.get("rounding", 0.0)  # not a number is far
    if not found["states"]:
        return f"states before the head differ, {apart if found['numbers'] else 'no logits'}"
    return apart if far else ""


def _rose(held: Mapping[str, Any]) -> bool:
    return bool(held.get("logits")) and held["logits"]["rose"] > 0


def _trade_off(report: Report) -> Listing:
    """Other sizes, what they save, and what each language keeps; the one that was taken marked."""
    tags = list(report.coverage)
    before, after = report.tokens
    rows = [
        (
            f"{point['tokens']:,}{' (taken)' if point['tokens'] == after else ''}",
            f"{(before - point['tokens']) * report.row_bytes / MIB:,.1f}",
            f"{100 * min(point['coverage'].values()):.2f}",
            *(f"{100 * point['coverage'][tag]:.2f}" for tag in tags),
        )
        for point in report.points
    ]
    title = "tokens that stay, MiB saved, % of each language's counted tokens covered"
    return Listing(title, ("tokens", "MiB saved", "least", *tags), tuple(rows))


def _held(report: Report) -> Listing:
    """Every language on text that was not counted, those that were asked for first."""
    order = sorted(report.held, key=lambda tag: (tag not in report.coverage, tag))
    rows = [
        (
            tag if tag in report.coverage else f"({tag})",
            f"{100 * each['coverage']:.2f}",
            f"{100 * each['same'] / each['lines']:.1f}",
            *(f"{value:.4f}" for value in each["tokens_per_byte"]),
            *(f"{100 * value:.2f}" for value in each["unknown"]),
            f"{loss[0]:.3f} to {loss[1]:.3f}" if (loss := _loss(each)) else "–",
        )
        for tag, each in ((tag, report.held[tag]) for tag in order)
    ]
    head = ("language", "covered %", "same %", "tok/byte", "now", "unk %", "now", "nats a token")
    title = "held-out text before and now; languages in brackets were not asked for"
    return Listing(title, head, tuple(rows))


def _loss(held: Mapping[str, Any]) -> Sequence[float]:
    return (held.get("logits") or {}).get("nats") or ()


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What trimming will take: the text is read, some of it as tokens."""
    from babelpress.steps import _trimming

    return _trimming.estimate(trial, settings, chained=chained)
