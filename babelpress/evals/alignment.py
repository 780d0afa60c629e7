"""Alignment: how near a sentence lies to its English translation inside the model.

`metric=mexa` (Kargaran et al. 2024, arXiv:2410.05873, section 3): a sentence is aligned at a layer
where its cosine with its translation is larger than with every other English sentence, and than
that of the translation with every other sentence of the language. The score is the share of aligned
ones, as the mean over layers or (`layers=max`) at the layer where the language has most. It falls
with the number of sentences to choose among, and those are all that are scored: compare equal
numbers only; the paper takes 100. `metric=ranker` (Li et al. 2024, arXiv:2404.11553, Language
Ranker): the mean over sentences and layers of that cosine, which may be below zero.

A sentence is a vector at every layer, the embeddings and the output of every block: of its tokens'
hidden states the mean weighted by place (`pool=weighted`, the default of mexa), the plain `mean`,
or the `last` one (the default of ranker). A corpus needs English, and sentences with the ids of
English ones, as FLORES has them.

Weights by place are 1 for the first token, 2 for the second and so on. The papers have BOS in the
mean where a tokenizer puts it; we leave it out, for its state is of another size and the same in
every sentence. With `layers=max` the layer is the one of all documents, and is not chosen anew in a
bootstrap; nor are the sentences to choose among.

English is read anew for every language. The vectors of both take 4 bytes × sentences × 2 × layers ×
hidden size of memory.

Shapes: N sentences, L layers, H hidden size, B sentences of a batch, T positions, D documents.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadModel, BadSetting
from babelpress.evals import Detail, unheard
from babelpress.evals._parallel import PairedDocument, Parallel, open_parallel
from babelpress.evals._sentences import pairs_of, tally, vectors
from babelpress.evals._windows import prefix_of
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text.pieces import padded

METRIC = "mexa"
SPOKEN = "alignment with English"
LOWER_IS_BETTER = False
COMPARED_WITH = "eng_Latn"

METRICS = {"mexa": "weighted", "ranker": "last"}  # and how each pools where nothing is said
POOLS = ("weighted", "mean", "last")
LAYERS = ("mean", "max")


def texts(corpus: str) -> Parallel:
    """Pairs of every language with English, of the test split of a corpus."""
    return open_parallel(corpus)


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for a metric, a pool or layers that are none."""
    _checked(options["metric"], options["pool"], options["layers"])


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[PairedDocument]],
    *,
    window: int,
    metric: str = METRIC,
    pool: str = "",
    layers: str = "mean",
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of hits (or cosines) over sentences per language.

    `pool` is weighted, mean or last; empty as the paper of the metric has it. `layers` is mean or,
    for mexa, max. `detail` is told the score at every layer. Raises BadSetting for other options or
    a sentence longer than the window, BadCorpus for fewer than two sentences, NotFinite naming the
    sentence.
    """
    pool = _checked(metric, pool, layers)
    first = prefix_of(tokenizer)
    front = [] if first is None else [first]
    tallies = {}
    for tag, some in documents.items():
        pairs = pairs_of(tag, some)
        sides = {
            tag: [(pair.id, pair.text) for pair in pairs],
            f"English beside {tag}": [(pair.id, pair.english) for pair in pairs],
        }
        mine_NLH, theirs_NLH = (
            vectors(
                model,
                tokenizer,
                name,
                side,
                put=lambda ids: [*front, *ids],
                embed=partial(_pooled, model, skipped=len(front), pool=pool),
                window=window,
                what="alignment",
                progress=progress,
            )
            for name, side in sides.items()
        )
        score_NL = (_hits if metric == "mexa" else _cosines)(mine_NLH, theirs_NLH)
        score_L = score_NL.mean(0)
        score_N = score_NL[:, score_L.argmax()] if layers == "max" else score_NL.mean(1)
        tallies[tag] = tally(some, score_N)
        detail(tag, {f"layer {layer:02}": float(each) for layer, each in enumerate(score_L)})
    return tallies


def _checked(metric: object, pool: object, layers: object) -> str:
    """How vectors are pooled. Raises BadSetting."""
    asked = (
        ("metric", metric, METRICS),
        ("pool", pool or POOLS[0], POOLS),
        ("layers", layers, LAYERS),
    )
    for name, value, allowed in asked:
        if value not in allowed:
            raise BadSetting(
                f"alignment has no {name} '{value}'. Choose one of {', '.join(allowed)}."
            )
    if metric == "ranker" and layers == "max":
        raise BadSetting("ranker is a mean over layers. Leave layers=max out, or take metric=mexa.")
    return str(pool or METRICS[str(metric)])


# ---- vectors -------------------------------------------------------------------------------


def _pooled(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], *, skipped: int, pool: str
) -> np.ndarray:
    """One vector of each sentence and layer (B, L, H); the first `skipped` tokens are left out."""
    ids_BT, mask_BT = padded(ids)
    weight_BT = torch.zeros(ids_BT.shape)
    for row, each in enumerate(ids):
        weight_BT[row, skipped : len(each)] = _weights(len(each) - skipped, pool)
    body: Any = model.base_model
    out = body(
        input_ids=ids_BT.to(model.device),
        attention_mask=mask_BT.to(model.device),
        output_hidden_states=True,
        use_cache=False,
    )
    if out.hidden_states is None:
        raise BadModel(f"{model.config.model_type} does not show its hidden states.")
    weight_BT = weight_BT.to(model.device)
    # Padding may be NaN where attention has nothing to look at; a weight of zero would keep it.
    keep_BT1 = weight_BT[..., None] > 0
    pooled = [_sum(each.float().where(keep_BT1, 0.0), weight_BT) for each in out.hidden_states]
    return torch.stack(pooled, dim=1).cpu().numpy()


def _weights(tokens: int, pool: str) -> Tensor:
    """What each token of a sentence counts for; they sum to one, where there are any."""
    if pool == "last" and tokens:
        return torch.nn.functional.one_hot(torch.tensor(tokens - 1), tokens).float()
    place_T = torch.arange(1, tokens + 1).float() if pool == "weighted" else torch.ones(tokens)
    return place_T / place_T.sum()


def _sum(hidden_BTH: Tensor, weight_BT: Tensor) -> Tensor:
    return torch.einsum("bth,bt->bh", hidden_BTH, weight_BT)


# ---- scores --------------------------------------------------------------------------------


def _hits(mine_NLH: np.ndarray, theirs_NLH: np.ndarray) -> np.ndarray:
    """1 where a sentence finds its translation and is found by it, else 0: (N, L)."""
    sentences, layers, _ = mine_NLH.shape
    hit_NL = np.zeros((sentences, layers))
    for layer in range(layers):
        cosine_NN = mine_NLH[:, layer].astype(np.float64) @ theirs_NLH[:, layer].T
        own_N = cosine_NN.diagonal().copy()
        np.fill_diagonal(cosine_NN, -np.inf)
        hit_NL[:, layer] = own_N > np.maximum(cosine_NN.max(0), cosine_NN.max(1))
    return hit_NL


def _cosines(mine_NLH: np.ndarray, theirs_NLH: np.ndarray) -> np.ndarray:
    """The cosine of a sentence with its translation: (N, L)."""
    return np.einsum("nlh,nlh->nl", mine_NLH.astype(np.float64), theirs_NLH)
