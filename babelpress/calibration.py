"""Text of a corpus to calibration blocks, one language a block, and the audit of that text.

Documents of the train split are cut into pieces at the ends of lines, so that no book fills a
language's share. Pieces are ordered by a hash of seed, document and place: the order of a language
hangs on no other language, and where documents have equal ids the languages get the same ones.
Their tokens are packed to blocks of fixed length (packing.py); nothing is left out for its length.

Shapes: B blocks, T positions of a block.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from babelpress import languages as registry
from babelpress import scripts
from babelpress.corpus import UNNAMED, Corpus, Document
from babelpress.errors import BadCorpus
from babelpress.files import fingerprint
from babelpress.packing import (
    PIECE_CHARACTERS,
    Blocks,
    Layout,
    Piece,
    Tokenizer,
    joined,
    layout_for,
    pack,
    pieces,
)
from babelpress.readers import listed

BATCH_PIECES = 16  # tokenised at once: little more than is needed is tokenised
SCRIPT_SHARE = 0.8  # a lower share in the language's own script is a warning
UNKNOWN_SHARE = 0.01  # a higher share of unknown tokens is a warning
NAMED_AT_MOST = 3

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the audit found: how many of what, and the sentence for the user."""

    level: Level
    language: str
    what: str
    count: int
    words: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """The blocks of every language, and all that is needed to make them again."""

    blocks: dict[str, Blocks]
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Gathered:
    findings: list[Finding]
    blocks: Blocks
    row: dict[str, Any]


def build(
    corpus: Corpus,
    tokenizer: Tokenizer,
    languages: Iterable[str],
    *,
    tokens: int,
    length: int,
    seed: int,
    evaluation: Corpus | None = None,
    count_special: bool = False,
) -> Calibration:
    """Blocks of `length` from the train split: floor(tokens / length) for every language.

    A language with less text gives all it has, its last block padded. Lines that stand in the
    test split of `evaluation` (without one, of the corpus itself) are left out. Raises BadCorpus
    where the audit finds an error, BadSetting where not one block fits.
    """
    tags = list(dict.fromkeys(languages))
    layout = layout_for(tokenizer, tokens, length, count_special)
    corpus.require(tags)
    gathered = {
        tag: _gather(corpus, tokenizer, tag, layout=layout, seed=seed, evaluation=evaluation)
        for tag in tags
    }
    findings = [finding for each in gathered.values() for finding in each.findings]
    _raise_errors(findings)
    manifest = _manifest(tokenizer, layout, findings) | {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint(tags),
        "evaluation": None if evaluation is None else evaluation.name,
        "seed": seed,
        "piece_characters": PIECE_CHARACTERS,
        "languages": {tag: each.row for tag, each in gathered.items()},
    }
    return Calibration({tag: each.blocks for tag, each in gathered.items()}, manifest)


def audit(
    corpus: Corpus,
    tokenizer: Tokenizer,
    languages: Iterable[str],
    *,
    tokens: int,
    length: int,
    seed: int,
    evaluation: Corpus | None = None,
) -> list[Finding]:
    """What `build` would find, errors among it, without raising for them.

    Broken files are raised as BadCorpus all the same.
    """
    layout = layout_for(tokenizer, tokens, length, False)
    there = set(corpus.languages())
    findings: list[Finding] = []
    for tag in dict.fromkeys(languages):
        if tag in there:
            findings += _gather(
                corpus, tokenizer, tag, layout=layout, seed=seed, evaluation=evaluation
            ).findings
        else:
            findings.append(_missing(corpus, tag))
    return findings


def from_ids(
    documents: Mapping[str, Sequence[Sequence[int]]],
    tokenizer: Tokenizer,
    *,
    tokens: int,
    length: int,
    seed: int,
    source: str = "self",
    count_special: bool = False,
) -> Calibration:
    """Blocks from documents that are token ids already, such as those that the model wrote.

    The documents have no BOS and EOS of their own. They are taken in order.
    """
    layout = layout_for(tokenizer, tokens, length, count_special)
    blocks: dict[str, Blocks] = {}
    rows: dict[str, dict[str, Any]] = {}
    findings: list[Finding] = []
    for tag, ids in documents.items():
        blocks[tag] = pack(tag, ids, layout)
        texts = tokenizer.batch_decode([list(each) for each in ids], skip_special_tokens=True)
        rows[tag] = _row(blocks[tag], len(ids), texts)
        findings += _short(tag, ids, layout)
    manifest = _manifest(tokenizer, layout, findings) | {
        "corpus": source,
        "fingerprint": fingerprint({tag: [list(each) for each in documents[tag]] for tag in rows}),
        "seed": seed,
        "languages": rows,
    }
    return Calibration(blocks, manifest)


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what the tokenizer does: its rules where it is a fast one, else its vocabulary."""
    if not tokenizer.is_fast:
        return fingerprint(tokenizer.get_vocab())
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    # The last call's truncation and padding are kept there, and are no property of the tokenizer.
    return fingerprint({**rules, "truncation": None, "padding": None})


def _gather(
    corpus: Corpus,
    tokenizer: Tokenizer,
    tag: str,
    *,
    layout: Layout,
    seed: int,
    evaluation: Corpus | None,
) -> _Gathered:
    """Read, audit, choose, tokenise and pack one language."""
    train = corpus.documents(tag, "train")
    judge = corpus if evaluation is None else evaluation
    test = judge.documents(tag, "test") if tag in judge.languages() else []
    heldout = {line.strip() for document in test for line in document.text.split("\n")}
    kept = {
        document.id: [line for line in document.text.split("\n") if line.strip() not in heldout]
        for document in train
    }
    found = [piece for name, lines in kept.items() for piece in pieces(name, lines)]
    found.sort(key=lambda piece: _order(piece, seed))
    used, ids = _tokenise(found, tokenizer, layout)
    blocks = pack(tag, ids, layout)
    texts = [*(piece.text for piece in used[:-1]), *_last_text(used, ids, tokenizer, layout)]
    share = scripts.share(registry.find(tag).script, scripts.counts(texts))
    unknown = _unknown(ids, tokenizer)
    row = _row(blocks, len({piece.document for piece in used}), texts) | {
        "pieces": len(used),
        "script_share": share,
        "unknown_share": unknown / max(1, sum(map(len, ids))),
    }
    findings = [
        *([] if found else [_missing(corpus, tag)]),
        *_shared(tag, train, test, "warning" if evaluation is None else "error"),
        *_in_both(tag, train, kept),
        *_duplicates(tag, kept),
        *(_short(tag, ids, layout) if found else []),
        *_script(tag, share),
        *_unknown_tokens(tag, unknown, row["unknown_share"]),
    ]
    return _Gathered(findings, blocks, row)


def _order(piece: Piece, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{piece.document}\n{piece.place}".encode()).digest()


def _tokenise(
    found: Sequence[Piece], tokenizer: Tokenizer, layout: Layout
) -> tuple[list[Piece], list[list[int]]]:
    """The first pieces that fill the blocks together, and the ids of each."""
    gap = int(layout.eos is not None)
    used: list[Piece] = []
    ids: list[list[int]] = []
    have = -gap
    for piece, tokens in _encode(found, tokenizer):
        if have >= layout.wanted:
            break
        used.append(piece)
        ids.append(tokens)
        have += gap + len(tokens)
    return used, ids


def _encode(found: Sequence[Piece], tokenizer: Tokenizer) -> Iterator[tuple[Piece, list[int]]]:
    for start in range(0, len(found), BATCH_PIECES):
        batch = found[start : start + BATCH_PIECES]
        encoded = tokenizer([piece.text for piece in batch], add_special_tokens=False)
        yield from zip(batch, encoded["input_ids"], strict=True)


def _last_text(
    used: Sequence[Piece],
    ids: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    layout: Layout,
) -> list[str]:
    """The text of the last piece, cut where the last block ends."""
    if not used:
        return []
    over = len(joined(ids, layout)) - layout.wanted
    if over <= 0:
        return [used[-1].text]
    return [str(tokenizer.decode(list(ids[-1][: len(ids[-1]) - over]))).rstrip("\ufffd")]


def _row(blocks: Blocks, num_documents: int, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "blocks": len(blocks.ids_BT),
        "tokens": int(blocks.counted_BT.sum()),
        "characters": sum(map(len, texts)),
        "bytes": sum(len(text.encode()) for text in texts),
        "documents": num_documents,
    }


def _manifest(tokenizer: Tokenizer, layout: Layout, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "tokenizer": tokenizer_hash(tokenizer),
        "tokens": layout.tokens,
        "length": layout.length,
        "count_special": layout.count_special,
        "findings": [asdict(finding) for finding in findings],
    }


def _raise_errors(findings: Sequence[Finding]) -> None:
    errors = [finding.words for finding in findings if finding.level == "error"]
    if errors:
        raise BadCorpus(" ".join(errors))


def _missing(corpus: Corpus, tag: str) -> Finding:
    words = f"{corpus.name} has no train text in {tag}; it has {listed(corpus.languages())}."
    return Finding("error", tag, "missing", 1, words)


def _shared(
    tag: str, train: Sequence[Document], test: Sequence[Document], level: Level
) -> list[Finding]:
    """Documents on both sides, by name: one of them read in calibration is known in evaluation."""
    tested = {document.id for document in test if not document.id.startswith(UNNAMED)}
    names = sorted({document.id for document in train} & tested)
    words = (
        f"{tag}: documents in both calibration (train) and evaluation (test): {len(names)}, namely "
        f"{_some(names)}. Give each one split, or leave their source out, as in FOLDER?src!=NAME."
    )
    return [Finding(level, tag, "shared documents", len(names), words)] if names else []


def _in_both(
    tag: str, train: Sequence[Document], kept: Mapping[str, Sequence[str]]
) -> list[Finding]:
    lost = {
        document.id: len(document.text.split("\n")) - len(kept[document.id]) for document in train
    }
    names = [name for name, count in lost.items() if count]
    count = sum(lost.values())
    words = (
        f"{tag}: lines of the train text that are in the test text too, dropped from calibration: "
        f"{count}, in {_some(names)}."
    )
    return [Finding("warning", tag, "text in both", count, words)] if names else []


def _duplicates(tag: str, kept: Mapping[str, Sequence[str]]) -> list[Finding]:
    lines = [line for each in kept.values() for line in each]
    count = len(lines) - len(set(lines))
    words = f"{tag}: {count} of {len(lines)} lines of the train text repeat an earlier one exactly."
    return [Finding("note", tag, "duplicates", count, words)] if count else []


def _short(tag: str, ids: Sequence[Sequence[int]], layout: Layout) -> list[Finding]:
    have = len(joined(ids, layout))
    words = f"{tag} has {have} tokens of the {layout.wanted} that fill its blocks; all are used."
    return [Finding("warning", tag, "short", have, words)] if have < layout.wanted else []


def _script(tag: str, share: float | None) -> list[Finding]:
    if share is None or share >= SCRIPT_SHARE:
        return []
    script = registry.find(tag).script
    words = f"{tag}: only {share:.0%} of the calibration text is in its script {script}."
    return [Finding("warning", tag, "script", round(100 * share), words)]


def _unknown(ids: Sequence[Sequence[int]], tokenizer: Tokenizer) -> int:
    return sum(each.count(tokenizer.unk_token_id) for each in ids)


def _unknown_tokens(tag: str, count: int, share: float) -> list[Finding]:
    words = f"{tag}: the tokenizer does not know {share:.1%} of its calibration tokens ({count})."
    level: Level = "warning" if share > UNKNOWN_SHARE else "note"
    return [Finding(level, tag, "unknown tokens", count, words)] if count else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more
