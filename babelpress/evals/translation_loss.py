"""Translation loss: bits per byte of a translation, given the sentence that it is of.

The decoder of an encoder-decoder is shown the reference up to each token and has to predict that
token; the negative log-likelihoods of the tokens of the text, in bits, are divided by the UTF-8
bytes of the text, by direction of translation (eng_Latn>swh_Latn). Marks, those of languages and of
the end among them, carry no bytes and are not scored. So it is bits_per_byte with a source, and one
model can be compared with another that was made of it, direction by direction, without a
translation being written.

Sentences are read one by one, each beside the record of equal id in the other language, both of the
test split; a document is all pairs of equal `doc`. By default languages are scored out of English
and into it; --languages 'sw>ha' names another direction.

Shapes: B pairs of a batch, S positions of a source, T of a target, V vocabulary, D documents.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals._next_token import BYTES_PER_LOGIT, not_finite
from babelpress.evals._windows import evaluating
from babelpress.models.reading import decoder_ids
from babelpress.models.sides import padded, there
from babelpress.models.tokenizers import check_known, vocabulary_of
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text.corpus import Corpus, Sentence, open_corpus
from babelpress.text.languages import sides
from babelpress.text.marks import Marks
from babelpress.text.translations import IGNORED, Ways

METRIC = "translation_bits_per_byte"
SPOKEN = "bits per byte of the translation"
LOWER_IS_BETTER = True
PAIRED = "only"

ROWS = 32  # pairs in a batch at most


@dataclass(frozen=True, slots=True)
class PairedText:
    """The sentences of one document and their translations: (source, target) texts."""

    id: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """Both sides of all pairs: with another source a score is another one."""
        return "\n".join(f"{source}\n{target}" for source, target in self.pairs)


class Directions:
    """The pairs of a corpus by direction of translation."""

    def __init__(self, corpus: Corpus):
        self._corpus = corpus
        self._read: dict[str, dict[str, Sentence]] = {}

    @property
    def name(self) -> str:
        """How the corpus was asked for."""
        return self._corpus.name

    def says(self) -> tuple[str, ...]:
        """A sentence about what lies here and is not read; none where all is."""
        return self._corpus.says()

    def languages(self) -> list[str]:
        """The directions with English. Raises BadCorpus for a corpus without it."""
        return Ways(self._corpus).languages()

    def require(self, tags: Iterable[str]) -> None:
        """Raise BadCorpus for a language without a file, or one that is no direction."""
        for way in tags:
            if len(sides(way)) == 1:
                raise BadCorpus(
                    f"{way} is a language, and translation_loss scores directions. Write "
                    f"--languages '{way}>LANG'."
                )
            self._corpus.require(sides(way))

    def documents(self, tag: str, split: str) -> list[PairedText]:
        """The documents of a direction that have pairs, in the order of the target's file.

        Raises BadCorpus where no sentence of the split has an id that the other language has.
        """
        self.require([tag])
        source, target = sides(tag)
        read, grouped = self._sentences(source, split), {}
        for name, each in self._sentences(target, split).items():
            if name in read:
                grouped.setdefault(each.document, []).append((read[name].text, each.text))
        if not grouped:
            raise BadCorpus(
                f"{self.name} has no sentence of its {split} split with one id in {source} and "
                f"{target}. Name a parallel corpus, such as FLORES, or leave {tag} out."
            )
        return [PairedText(name, tuple(pairs)) for name, pairs in grouped.items()]

    def _sentences(self, tag: str, split: str) -> dict[str, Sentence]:
        """The sentences of a language by id; of several with one id the first."""
        if tag not in self._read:
            found: dict[str, Sentence] = {}
            for each in self._corpus.sentences(tag):
                if each.id:
                    found.setdefault(each.id, each)
            self._read[tag] = found
        return {name: each for name, each in self._read[tag].items() if each.split == split}


def texts(corpus: str) -> Directions:
    """Pairs of the test split of a corpus, by direction of translation."""
    return Directions(open_corpus(corpus))


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[PairedText]],
    *,
    window: int,
    memory_mb: int = 256,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of bits over bytes per direction.

    `window` is how many tokens a side may have. Logits take at most `memory_mb` (2^20 bytes), but
    one pair is always read. Raises BadModel for what is no encoder-decoder, BadSetting for a
    direction that the tokenizer has no token for or a sentence that does not fit, NotFinite naming
    the document.
    """
    if not model.config.is_encoder_decoder:
        raise BadModel(
            f"{model.config.model_type} is no encoder-decoder, whose translations are scored by "
            "translation_loss. Score it with --on bits_per_byte, or --on translate."
        )
    marks = Marks.of(tokenizer, model.config.model_type)
    marks.check(list(documents))
    prepared = {way: _prepared(marks, model, way, some, window) for way, some in documents.items()}
    total = sum(each.scored for pairs in prepared.values() for each in pairs)
    done, tallies = 0, {}
    with torch.inference_mode(), evaluating(model):
        for way, pairs in prepared.items():
            nats_D = np.zeros(len(documents[way]))
            for batch in _batches(pairs, _rows(model, memory_mb << 20)):
                for pair, number in zip(batch, _nats(model, marks, batch), strict=True):
                    if not math.isfinite(number):
                        raise not_finite(way, documents[way][pair.document].id)
                    nats_D[pair.document] += number
                done += sum(pair.scored for pair in batch)
                progress("translation_loss", done, total)
            tallies[way] = _tally(documents[way], nats_D)
    return tallies


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both sides of a sentence of a document, by its place; `front` marks stand before the text.

    `scored` tokens of the labels are text.
    """

    document: int
    source: list[int]
    labels: list[int]
    front: int
    scored: int


def _prepared(
    marks: Marks,
    model: PreTrainedModel,
    way: str,
    documents: Sequence[PairedText],
    window: int,
) -> list[_Pair]:
    """The pairs of a direction in token ids, shortest first."""
    places = [place for place, each in enumerate(documents) for _ in each.pairs]
    read, written = zip(*(pair for each in documents for pair in each.pairs), strict=True)
    sources, targets = marks.source(way, read), marks.target(way, written)
    around = marks.around_target(way)
    highest = max(number for ids in (*sources, *targets) for number in ids)
    check_known(highest, vocabulary_of(model), way)
    found = [
        _Pair(place, source, labels, len(around.front), len(labels) - around.number)
        for place, source, labels in zip(places, sources, targets, strict=True)
    ]
    longest = max(found, key=lambda each: max(len(each.source), len(each.labels)))
    size = max(len(longest.source), len(longest.labels))
    if size > window:
        raise BadSetting(
            f"a sentence of '{documents[longest.document].id}' in {way} takes {size} tokens, and "
            f"the window has {window}. Give --window {size}, where the model has as many "
            "positions, or shorter text."
        )
    return sorted(found, key=lambda each: (len(each.labels), len(each.source)))


def _rows(model: PreTrainedModel, memory: int) -> int:
    """Positions of targets whose logits, all at once, take that many bytes."""
    return memory // BYTES_PER_LOGIT // vocabulary_of(model)


def _batches(pairs: Sequence[_Pair], positions: int) -> Iterator[list[_Pair]]:
    """Consecutive pairs that have at most so many positions with their padding, or one pair."""
    batch: list[_Pair] = []
    for pair in pairs:  # shortest first, so the newest one sets the width
        if batch and (len(batch) == ROWS or (len(batch) + 1) * len(pair.labels) > positions):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _nats(model: PreTrainedModel, marks: Marks, batch: Sequence[_Pair]) -> list[float]:
    """Negative log-likelihoods of the text of every pair, float32 in each token."""
    pad = marks.tokenizer.pad_token_id
    sources = [each.source for each in batch]
    label_BT = padded([each.labels for each in batch], IGNORED)
    target_BT = decoder_ids(model, label_BT)
    asked: Any = model
    device = model.device
    logits_BTV: Tensor = asked(
        input_ids=padded(sources, pad or 0).to(device),
        attention_mask=there(sources).long().to(device),
        decoder_input_ids=target_BT.to(device),
        use_cache=False,
    ).logits
    place_T = torch.arange(label_BT.shape[1])
    first_B1 = torch.tensor([[each.front] for each in batch])
    last_B1 = first_B1 + torch.tensor([[each.scored] for each in batch])
    text_BT = (place_T >= first_B1) & (place_T < last_B1)
    nats_N = functional.cross_entropy(
        logits_BTV[text_BT.to(device)].float(), label_BT[text_BT].to(device), reduction="none"
    )
    row_N = text_BT.nonzero()[:, 0]
    sum_B = torch.zeros(len(batch), dtype=torch.float64)
    return sum_B.index_add_(0, row_N, nats_N.double().cpu()).tolist()


def _tally(documents: Sequence[PairedText], nats_D: np.ndarray) -> Tally:
    names = tuple(each.id for each in documents)
    sizes = [sum(len(target.encode()) for _, target in each.pairs) for each in documents]
    return Tally(names, nats_D / math.log(2), np.array(sizes, dtype=float))
