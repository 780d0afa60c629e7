"""What a distillation learns from, and what is held apart: text, or labelled texts of a task.

Nothing is of a test split. Text that is held apart is of the valid split; where a corpus has none,
a tenth of the token blocks of its train text, and which languages that is true of is told.

Tested in tests/steps/test_distill.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babelpress.errors import BadCorpus, BadModel
from babelpress.evals._labels import OF_TEXTS, OF_WORDS, check_labels, labels_of
from babelpress.models.open import Opened
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import check_known, encode, tokenizer_hash, vocabulary_of
from babelpress.steps.distill import ROWS
from babelpress.system.files import fingerprint
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import draw, fitting_length
from babelpress.text.labelled import Labelled, find, open_labelled, trained_on
from babelpress.text.pieces import pieces_of
from babelpress.text.settings import SELF, CalibrationSettings
from babelpress.text.shots import shots_of
from babelpress.text.token_blocks import TokenBlocks, layout_for, pack
from babelpress.train.batches import Blocks, Example, Examples, Marks
from babelpress.train.finetuning import examples_of

APART = 2048  # tokens of a language that distances are found on, at most
TENTH = 10  # of the blocks, held apart where a corpus has no text for it
UNITS = {
    "hidden": "nats a scored token",
    "next": "nats a scored token",
    "labels": "nats a label",
}


@dataclass(frozen=True, slots=True)
class Learnt:
    """What is learnt from, what distances are found on, and what is told of both."""

    learnt: Blocks | Examples
    apart: Blocks | Examples
    manifest: dict[str, Any]
    told: dict[str, Any]

    @property
    def unit(self) -> str:
        """What distances are counted in; empty where the objective is the distance."""
        return UNITS.get(self.learnt.scores, "")


def of_text(opened: Opened, asked: CalibrationSettings, answers: str) -> Learnt:
    """Plain text; `answers` is what the model's head predicts.

    Raises what `draw` raises, BadCorpus for a language of which nothing can be held apart.
    """
    marks, scores = marks_of(opened, answers)
    drawn = draw(opened, asked)
    learnt, apart, of_train = _apart(opened, asked, drawn.blocks)
    note = f"distances of {', '.join(of_train)} are on train text that was held apart."
    told = {
        "tokens": {tag: int(each.counted_BT.sum()) for tag, each in apart.items()},
        "of_train": of_train,
        "notes": [note] if of_train else [],
    }
    learns, looks = Blocks(learnt, marks, scores), Blocks(apart, marks, scores)
    return Learnt(learns, looks, drawn.manifest, told)


def marks_of(opened: Opened, answers: str) -> tuple[Marks, str]:
    """The marks of a tokenizer, and what is scored of text: hidden tokens, the next, nothing."""
    known, both = vocabulary_of(opened.model), sees_both_sides(opened.model)
    layout = layout_for(opened.tokenizer, 2, 2, False, known)
    scores = "nothing" if answers != "tokens" else "hidden" if both else "next"
    mask: Any = opened.tokenizer.mask_token_id
    if scores == "hidden" and mask is None:
        raise BadModel(
            f"the tokenizer of {opened.name} has no mask token, so nothing can be hidden from the "
            "model. Give the tokenizer that belongs to it."
        )
    return Marks(layout.pad, layout.special, mask if scores == "hidden" else None, known), scores


def valid_text(
    opened: Opened, asked: CalibrationSettings, tags: Iterable[str], most: int | None = None
) -> dict[str, TokenBlocks]:
    """Blocks of the valid split, of those languages whose text fills one; `most` tokens of each."""
    if asked.corpus == SELF or shots_of(asked.corpus) is not None:
        return {}
    length = fitting_length(opened, asked.length)
    whole, known = sees_both_sides(opened.model), vocabulary_of(opened.model)
    length = min(length, most or length)
    tokens = most or max(APART, length)
    layout = layout_for(opened.tokenizer, tokens, length, False, known, whole)
    corpus = open_corpus(asked.corpus)
    found: dict[str, TokenBlocks] = {}
    for tag in tags:
        texts = [d.text for d in corpus.documents(tag, "valid")]
        ids = encode(opened.tokenizer, texts)["input_ids"] if texts else []
        blocks = pack(tag, ids, layout)
        if len(blocks.ids_BT):
            found[tag] = blocks
    return found


def _apart(
    opened: Opened, asked: CalibrationSettings, blocks: Mapping[str, TokenBlocks]
) -> tuple[dict[str, TokenBlocks], dict[str, TokenBlocks], list[str]]:
    """Blocks to learn from, blocks held apart, and the languages whose are a tenth of the first."""
    valid = valid_text(opened, asked, blocks)
    learnt: dict[str, TokenBlocks] = {}
    apart: dict[str, TokenBlocks] = {}
    of_train: list[str] = []
    for tag, each in blocks.items():
        if tag in valid:
            learnt[tag], apart[tag] = each, valid[tag]
            continue
        number = len(each.ids_BT)
        if number < 2:
            raise BadCorpus(
                f"{tag} has {number} blocks of text to learn from, and none to hold apart. Give "
                f"shorter blocks with --length, less than {asked.length}, or more text."
            )
        held = held_of(each)
        learnt[tag], apart[tag] = rows_of(each, slice(held, None)), rows_of(each, slice(held))
        of_train.append(tag)
    return learnt, apart, of_train


def held_of(blocks: TokenBlocks) -> int:
    """How many blocks are held apart, where a corpus has no text for it."""
    return max(1, len(blocks.ids_BT) // TENTH)


def rows_of(blocks: TokenBlocks, which: slice) -> TokenBlocks:
    return TokenBlocks(blocks.language, blocks.ids_BT[which], blocks.counted_BT[which])


# ---- a task --------------------------------------------------------------------------------


def of_task(
    opened: Opened, asked: CalibrationSettings, task: str, store: str | None = None
) -> Learnt:
    """Labelled texts of a task: all train rows, those of a `store` too; valid rows are held apart.

    Raises BadModel where the model has another head, or lacks a label; BadCorpus for a language
    without rows.
    """
    by_word = find(task).by_word
    labels = labels_of(opened.model, OF_WORDS if by_word else OF_TEXTS)
    corpus = open_labelled(task, asked.corpus)
    tags = trained_on(task, asked.corpus, asked.languages)
    written = open_labelled(task, store) if store else None
    length = fitting_length(opened, asked.length)
    learnt: dict[str, list[Example]] = {}
    apart: dict[str, list[Example]] = {}
    told: dict[str, Any] = {}
    for tag in tags:
        train = corpus.documents(tag, "train")
        more = (
            written.documents(tag, "train") if written and tag in written.languages("train") else []
        )
        check_labels(labels, [*train, *more])
        valid = corpus.documents(tag, "valid")
        check_labels(labels, valid)
        learnt[tag] = _examples(opened, tag, [*train, *more], labels, length, by_word=by_word)
        apart[tag] = _few(_examples(opened, tag, valid, labels, length, by_word=by_word))
        told[tag] = _row(learnt[tag], train, more)
    known = vocabulary_of(opened.model)
    marks = Marks(opened.tokenizer.pad_token_id, frozenset(), None, known)  # type: ignore[arg-type]
    manifest = {
        "corpus": corpus.name,
        "task": task,
        "store": store,
        "tokenizer": tokenizer_hash(opened.tokenizer),
        "fingerprint": fingerprint([_rows(learnt), _rows(apart)]),
        "seed": asked.seed,
        "length": length,
        "findings": [],
        "languages": told,
    }
    held = [tag for tag in tags if corpus.held_out(tag)]
    note = f"distances of {', '.join(held)} are on train rows that were held apart."
    beside = {
        "tokens": {tag: sum(len(e.tokens) for e in some) for tag, some in apart.items()},
        "of_train": held,
        "notes": [
            *([note] if held else []),
            *_unread(asked),
            *corpus.says(),
            *(written.says() if written else ()),
        ],
    }
    return Learnt(Examples(learnt, marks), Examples(apart, marks), manifest, beside)


def _unread(asked: CalibrationSettings) -> list[str]:
    """A line for what a calibration, which other steps may share, asks of text without rows."""
    usual = CalibrationSettings()
    lost = [name for name in ROWS if getattr(asked, name) != getattr(usual, name)]
    if not lost:
        return []
    return [f"{', '.join(lost)} of the calibration had no effect: all train rows were read."]


def _rows(some: Mapping[str, Sequence[Example]]) -> dict[str, list[list[tuple[int, ...]]]]:
    """All that labelled pieces are, for a fingerprint."""
    return {
        tag: [[each.tokens, each.places_W, each.labels_W] for each in pieces]
        for tag, pieces in some.items()
    }


def _examples(
    opened: Opened,
    tag: str,
    documents: Sequence[Labelled],
    labels: Sequence[str],
    length: int,
    *,
    by_word: bool,
) -> list[Example]:
    pieces = pieces_of(opened.tokenizer, documents, length, by_word=by_word)
    found = examples_of(pieces, documents, labels)
    check_known(max(max(each.tokens) for each in found), vocabulary_of(opened.model), tag)
    return found


def _few(examples: Sequence[Example]) -> list[Example]:
    """The first of them that have APART tokens together, one at least."""
    found: list[Example] = []
    have = 0
    for each in examples:
        if found and have + len(each.tokens) > APART:
            break
        found.append(each)
        have += len(each.tokens)
    return found


def _row(
    examples: Sequence[Example], own: Sequence[Labelled], written: Sequence[Labelled]
) -> dict[str, int]:
    """What the manifest tells of a language."""
    texts = [word for each in (*own, *written) for word in each.words]
    return {
        "blocks": len(examples),
        "tokens": sum(len(each.tokens) for each in examples),
        "characters": sum(map(len, texts)),
        "bytes": sum(len(each.encode()) for each in texts),
        "documents": len(own),
        "words": sum(len(each.words) for each in (*own, *written)),
        "written": len(written),
    }
