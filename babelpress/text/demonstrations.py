"""Few-shot demonstrations as calibration text (Kim et al. 2024, arXiv:2409.16911, section 3).

The paper prunes with Wanda on what its models see in demonstrations of translation: its score
|W|·‖X_mt‖ is `--method wanda --corpus translation:SRC`, and its control `monolingual:SRC`.

A shot is `Name: sentence EOS Name: sentence EOS`, with the English names of both languages and EOS
as the token that the tokenizer has (a new line where it has none); monolingual ones lack the second
half. A sample is some shots of one pair of languages in one direction, in turn from and to English;
it begins a token block, and what the block lacks is padding, which never counts. Moments of a
language are of all that its demonstrations show, the English of them too. English itself is shown
monolingually.

Pairs are train records of equal `id` (and `src`) in both languages, in the order of a hash of seed
and id, so in every language the same ones first. A language gets as many samples as fit, as
translations, into the tokens asked for: all three conditions show the same sentences in the same
order, and monolingual ones have about half as many tokens. Shuffled pairs are a sentence and the
English of the same place in the next sample, so that no English in a sample is of a sentence in it.

The paper's code shows other sentences in its monolingual condition than in its translations, lets
padding count, and takes every fifth pair for none; this does not.

Shapes: B blocks, T positions of a block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babelpress.models.tokenizers import Tokenizer, encode
from babelpress.system.files import fingerprint
from babelpress.text import languages as registry
from babelpress.text import scripts
from babelpress.text.audit import (
    Finding,
    count_unknown,
    cut,
    duplicates,
    of_corpus,
    raise_errors,
    script,
    unknown_tokens,
    unpaired,
)
from babelpress.text.calibration import CalibrationSet, facts_of, left_out_of, row_of
from babelpress.text.corpus import Corpus, Sentence, require_english
from babelpress.text.languages import ENGLISH
from babelpress.text.pairing import Side, order
from babelpress.text.sameness import key
from babelpress.text.shots import Shots
from babelpress.text.token_blocks import Layout, TokenBlocks, apart, layout_for

PAIRS = "pairs"  # how many pairs of a language are shown, in its row of the manifest
IDS = "ids"  # the hash of their ids


@dataclass(frozen=True, slots=True)
class _Shot:
    """A sentence as it is shown, in token ids with its end; its English, none in English itself."""

    sentence: Sentence
    own: list[int]
    english: list[int]


@dataclass(frozen=True, slots=True)
class _Gathered:
    findings: list[Finding]
    blocks: TokenBlocks
    row: dict[str, Any]


def build(
    asked: Shots,
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
    """A block for each sample of demonstrations, from the train split of a parallel corpus.

    Blocks of a language are as long as its longest sample, `length` at most; a sample that is
    longer is cut, which the audit tells. Sentences of which a line stands in the test split of
    `evaluation` (without one, of the corpus itself), in either language, are left out with their
    pair. Raises BadCorpus where the audit finds an error, such as a language without pairs,
    BadSetting where not one block fits, BadModel for an id beyond the `known` ones of the model.
    """
    tags = list(dict.fromkeys(languages))
    layout = layout_for(tokenizer, tokens, length, count_special, known, whole)
    corpus.require(tags)
    require_english(corpus)
    english = Side.of(corpus, ENGLISH, evaluation)
    findings = [*of_corpus(corpus, [*tags, ENGLISH]), *english.findings]
    gathered: dict[str, _Gathered] = {}
    for tag in tags:
        own = english if tag == ENGLISH else Side.of(corpus, tag, evaluation)
        gathered[tag] = _gather(asked, own, english, tokenizer, layout=layout, seed=seed)
        findings += [*([] if own is english else own.findings), *gathered[tag].findings]
    raise_errors(findings)
    rows = {tag: each.row for tag, each in gathered.items()}
    manifest = facts_of(tokenizer, layout, findings) | {
        "corpus": asked.of(corpus.name),
        "condition": asked.condition,
        "shots": asked.number,
        "fingerprint": corpus.fingerprint((*tags, ENGLISH)),
        "evaluation": None if evaluation is None else evaluation.name,
        "seed": seed,
        "languages": rows,
        **left_out_of(corpus),
    }
    return CalibrationSet({tag: each.blocks for tag, each in gathered.items()}, manifest)


def identity_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one set of demonstrations from another; nothing for any other text."""
    if "condition" not in manifest:
        return {}
    pairs = {tag: row[IDS] for tag, row in manifest["languages"].items()}
    return {
        "condition": manifest["condition"],
        "shots": manifest["shots"],
        "pairs": fingerprint(pairs),
    }


def _gather(
    asked: Shots, own: Side, english: Side, tokenizer: Tokenizer, *, layout: Layout, seed: int
) -> _Gathered:
    """Pair, choose, tokenise and pack the sentences of one language."""
    tag = own.language
    names = [name for name in own.sentences if name in english.sentences]
    names.sort(key=lambda name: order(name, seed))
    shots, have = _chosen(names, own, english, tokenizer, layout, asked.number)
    samples = _samples(shots, asked)
    blocks = apart(tag, samples, layout)
    within = [ids[: layout.body] for ids in samples]
    shown = [shot.sentence for shot in shots]
    share = scripts.share(registry.find(tag).script, scripts.counts([each.text for each in shown]))
    unknown = count_unknown(within, tokenizer)
    texts = tokenizer.batch_decode(within, skip_special_tokens=True)
    row = row_of(blocks, len({each.document for each in shown}), texts) | {
        PAIRS: len(shown) if tag != ENGLISH else 0,
        IDS: fingerprint([each.id for each in shown]),
        "script_share": share,
        "unknown_share": unknown / max(1, sum(map(len, within))),
    }
    seen = [key(own.sentences[name].text) for name in names]
    told = any(each.what == "missing" for each in (*own.findings, *english.findings))
    findings = [
        *([] if told else _too_few(asked, tag, len(names), len(samples), have, layout)),
        *unpaired(tag, own.records, own.records - len(names), of=ENGLISH),
        *duplicates(tag, len(seen), len({*seen})),
        *cut(tag, samples, layout),
        *script(tag, share),
        *unknown_tokens(tag, unknown, row["unknown_share"]),
    ]
    return _Gathered(findings, blocks, row)


def _chosen(
    names: Sequence[str],
    own: Side,
    english: Side,
    tokenizer: Tokenizer,
    layout: Layout,
    number: int,
) -> tuple[list[_Shot], int]:
    """The shots of as many whole samples as fit, as translations; the tokens that those have.

    The tokens are those asked for where there are sentences for more.
    """
    shots: list[_Shot] = []
    have = 0
    for start in range(0, len(names) - number + 1, number):
        group = names[start : start + number]
        sentences = [own.sentences[name] for name in group]
        of_own = _shown(tokenizer, own.language, sentences, layout)
        of_english: list[list[int]] = [[]] * number
        if own is not english:
            translations = [english.sentences[name] for name in group]
            of_english = _shown(tokenizer, ENGLISH, translations, layout)
        size = sum(map(len, (*of_own, *of_english)))
        have += min(size, layout.body) + layout.length - layout.body
        if have > layout.tokens:
            return shots, layout.tokens
        shots += map(_Shot, sentences, of_own, of_english)
    return shots, have


def _shown(
    tokenizer: Tokenizer, tag: str, sentences: Sequence[Sentence], layout: Layout
) -> list[list[int]]:
    """Sentences with the name of their language before them and an end behind, in token ids."""
    name = registry.find(tag).name
    end = encode(tokenizer, ["\n"])["input_ids"][0] if layout.eos is None else [layout.eos]
    encoded = encode(tokenizer, [f"{name}: {each.text}" for each in sentences])
    return [[*ids, *end] for ids in encoded["input_ids"]]


def _samples(shots: Sequence[_Shot], asked: Shots) -> list[list[int]]:
    """The ids of every sample."""
    number = asked.number
    found: list[list[int]] = []
    for start in range(0, len(shots), number):
        sample: list[int] = []
        for place in range(start, start + number):
            sides = [shots[place].own]
            if asked.condition == "translation":
                sides.append(shots[place].english)
            elif asked.condition == "shuffled":
                sides.append(shots[(place + number) % len(shots)].english)
            back = start // number % 2  # from English in every second sample
            sample += [each for ids in (sides[::-1] if back else sides) for each in ids]
        found.append(sample)
    return found


# ---- what the audit tells of demonstrations -------------------------------------------------


def _too_few(
    asked: Shots, tag: str, pairs: int, samples: int, have: int, layout: Layout
) -> list[Finding]:
    """An error where there is nothing to show or to shuffle, a warning where it is all used up."""
    what = "sentences" if tag == ENGLISH else f"pairs with {ENGLISH}"
    if pairs < asked.number:
        words = (
            f"{tag} has {pairs} {what} (train text of equal ids) for samples of {asked.number} "
            "shots. Give records of the same content the same id in both languages, or ask for "
            f"fewer shots, as in {asked.condition}:SRC?shots=1."
        )
        return [Finding("error", tag, "pairs", pairs, words)]
    if asked.condition == "shuffled" and samples < 2 and tag != ENGLISH:
        words = (
            f"{tag} has one sample only, and shuffled pairs need the English of another. Raise "
            "--tokens, or ask for fewer shots."
        )
        return [Finding("error", tag, "one sample", samples, words)]
    if have < layout.tokens:
        shown = "tokens asked for" if tag == ENGLISH else "tokens of translations asked for"
        words = f"{tag} has {have} of the {layout.tokens} {shown}, in {pairs} {what}; all are used."
        return [Finding("warning", tag, "short", have, words)]
    return []
