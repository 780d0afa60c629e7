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

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadSetting
from babelpress.evals._parallel import PairedDocument, Parallel, open_parallel
from babelpress.evals._sentences import pairs_of, tally, vectors
from babelpress.models.around import Around
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text.pieces import padded

METRIC = "retrieval"
SPOKEN = "share of sentences that find their translation"
LOWER_IS_BETTER = False
COMPARED_WITH = "eng_Latn"

POOLS = ("mean", "first")


def texts(corpus: str) -> Parallel:
    """Pairs of every language with English, of the test split of a corpus."""
    return open_parallel(corpus)


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for a way to make one vector of a sentence that is none."""
    _check(options["pool"])


def _check(pool: object) -> None:
    if pool not in POOLS:
        raise BadSetting(f"retrieval has no pool '{pool}'. Choose one of {', '.join(POOLS)}.")


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
    _check(pool)
    tallies = {}
    around = Around.of(tokenizer)
    english: tuple[list[str], Any] = ([], None)  # mostly the same for every language

    def vectors_of(name: str, sentences: list[tuple[str, str]]) -> np.ndarray:
        return vectors(
            model,
            tokenizer,
            name,
            sentences,
            put=around.put,
            embed=partial(_pooled, model, pool=pool),
            window=window,
            what="retrieval",
            progress=progress,
        )

    for tag, some in documents.items():
        pairs = pairs_of(tag, some)
        mine_NH = vectors_of(tag, [(pair.id, prefix + pair.text) for pair in pairs])
        if english[0] != (said := [pair.english for pair in pairs]):
            theirs = [(pair.id, prefix + pair.english) for pair in pairs]
            english = said, vectors_of(f"English beside {tag}", theirs)
        cosine_NN = mine_NH @ english[1].T
        own_N = np.arange(len(pairs))
        hit_N = ((cosine_NN.argmax(0) == own_N) + (cosine_NN.argmax(1) == own_N).astype(float)) / 2
        tallies[tag] = tally(some, hit_N)
    return tallies


def _pooled(model: PreTrainedModel, ids: Sequence[Sequence[int]], *, pool: str) -> np.ndarray:
    """One vector of each sentence (B, H), in float64."""
    ids_BT, mask_BT = (each.to(model.device) for each in padded(ids))
    body: Any = model.base_model
    state_BTH = body(ids_BT, attention_mask=mask_BT)[0].double()
    if pool == "first":
        return state_BTH[:, 0].cpu().numpy()
    keep_BT1 = mask_BT[..., None] > 0
    return (state_BTH.where(keep_BT1, 0.0).sum(1) / keep_BT1.sum(1)).cpu().numpy()
