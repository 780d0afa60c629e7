"""Retrieval: the share of sentences that find their English translation, and are found by it.

A sentence is one vector, as embedding models are used: its tokens through the model with the
special tokens of an encoder around it, then the mean of the last hidden states (`pool=
mean`) or that of the first token (`pool=first`). Nearest is the largest cosine among all sentences
of the other language that are scored; the score of a sentence is the mean of both directions, 0, ½
or 1, as in the bitext retrieval of Tatoeba (Artetxe and Schwenk 2019, arXiv:1812.10464, section
4.3). It falls with the number of sentences to choose among: compare equal numbers only.

`prefix` stands before every sentence: multilingual E5 was trained with `query: `. A corpus needs
English, and sentences with the ids of English ones, as FLORES has them.

Shapes: N sentences, B of a batch, T tokens of the longest of them, H hidden size.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadSetting, NotFinite
from babelpress.evals._around import Around
from babelpress.evals._parallel import PairedDocument, Parallel, open_parallel
from babelpress.evals._windows import evaluating
from babelpress.models.tokenizers import check_known, encode, vocabulary_of
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "retrieval"
SPOKEN = "share of sentences that find their translation"
LOWER_IS_BETTER = False

POOLS = ("mean", "first")
BATCH_TOKENS = 2048


def texts(corpus: str) -> Parallel:
    """Pairs of every language with English, of the test split of a corpus."""
    return open_parallel(corpus)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[PairedDocument]],
    *,
    window: int,
    pool: str = "mean",
    prefix: str = "",
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of sentences that find and are found over sentences per language.

    Raises BadSetting for another pool or a sentence longer than the window, BadCorpus for fewer
    than two sentences, NotFinite naming the sentence.
    """
    if pool not in POOLS:
        raise BadSetting(f"retrieval has no pool '{pool}'. Choose one of {', '.join(POOLS)}.")
    tallies = {}
    english: tuple[list[str], Any] = ([], None)  # mostly the same for every language
    for tag, some in documents.items():
        pairs = [pair for document in some for pair in document.pairs]
        if len(pairs) < 2:
            raise BadCorpus(
                f"{tag} has one sentence with an English counterpart, and it is to be found among "
                "several. Give more documents, or leave the language out."
            )
        asked = model, tokenizer, pool, window, progress
        mine_NH = _vectors(tag, [(pair.id, prefix + pair.text) for pair in pairs], *asked)
        if english[0] != (said := [pair.english for pair in pairs]):
            theirs = [(pair.id, prefix + pair.english) for pair in pairs]
            english = said, _vectors(f"English beside {tag}", theirs, *asked)
        cosine_NN = mine_NH @ english[1].T
        own_N = np.arange(len(pairs))
        hit_N = ((cosine_NN.argmax(0) == own_N) + (cosine_NN.argmax(1) == own_N).astype(float)) / 2
        sizes = [len(each.pairs) for each in some]
        ends = np.cumsum([0, *sizes])[:-1]
        names = tuple(each.id for each in some)
        tallies[tag] = Tally(names, np.add.reduceat(hit_N, ends), np.array(sizes, dtype=float))
    return tallies


@torch.inference_mode()
def _vectors(
    name: str,
    sentences: Sequence[tuple[str, str]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pool: str,
    window: int,
    progress: Progress,
) -> np.ndarray:
    """The vectors of sentences (id and text), (N, H) in float64, of length one."""
    around = Around.of(tokenizer)
    ids = [around.put(each) for each in encode(tokenizer, [t for _, t in sentences])["input_ids"]]
    check_known(max(max(each, default=0) for each in ids), vocabulary_of(model), name)
    longest = max(range(len(ids)), key=lambda place: len(ids[place]))
    if len(ids[longest]) > window:
        raise BadSetting(
            f"'{sentences[longest][0]}' of {name} has {len(ids[longest])} tokens, and the window "
            f"{window}. Where the model has more positions, give --window {len(ids[longest])}."
        )
    found: list[Any] = [None] * len(ids)
    done = 0
    with evaluating(model):
        for places in _batches(ids):
            vector_BH = _pooled(model, [ids[place] for place in places], pool)
            for place, vector_H in zip(places, vector_BH, strict=True):
                size = np.linalg.norm(vector_H)
                if not (np.isfinite(size) and size):
                    raise NotFinite(
                        f"the vector of '{sentences[place][0]}' in {name} is NaN, infinite or all "
                        "zero. Is a weight of the model?"
                    )
                found[place] = vector_H / size
            done += len(places)
            progress(f"retrieval: {name}", done, len(ids))
    return np.stack(found)


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of sentences, the longest first, so that those of like length share a batch."""
    order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
    while order:
        size = max(1, BATCH_TOKENS // max(1, len(ids[order[0]])))
        yield order[:size]
        order = order[size:]


def _pooled(model: PreTrainedModel, ids: Sequence[Sequence[int]], pool: str) -> np.ndarray:
    """One vector of each sentence (B, H), in float64."""
    length = max(map(len, ids))
    ids_BT, mask_BT = torch.zeros((2, len(ids), length), dtype=torch.long)
    for row, each in enumerate(ids):
        ids_BT[row, : len(each)] = torch.tensor(each)
        mask_BT[row, : len(each)] = 1
    mask_BT = mask_BT.to(model.device)
    body: Any = model.base_model
    state_BTH = body(ids_BT.to(model.device), attention_mask=mask_BT)[0].double()
    if pool == "first":
        return state_BTH[:, 0].cpu().numpy()
    keep_BT1 = mask_BT[..., None] > 0
    return (state_BTH.where(keep_BT1, 0.0).sum(1) / keep_BT1.sum(1)).cpu().numpy()
