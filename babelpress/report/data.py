"""What a report is made of, and the rows that its charts and its table share.

Changes are relative (0.12 is 12 %) and point up where the model got worse. Everything that a reader
sees passes `clean`, because names of models and titles come from outside.

Tested in tests/report/test_report.py.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from babelpress import evals
from babelpress.errors import BadRun, NotFinite, UnknownName
from babelpress.insight._kept import Kept
from babelpress.judge.buckets import Bucket
from babelpress.judge.collapse import Collapse
from babelpress.judge.compare import Comparison
from babelpress.judge.ladders import Ladder
from babelpress.judge.ood import Apart
from babelpress.steps._kind import Listing
from babelpress.system.escaping import clean
from babelpress.text import languages

NOTHING = "\u2013"  # in the place of a number that is not known


@dataclass(frozen=True, slots=True)
class Pressed:
    """One pressed model, compared with the dense one language by language.

    `name` says what was done to it, `notes` (title and sentence) what a reader must know of that.
    `kinds` are what it is now, each with what the word means: pruned, quantized. `policy` is its
    mixture as it was asked for. `ledger` is that of its manifest; `beyond` and `sites` are its
    range scores, by language and by language and site. `documents` were scored of each language.
    `seconds` and `memory_mib` are what pressing took, where that is known; `again` are the commands
    that make, score and serve it. `times` are milliseconds a text beside those of the dense model,
    where both were timed on one machine; `thirds` are losses on easy and hard documents, and
    `elsewhere` those on a second corpus. `listings` are tables that its steps tell.
    """

    name: str
    calibration: str
    comparison: Comparison
    kinds: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[tuple[str, str], ...] = ()
    ledger: Mapping[str, Any] | None = None
    beyond: Mapping[str, float] = field(default_factory=dict)
    sites: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    policy: str = ""
    documents: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    memory_mib: float | None = None
    again: tuple[str, ...] = ()
    times: Comparison | None = None
    thirds: tuple[Bucket, ...] = ()
    elsewhere: tuple[Apart, ...] = ()
    listings: tuple[Listing, ...] = ()

    @property
    def bytes_stored(self) -> int | None:
        """What a packed export of it takes, where that is known."""
        return self.ledger["bytes_stored"] if self.ledger else None


@dataclass(frozen=True, slots=True)
class Said:
    """What a model wrote after the beginning of a test document; `by` is its label."""

    by: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """The beginning of a test document of one language, and what every model wrote after it."""

    language: str
    prompt: str
    reference: str
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class ReportInput:
    """Everything that one report shows. `shares` may be empty where training is not disclosed.

    `passages` are what the models wrote, `analyses` what was found inside them, `again` are the
    commands that score the dense model and make this page. `damaged` says what could not be shown.
    `collapses` are the ladders among `pressed`, whose rungs have their places, and how far each
    language can be pressed on them; with `rising` they are what the page is about. `sizes` are what
    the dense model takes, as far as it is known; `ood` is the second corpus.
    """

    title: str
    model: str
    pressed: tuple[Pressed, ...]
    metric: str = "bits_per_byte"
    shares: Mapping[str, float] | None = None
    share_unit: str = ""
    share_source: str = ""
    manifest: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    analyses: tuple[Kept, ...] = ()
    again: tuple[str, ...] = ()
    machine: str = ""
    damaged: tuple[str, ...] = ()
    collapses: tuple[tuple[Ladder, Collapse], ...] = ()
    rising: bool = False
    sizes: Mapping[str, Any] = field(default_factory=dict)
    ood: str = ""


@dataclass(frozen=True, slots=True)
class Tongue:
    """How one language is written in the report; `name` is unique within it."""

    tag: str
    name: str
    autonym: str
    script: str
    resource: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One pressed model in one language; `documents` None where nobody knows how many."""

    label: str
    tongue: Tongue
    dense: float
    pressed: float
    change: float
    low: float
    high: float
    p_holm: float
    significant: bool
    verdict: str
    documents: int | None


def labels(pressed: tuple[Pressed, ...]) -> list[str]:
    """A short name for each pressed model: its calibration, with its name where names differ.

    Raises BadRun when there is none, or when two would be called the same.
    """
    if not pressed:
        raise BadRun("there is nothing to report: give at least one pressed model with its scores.")
    several = len({model.name for model in pressed}) > 1
    short = [
        clean(f"{model.name} · {model.calibration}" if several else model.calibration)
        for model in pressed
    ]
    twice = [label for label, count in Counter(short).items() if count > 1]
    if twice:
        raise BadRun(
            f"two pressed models are called {twice[0]!r} in this report. "
            "Give each its own name or calibration."
        )
    return short


def tongues(report: ReportInput) -> list[Tongue]:
    """The languages of the report; first the one that loses most in any pressed model."""
    most: dict[str, float] = {}
    for change in (c for model in report.pressed for c in model.comparison.changes):
        most[change.language] = max(change.change, most.get(change.language, -math.inf))
    found = [tongue(tag, (report.shares or {}).get(tag)) for tag in sorted(most)]
    names = Counter(tongue.name for tongue in found)
    unique = [_with_tag(tongue) if names[tongue.name] > 1 else tongue for tongue in found]
    return sorted(unique, key=lambda tongue: (-most[tongue.tag], tongue.name))


def rows(report: ReportInput) -> list[Row]:
    """Every pressed model in every language it was measured in, in the order of `tongues`.

    Raises BadRun where no language was measured and NotFinite where a score has no number.
    """
    ordered = tongues(report)
    found = []
    for label, model in zip(labels(report.pressed), report.pressed, strict=True):
        changes = {change.language: change for change in model.comparison.changes}
        for tongue in ordered:
            if change := changes.get(tongue.tag):
                found.append(
                    Row(
                        label=label,
                        tongue=tongue,
                        dense=change.dense,
                        pressed=change.pressed,
                        change=change.change,
                        low=change.low,
                        high=change.high,
                        p_holm=change.p_holm,
                        significant=change.significant,
                        verdict=change.verdict,
                        documents=model.documents.get(change.language),
                    )
                )
    _check(found)
    return found


def in_order(rows: Sequence[Row]) -> list[Tongue]:
    """The languages of some rows, in the order of `tongues`."""
    most: dict[Tongue, float] = {}
    for row in rows:
        most[row.tongue] = max(row.change, most.get(row.tongue, -math.inf))
    return sorted(most, key=lambda tongue: (-most[tongue], tongue.name))


def percent(value: float, *, sign: bool = True) -> str:
    """0.1234 as "+12.3 %", with a real minus and a space that does not break."""
    shown = f"{value * 100:+.1f}" if sign else f"{value * 100:.1f}"
    return shown.replace("-", "\u2212") + "\u202f%"


def took(seconds: float | None, memory_mib: float | None) -> str:
    """`12 s, 371 MiB`: how long pressing took, and its memory at the peak; "" if not known."""
    parts = []
    if seconds is not None:
        parts.append(f"{seconds:.0f}\u202fs" if seconds < 600 else f"{seconds / 60:.0f}\u202fmin")
    if memory_mib is not None:
        large = memory_mib >= 10_240
        parts.append(f"{memory_mib / 1024:.0f}\u202fGiB" if large else f"{memory_mib:.0f}\u202fMiB")
    return ", ".join(parts)


def size(stored: int | None) -> str:
    """`10.5 MB`, decimal as disks and hubs count; "" if not known."""
    if stored is None:
        return ""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if stored >= bytes_:
            return f"{stored / bytes_:.3g}\u202f{unit}"
    return f"{stored}\u202fB"


def metric_name(evaluation: str) -> str:
    """What an evaluation measures, as a reader says it."""
    try:
        return clean(evals.facts(evaluation).spoken)
    except UnknownName:
        return clean(evaluation.replace("_", " "))


def _check(found: list[Row]) -> None:
    if not found:
        raise BadRun("there is nothing to report: no language was measured.")
    for row in found:
        if not all(map(math.isfinite, (row.dense, row.pressed, row.change, row.low, row.high))):
            raise NotFinite(
                f"the comparison of {row.label} with the dense model in {row.tongue.tag} has NaN "
                "or infinity in it. Evaluate this model again."
            )


def tongue(tag: str, share: float | None = None) -> Tongue:
    """A language as the report writes it."""
    try:
        language = languages.find(tag)
    except UnknownName:
        # Scores are shown even of a language that our table lacks: it goes by its tag.
        return Tongue(clean(tag), clean(tag), "", "", "", share)
    return Tongue(
        language.tag, language.name, language.autonym, language.script, language.resource, share
    )


def _with_tag(tongue: Tongue) -> Tongue:
    return Tongue(
        tongue.tag,
        f"{tongue.name} ({tongue.tag})",
        tongue.autonym,
        tongue.script,
        tongue.resource,
        tongue.share,
    )
