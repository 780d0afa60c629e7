"""Sentences as vectors, a few at a time, and what is scored of pairs of them by document.

Shapes: N sentences, B of a batch, T tokens of the longest of them, H hidden size; L layers where an
evaluation looks at more than one.

Tested in tests/evals/test_alignment.py.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadSetting, NotFinite
from babelpress.evals._parallel import Pair, PairedDocument
from babelpress.evals._windows import evaluating
from babelpress.models.tokenizers import check_known, encode, vocabulary_of
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress

BATCH_TOKENS = 2048

Embed = Callable[[Sequence[Sequence[int]]], np.ndarray]
"""From the tokens of B sentences their vectors, (B, H) or (B, L, H)."""


def pairs_of(tag: str, documents: Sequence[PairedDocument]) -> list[Pair]:
    """All pairs of a language. Raises BadCorpus where there is one alone."""
    pairs = [pair for document in documents for pair in document.pairs]
    if len(pairs) < 2:
        raise BadCorpus(
            f"{tag} has one sentence with an English counterpart, and it is to be told from "
            "others. Give more documents, or leave the language out."
        )
    return pairs


@torch.inference_mode()
def vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    sentences: Sequence[tuple[str, str]],
    *,
    put: Callable[[list[int]], list[int]],
    embed: Embed,
    window: int,
    what: str,
    progress: Progress,
) -> np.ndarray:
    """Of sentences (id and text) what `embed` makes of each, of length one: (N, H) or (N, L, H).

    `put` puts special tokens around those of a sentence; `name` is whose sentences they are. Raises
    BadSetting for one that is longer than the window, NotFinite naming it.
    """
    ids = [put(each) for each in encode(tokenizer, [text for _, text in sentences])["input_ids"]]
    check_known(max(max(each, default=0) for each in ids), vocabulary_of(model), name)
    longest = max(range(len(ids)), key=lambda place: len(ids[place]))
    if len(ids[longest]) > window:
        raise BadSetting(
            f"'{sentences[longest][0]}' of {name} has {len(ids[longest])} tokens, and the window "
            f"{window}. Where the model has more positions, give --window {len(ids[longest])}."
        )
    found: list[np.ndarray] = [np.zeros(0)] * len(ids)
    done = 0
    with evaluating(model):
        for places in _batches(ids):
            for place, vector in zip(places, embed([ids[at] for at in places]), strict=True):
                size = np.linalg.norm(vector, axis=-1, keepdims=True)
                if not (np.isfinite(size).all() and size.all()):
                    raise _not_finite(name, sentences[place][0])
                found[place] = vector / size
            done += len(places)
            progress(f"{what}: {name}", done, len(ids))
    return np.stack(found)


def tally(documents: Sequence[PairedDocument], score_N: np.ndarray) -> Tally:
    """Sentence scores over sentences of each document."""
    sizes = [len(each.pairs) for each in documents]
    document_N = np.repeat(np.arange(len(documents)), sizes)
    sum_D = np.bincount(document_N, score_N, minlength=len(documents))
    return Tally(tuple(each.id for each in documents), sum_D, np.array(sizes, dtype=np.float64))


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of sentences, the longest first, so that those of like length share a batch."""
    order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
    while order:
        size = max(1, BATCH_TOKENS // max(1, len(ids[order[0]])))
        yield order[:size]
        order = order[size:]


def _not_finite(name: str, sentence: str) -> NotFinite:
    return NotFinite(
        f"a hidden state of '{sentence}' in {name} is NaN, infinite or all zero. Likely causes: "
        "(a) a weight of the model is; (b) the model overflows in float16: load it in bfloat16."
    )
