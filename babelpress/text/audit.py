"""The audit of calibration text: missing, short, doubled, shared with the test text, or odd; and
what lies in the corpus and is not read.

Tested in tests/text/test_calibration.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from babelpress.errors import BadCorpus
from babelpress.models.tokenizers import Tokenizer
from babelpress.text import languages as registry
from babelpress.text.corpus import UNNAMED, Corpus, Document
from babelpress.text.readers import listed
from babelpress.text.sameness import key
from babelpress.text.token_blocks import Layout, joined

SCRIPT_SHARE = 0.8  # a lower share in the language's own script is a warning


UNKNOWN_SHARE = 0.01  # a higher share of unknown tokens is a warning


NAMED_AT_MOST = 3
NAMED_TOGETHER = 5  # languages of one line that is about many

# What many languages have in common: the words, whether those with least are named first, a unit.
SEVERAL: Mapping[str, tuple[str, bool, str]] = {
    "short": ("have less text than was asked for, and all of it is used; tokens", True, ""),
    "text in both": (
        "have lines of train text that are in the test text too, dropped from calibration; lines",
        False,
        "",
    ),
    "duplicates": ("have lines of train text that repeat an earlier one exactly; lines", False, ""),
    "unpaired": (
        "have train sentences without an English one of the same id, left out; sentences",
        False,
        "",
    ),
    "long pairs": ("have pairs longer than a block, left out; pairs", False, ""),
    "cut": ("have demonstrations that are longer than a block, and are cut; samples", False, ""),
    "script": ("have calibration text that is not in their own script; in it are", True, " %"),
    "unknown tokens": ("have tokens that the tokenizer does not know; tokens", False, ""),
}

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the audit found: how many of what, and the sentence for the user."""

    level: Level
    language: str
    what: str
    count: int
    words: str


def raise_errors(findings: Sequence[Finding]) -> None:
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise BadCorpus(" ".join(words for _, words in told(errors)))


def told(findings: Sequence[Finding]) -> list[tuple[Level, str]]:
    """What a user reads of findings: one line for all languages with the same, and its level."""
    alike: dict[tuple[Level, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.level, finding.what), []).append(finding)
    return [(level, _together(what, found)) for (level, what), found in alike.items()]


def _together(what: str, found: Sequence[Finding]) -> str:
    if len(found) == 1:
        return found[0].words
    if what not in SEVERAL:
        others = _some([finding.language for finding in found[1:]], NAMED_TOGETHER)
        return f"{found[0].words} The same is true of {others}."
    words, lowest, unit = SEVERAL[what]
    worst = sorted(found, key=lambda finding: finding.count if lowest else -finding.count)
    named = _some([f"{each.language} {each.count}{unit}" for each in worst], NAMED_TOGETHER)
    return f"{len(found)} languages {words}: {named}."


def missing(corpus: Corpus, tag: str) -> Finding:
    words = f"{corpus.name} has no train text in {tag}; it has {listed(corpus.languages())}."
    return Finding("error", tag, "missing", 1, words)


def of_corpus(corpus: Corpus, tags: Sequence[str]) -> list[Finding]:
    """What concerns the corpus as a whole: files left out, damaged ones that nobody asked for."""
    others = [tag for tag in corpus.languages() if tag not in tags]
    damaged = {tag: words for tag in others if (words := corpus.damage(tag))}
    return [
        *(
            Finding("warning", "", "left out", len(corpus.left_out), words)
            for words in corpus.says()
        ),
        *(
            Finding("warning", tag, "damaged", 1, f"{tag} was not asked for, and {words}")
            for tag, words in damaged.items()
        ),
    ]


def several_names(tag: str, names: Sequence[str]) -> list[Finding]:
    words = f"{tag}: the text of {listed(names)} is read as one language."
    return [Finding("note", tag, "several names", len(names), words)] if names else []


def shared(
    tag: str, train: Sequence[Document], test: Sequence[Document], level: Level
) -> list[Finding]:
    """Documents on both sides, by name: one of them read in calibration is known in evaluation."""
    tested = {key(document.id) for document in test if not document.id.startswith(UNNAMED)}
    names = sorted({document.id for document in train if key(document.id) in tested})
    words = (
        f"{tag}: documents in both calibration (train) and evaluation (test): {len(names)}, namely "
        f"{_some(names)}. Give each one split, or leave their source out, as in FOLDER?src!=NAME."
    )
    return [Finding(level, tag, "shared documents", len(names), words)] if names else []


def in_both(tag: str, dropped: Mapping[str, int]) -> list[Finding]:
    """`dropped`: how many lines of a document are test text, by its name."""
    names = [name for name, count in dropped.items() if count]
    count = sum(dropped.values())
    words = (
        f"{tag}: lines of the train text that are in the test text too, dropped from calibration: "
        f"{count}, in {_some(names)}."
    )
    return [Finding("warning", tag, "text in both", count, words)] if names else []


def duplicates(tag: str, lines: int, distinct: int) -> list[Finding]:
    count = lines - distinct
    words = f"{tag}: {count} of {lines} lines of the train text repeat an earlier one."
    return [Finding("note", tag, "duplicates", count, words)] if count else []


def short(tag: str, ids: Sequence[Sequence[int]], layout: Layout) -> list[Finding]:
    have = len(joined(ids, layout))
    if layout.whole and 0 < have < layout.body:
        words = (
            f"{tag} has {have} tokens, less than one block of {layout.length}, and a model that "
            f"reads on both sides can have no padding. Use --length {have}, or leave it out."
        )
        return [Finding("error", tag, "short", have, words)]
    left = "what fills whole blocks is" if layout.whole else "all are"
    words = f"{tag} has {have} tokens of the {layout.wanted} that fill its blocks; {left} used."
    return [Finding("warning", tag, "short", have, words)] if have < layout.wanted else []


def unpaired(tag: str, records: int, left: int, *, of: str) -> list[Finding]:
    """Sentences that cannot be shown in demonstrations, for want of an id or of the other side."""
    why = "have no id of their own" if tag == of else f"have no {of} of the same id"
    words = f"{tag}: {left} of {records} train sentences {why}, and are left out."
    return [Finding("note", tag, "unpaired", left, words)] if left else []


def cut(tag: str, samples: Sequence[Sequence[int]], layout: Layout) -> list[Finding]:
    """Samples of demonstrations that no block holds."""
    count = sum(len(ids) > layout.body for ids in samples)
    words = (
        f"{tag}: {count} of {len(samples)} samples are longer than a block of {layout.length} "
        "tokens, and are cut. Raise --length, or ask for fewer shots."
    )
    return [Finding("warning", tag, "cut", count, words)] if count else []


def long_pairs(tag: str, count: int, layout: Layout) -> list[Finding]:
    """Pairs for an encoder-decoder that are left out: half a sentence is no translation."""
    words = (
        f"{tag}: {count} pairs have a side longer than {layout.length} tokens, and are left out. "
        "Raise --length, where the model has more positions."
    )
    return [Finding("warning", tag, "long pairs", count, words)] if count else []


def script(tag: str, share: float | None) -> list[Finding]:
    if share is None or share >= SCRIPT_SHARE:
        return []
    script = registry.find(tag).script
    words = f"{tag}: only {share:.0%} of the calibration text is in its script {script}."
    return [Finding("warning", tag, "script", round(100 * share), words)]


def count_unknown(ids: Sequence[Sequence[int]], tokenizer: Tokenizer) -> int:
    return sum(each.count(tokenizer.unk_token_id) for each in ids)


def unknown_tokens(tag: str, count: int, share: float) -> list[Finding]:
    words = f"{tag}: the tokenizer does not know {share:.1%} of its calibration tokens ({count})."
    level: Level = "warning" if share > UNKNOWN_SHARE else "note"
    return [Finding(level, tag, "unknown tokens", count, words)] if count else []


def _some(names: Sequence[str], most: int = NAMED_AT_MOST) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
