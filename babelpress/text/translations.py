"""Parallel text to pairs for an encoder-decoder, one direction of translation at a time.

A pair is a train record of one language beside the record of equal `id` (and `src`) in another: the
encoder reads the first, with the marks of its direction (marks.py), and the decoder what it is to
write of the second, shifted as transformers shifts labels. Moments are kept by direction, as
eng_Latn>swh_Latn: what a decoder sees of Swahili hangs on what it translates from.

Pairs are in the order of a hash of seed and id, so that all directions have the same sentences
first, and as many are taken as fit into the tokens asked for, those of both sides counted; each is
a block, padded to the longest of its direction. A pair with a side longer than `length` is left
out, and named: half a sentence is no translation.

Shapes: B pairs, S positions of a source, T of a target.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from babelpress.errors import BadCorpus
from babelpress.models.reading import decoder_ids
from babelpress.models.sides import Source, padded, there
from babelpress.models.tokenizers import Tokenizer, check_known
from babelpress.system.files import fingerprint
from babelpress.text import languages as registry
from babelpress.text import scripts
from babelpress.text.audit import (
    Finding,
    count_unknown,
    long_pairs,
    of_corpus,
    raise_errors,
    script,
    unknown_tokens,
    unpaired,
)
from babelpress.text.calibration import CalibrationSet, facts_of, left_out_of, row_of
from babelpress.text.corpus import Corpus
from babelpress.text.languages import ENGLISH, both_ways, sides
from babelpress.text.marks import Marks
from babelpress.text.pairing import Side, order
from babelpress.text.token_blocks import Layout, TokenBlocks, layout_for

PAIRS = "pairs"  # how many pairs of a direction are read, in its row of the manifest
IDS = "ids"  # the hash of their ids
BATCH = 64  # pairs tokenised at once: little more than is needed is
IGNORED = -100  # a label that transformers counts as padding


class Ways:
    """A corpus as directions of translation: every language out of English and into it."""

    def __init__(self, corpus: Corpus):
        self.corpus = corpus

    @property
    def name(self) -> str:
        """How the corpus was asked for."""
        return self.corpus.name

    def languages(self) -> list[str]:
        """The directions with English. Raises BadCorpus for a corpus without it."""
        there = self.corpus.languages()
        if ENGLISH not in there:
            raise BadCorpus(
                f"{self.name} has no {ENGLISH}, with which directions are made. Name directions "
                "yourself, as --languages 'sw>ha', or add a file of the same sentences in English."
            )
        return both_ways(there)


def build(
    corpus: Corpus,
    tokenizer: Tokenizer,
    model: PreTrainedModel,
    ways: Iterable[str],
    *,
    tokens: int,
    length: int,
    seed: int,
    evaluation: Corpus | None = None,
    count_special: bool = False,
    known: int | None = None,
) -> CalibrationSet:
    """Pairs of every direction, from the train split of a parallel corpus.

    Sentences of which a line stands in the test split of `evaluation` (without one, of the corpus
    itself), in either language, are left out with their pair. Raises BadSetting for a direction
    that the tokenizer has no token for, BadCorpus where the audit finds an error, such as one
    without pairs, BadModel for an id beyond the `known` ones of the model.
    """
    asked = list(dict.fromkeys(ways))
    marks = Marks.of(tokenizer, model.config.model_type)
    marks.check(asked)
    layout = layout_for(tokenizer, tokens, length, count_special, known)
    tags = list(dict.fromkeys(tag for way in asked for tag in sides(way)))
    corpus.require(tags)
    read = {tag: Side.of(corpus, tag, evaluation) for tag in tags}
    findings = [
        *of_corpus(corpus, tags),
        *(each for side in read.values() for each in side.findings),
    ]
    blocks: dict[str, TokenBlocks] = {}
    rows: dict[str, dict[str, Any]] = {}
    for way in asked:
        source, target = (read[tag] for tag in sides(way))
        found = _gather(way, source, target, marks, model, layout, seed)
        blocks[way], rows[way] = found.blocks, found.row
        findings += found.findings
    findings = list(dict.fromkeys(findings))  # both directions tell what is true of a language
    raise_errors(findings)
    manifest = facts_of(tokenizer, layout, findings) | {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint(tags),
        "evaluation": None if evaluation is None else evaluation.name,
        "seed": seed,
        "languages": rows,
        **left_out_of(corpus),
    }
    return CalibrationSet(blocks, manifest)


@dataclass(frozen=True, slots=True)
class _Gathered:
    findings: list[Finding]
    blocks: TokenBlocks
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A sentence, as the encoder reads it and as the decoder is to write it."""

    name: str
    source: list[int]
    target: list[int]

    @property
    def size(self) -> tuple[int, int]:
        """Tokens of the target, and of the source."""
        return len(self.target), len(self.source)


def _gather(
    way: str,
    source: Side,
    target: Side,
    marks: Marks,
    model: PreTrainedModel,
    layout: Layout,
    seed: int,
) -> _Gathered:
    """Pair, choose, tokenise and pack the sentences of one direction."""
    names = [name for name in source.sentences if name in target.sentences]
    names.sort(key=lambda name: order(name, seed))
    chosen = _chosen(_tokenised(way, names, source, target, marks), layout)
    blocks = _packed(way, chosen.pairs, marks, model, layout)
    shown = [target.sentences[each.name] for each in chosen.pairs]
    share = scripts.share(registry.find(way).script, scripts.counts([each.text for each in shown]))
    both = [ids for each in chosen.pairs for ids in (each.source, each.target)]
    unknown = count_unknown(both, marks.tokenizer)
    row = row_of(blocks, len({each.document for each in shown}), [each.text for each in shown]) | {
        "source_tokens": 0 if blocks.source is None else int(blocks.source.counted_BS.sum()),
        PAIRS: len(shown),
        IDS: fingerprint([each.name for each in chosen.pairs]),
        "script_share": share,
        "unknown_share": unknown / max(1, sum(map(len, both))),
    }
    own, other = (target, source) if source.language == ENGLISH else (source, target)
    told = any(each.what == "missing" for each in (*source.findings, *target.findings))
    findings = [
        *([] if told else _too_few(way, len(names), chosen, layout)),
        *unpaired(own.language, own.records, own.records - len(names), of=other.language),
        *long_pairs(way, chosen.long, layout),
        *script(way, share),
        *unknown_tokens(way, unknown, row["unknown_share"]),
    ]
    return _Gathered(findings, blocks, row)


def _tokenised(
    way: str, names: Sequence[str], source: Side, target: Side, marks: Marks
) -> Iterator[_Pair]:
    for start in range(0, len(names), BATCH):
        some = names[start : start + BATCH]
        read = marks.source(way, [source.sentences[name].text for name in some])
        written = marks.target(way, [target.sentences[name].text for name in some])
        yield from map(_Pair, some, read, written)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Pairs, the tokens that they have, and how many were too long before there were enough.

    The tokens are those asked for where there are sentences for more.
    """

    pairs: list[_Pair]
    have: int
    long: int


def _chosen(pairs: Iterable[_Pair], layout: Layout) -> _Chosen:
    """The first pairs that fit into the tokens together."""
    found: list[_Pair] = []
    have = long = 0
    for each in pairs:
        if max(each.size) > layout.length:
            long += 1
        elif have + sum(each.size) > layout.tokens:
            return _Chosen(found, layout.tokens, long)
        else:
            found.append(each)
            have += sum(each.size)
    return _Chosen(found, have, long)


def _packed(
    way: str, pairs: Sequence[_Pair], marks: Marks, model: PreTrainedModel, layout: Layout
) -> TokenBlocks:
    """A block for each pair, padded; those of like length beside one another.

    So batches of them have little padding. Raises BadModel for an id that the model has no
    embedding for.
    """
    ordered = sorted(pairs, key=lambda each: (each.size, each.name))
    source_BS = padded([each.source for each in ordered], layout.pad)
    label_BT = padded([each.target for each in ordered], IGNORED)
    there_BS = there([each.source for each in ordered])
    for ids in (source_BS, label_BT):
        if layout.known is not None and ids.numel():
            check_known(int(ids.max()), layout.known, way)
    target_BT = decoder_ids(model, label_BT) if len(ordered) else label_BT
    around = marks.around_source(way).ids() | marks.around_target(way).ids()
    special = {*layout.special, *around, layout.pad, model.config.decoder_start_token_id}
    aside = torch.tensor(sorted(each for each in special if each is not None))
    counted_BS, counted_BT = there_BS, there([each.target for each in ordered])
    if not layout.count_special:
        counted_BS = counted_BS & ~torch.isin(source_BS, aside)
        counted_BT = counted_BT & ~torch.isin(target_BT, aside)
    return TokenBlocks(way, target_BT, counted_BT, Source(source_BS, there_BS, counted_BS))


# ---- what the audit tells of pairs ----------------------------------------------------------


def _too_few(way: str, pairs: int, chosen: _Chosen, layout: Layout) -> list[Finding]:
    """An error where there is nothing to read, a warning where it is all used up."""
    source, target = sides(way)
    if not chosen.pairs:
        why = (
            f"no pair of {way} fits: of {pairs}, {chosen.long} have a side longer than "
            f"{layout.length} tokens. Raise --length or --tokens."
            if pairs
            else f"{source} and {target} have no pairs (train text of equal ids). An "
            "encoder-decoder is calibrated on parallel text: give records of the same content the "
            "same id in both."
        )
        return [Finding("error", way, "pairs", pairs, why)]
    if chosen.have < layout.tokens:
        words = f"{way} has {chosen.have} tokens of the {layout.tokens} asked for; all are used."
        return [Finding("warning", way, "short", chosen.have, words)]
    return []
