"""Text of a corpus to calibration blocks, one language a block, and the audit of that text.

Documents of the train split are cut into pieces at the ends of lines, so that no book fills a
language's share. Pieces are ordered by a hash of seed, document and place: the order of a language
hangs on no other language, and where documents have equal ids the languages get the same ones.
Their tokens are packed to blocks of fixed length (token_blocks.py); nothing is left out for being
long.

Shapes: B blocks, T positions of a block.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from babelpress.models.tokenizers import Tokenizer, encode, tokenizer_hash
from babelpress.system.files import fingerprint
from babelpress.text import languages as registry
from babelpress.text import scripts
from babelpress.text.audit import (
    Finding,
    count_unknown,
    duplicates,
    in_both,
    missing,
    of_corpus,
    raise_errors,
    script,
    several_names,
    shared,
    short,
    unknown_tokens,
)
from babelpress.text.corpus import Corpus, Document
from babelpress.text.sameness import keys
from babelpress.text.token_blocks import (
    PIECE_CHARACTERS,
    Layout,
    Piece,
    TokenBlocks,
    joined,
    layout_for,
    pack,
    pieces,
)

BATCH_PIECES = 16  # tokenised at once: little more than is needed is tokenised


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The blocks of every language, and all that is needed to make them again."""

    blocks: dict[str, TokenBlocks]
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Gathered:
    findings: list[Finding]
    blocks: TokenBlocks
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
    known: int | None = None,
    whole: bool = False,
) -> CalibrationSet:
    """Blocks of `length` from the train split: floor(tokens / length) for every language.

    A language with less text gives all it has, its last block padded, or left out where blocks are
    to be `whole`. Lines that stand in the test split of `evaluation` (without one, of the corpus
    itself) are left out. Raises BadCorpus where the audit finds an error, BadSetting where not one
    block fits, BadModel for an id beyond the `known` ones of the model that is to read them.
    """
    tags = list(dict.fromkeys(languages))
    layout = layout_for(tokenizer, tokens, length, count_special, known, whole)
    corpus.require(tags)
    gathered = {
        tag: _gather(corpus, tokenizer, tag, layout=layout, seed=seed, evaluation=evaluation)
        for tag in tags
    }
    findings = of_corpus(corpus, tags)
    findings += [finding for each in gathered.values() for finding in each.findings]
    raise_errors(findings)
    manifest = facts_of(tokenizer, layout, findings) | {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint(tags),
        "evaluation": None if evaluation is None else evaluation.name,
        "seed": seed,
        "piece_characters": PIECE_CHARACTERS,
        "languages": {tag: each.row for tag, each in gathered.items()},
        **left_out_of(corpus),
    }
    return CalibrationSet({tag: each.blocks for tag, each in gathered.items()}, manifest)


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
    tags = list(dict.fromkeys(languages))
    findings = of_corpus(corpus, tags)
    for tag in tags:
        if tag in there:
            findings += _gather(
                corpus, tokenizer, tag, layout=layout, seed=seed, evaluation=evaluation
            ).findings
        else:
            findings.append(missing(corpus, tag))
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
    known: int | None = None,
) -> CalibrationSet:
    """Blocks from documents that are token ids already, such as those that the model wrote.

    The documents have no BOS and EOS of their own. They are taken in order.
    """
    layout = layout_for(tokenizer, tokens, length, count_special, known)
    blocks: dict[str, TokenBlocks] = {}
    rows: dict[str, dict[str, Any]] = {}
    findings: list[Finding] = []
    for tag, ids in documents.items():
        blocks[tag] = pack(tag, ids, layout)
        texts = tokenizer.batch_decode([list(each) for each in ids], skip_special_tokens=True)
        rows[tag] = row_of(blocks[tag], len(ids), texts)
        findings += short(tag, ids, layout)
    manifest = facts_of(tokenizer, layout, findings) | {
        "corpus": source,
        "fingerprint": fingerprint({tag: [list(each) for each in documents[tag]] for tag in rows}),
        "seed": seed,
        "languages": rows,
    }
    return CalibrationSet(blocks, manifest)


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
    train, test = corpus.documents(tag, "train"), tested(corpus, tag, evaluation)
    apart = Apart.of(train, test)
    found = in_order(apart.kept, seed)
    used, ids = tokenise(found, tokenizer, layout)
    blocks = pack(tag, ids, layout)
    texts = [*(piece.text for piece in used[:-1]), *_last_text(used, ids, tokenizer, layout)]
    share = scripts.share(registry.find(tag).script, scripts.counts(texts))
    unknown = count_unknown(ids, tokenizer)
    row = row_of(blocks, len({piece.document for piece in used}), texts) | {
        "pieces": len(used),
        "script_share": share,
        "unknown_share": unknown / max(1, sum(map(len, ids))),
    }
    findings = [
        *([] if found else [missing(corpus, tag)]),
        *several_names(tag, corpus.names_of(tag)),
        *shared(tag, train, test, "warning" if evaluation is None else "error"),
        *in_both(tag, apart.dropped),
        *duplicates(tag, sum(map(len, apart.kept.values())), apart.distinct),
        *(short(tag, ids, layout) if found else []),
        *script(tag, share),
        *unknown_tokens(tag, unknown, row["unknown_share"]),
    ]
    return _Gathered(findings, blocks, row)


@dataclass(frozen=True, slots=True)
class Apart:
    """Lines that are in no test document, by document; lines are the same by their keys.

    `dropped` counts the others, by document; `distinct` how many keys the kept lines have.
    """

    kept: dict[str, list[str]]
    dropped: dict[str, int]
    distinct: int

    @classmethod
    def of(cls, train: Sequence[Document], test: Sequence[Document]) -> "Apart":
        heldout = {key for document in test for key in keys(document.text)}
        kept: dict[str, list[str]] = {}
        dropped: dict[str, int] = {}
        seen: set[str] = set()
        for document in train:
            lines, own = document.text.split("\n"), keys(document.text)
            fresh = [line for line, key in zip(lines, own, strict=True) if key not in heldout]
            kept[document.id], dropped[document.id] = fresh, len(lines) - len(fresh)
            seen.update(own)
        return cls(kept, dropped, len(seen - heldout))


def tested(corpus: Corpus, tag: str, evaluation: Corpus | None) -> list[Document]:
    """The test documents of a language, of `evaluation` or without one of the corpus itself."""
    judge = corpus if evaluation is None else evaluation
    return judge.documents(tag, "test") if tag in judge.languages() else []


def in_order(kept: Mapping[str, Sequence[str]], seed: int) -> list[Piece]:
    """The pieces of documents, whose lines these are, in the order that they are read in."""
    found = [piece for name, lines in kept.items() for piece in pieces(name, lines)]
    return sorted(found, key=lambda piece: _order(piece, seed))


def _order(piece: Piece, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{piece.document}\n{piece.place}".encode()).digest()


def tokenise(
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
        encoded = encode(tokenizer, [piece.text for piece in batch])
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


def left_out_of(corpus: Corpus) -> dict[str, Any]:
    """What lies in a corpus and is not read, for the manifest; nothing where all is."""
    rows = [{"path": each.path, "why": each.why} for each in corpus.left_out]
    return {"left_out": rows} if rows else {}


def row_of(blocks: TokenBlocks, num_documents: int, texts: Sequence[str]) -> dict[str, Any]:
    """What the manifest of a calibration set tells of every language."""
    return {
        "blocks": len(blocks.ids_BT),
        "tokens": int(blocks.counted_BT.sum()),
        "characters": sum(map(len, texts)),
        "bytes": sum(len(text.encode()) for text in texts),
        "documents": num_documents,
    }


def facts_of(tokenizer: Tokenizer, layout: Layout, findings: Sequence[Finding]) -> dict[str, Any]:
    """What the manifest of every calibration set tells."""
    return {
        "tokenizer": tokenizer_hash(tokenizer),
        "tokens": layout.tokens,
        "length": layout.length,
        "count_special": layout.count_special,
        "findings": [asdict(finding) for finding in findings],
    }
