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

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadModel, BadSetting, NotFinite
from babelpress.evals import Detail, unheard
from babelpress.evals._parallel import PairedDocument, Parallel, open_parallel
from babelpress.evals._windows import evaluating, prefix_of
from babelpress.models.tokenizers import check_known, encode, vocabulary_of
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "mexa"
SPOKEN = "alignment with English"
LOWER_IS_BETTER = False
COMPARED_WITH = "eng_Latn"

METRICS = {"mexa": "weighted", "ranker": "last"}  # and how each pools where nothing is said
POOLS = ("weighted", "mean", "last")
LAYERS = ("mean", "max")
BATCH_TOKENS = 2048


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
    tallies = {}
    for tag, some in documents.items():
        pairs = [pair for document in some for pair in document.pairs]
        if len(pairs) < 2:
            raise BadCorpus(
                f"{tag} has one sentence with an English counterpart, and alignment is with one "
                "among several. Give more documents, or leave the language out."
            )
        sides = {
            tag: [(pair.id, pair.text) for pair in pairs],
            f"English beside {tag}": [(pair.id, pair.english) for pair in pairs],
        }
        mine_NLH, theirs_NLH = (
            _vectors(model, tokenizer, name, side, pool, window, progress)
            for name, side in sides.items()
        )
        score_NL = (_hits if metric == "mexa" else _cosines)(mine_NLH, theirs_NLH)
        score_L = score_NL.mean(0)
        score_N = score_NL[:, score_L.argmax()] if layers == "max" else score_NL.mean(1)
        tallies[tag] = _tally(some, score_N)
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


def _tally(documents: Sequence[PairedDocument], score_N: np.ndarray) -> Tally:
    """Sentence scores over sentences of each document."""
    sizes = [len(each.pairs) for each in documents]
    document_N = np.repeat(np.arange(len(documents)), sizes)
    sum_D = np.bincount(document_N, score_N, minlength=len(documents))
    return Tally(tuple(each.id for each in documents), sum_D, np.array(sizes, dtype=np.float64))


# ---- vectors -------------------------------------------------------------------------------


@torch.inference_mode()
def _vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    sentences: Sequence[tuple[str, str]],
    pool: str,
    window: int,
    progress: Progress,
) -> np.ndarray:
    """The vectors of sentences (id and text), (N, L, H) in float32, of length one."""
    first = prefix_of(tokenizer)
    front = [] if first is None else [first]
    ids = [[*front, *each] for each in encode(tokenizer, [t for _, t in sentences])["input_ids"]]
    check_known(max(max(each) for each in ids), vocabulary_of(model), name)
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
            vector_BLH = _pooled(model, [ids[place] for place in places], len(front), pool)
            for place, vector_LH in zip(places, vector_BLH, strict=True):
                size_L1 = np.linalg.norm(vector_LH, axis=1, keepdims=True)
                if not (np.isfinite(size_L1).all() and size_L1.all()):
                    raise _not_finite(name, sentences[place][0])
                found[place] = vector_LH / size_L1
            done += len(places)
            progress(f"alignment: {name}", done, len(ids))
    return np.stack(found)


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of sentences, the longest first, so that those of like length share a batch."""
    order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
    while order:
        size = max(1, BATCH_TOKENS // len(ids[order[0]]))
        yield order[:size]
        order = order[size:]


def _pooled(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], skipped: int, pool: str
) -> np.ndarray:
    """One vector of each sentence and layer (B, L, H); the first `skipped` tokens are left out."""
    length = max(map(len, ids))
    ids_BT = torch.zeros(len(ids), length, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    weight_BT = torch.zeros(len(ids), length)
    for row, each in enumerate(ids):
        size = len(each)
        ids_BT[row, :size] = torch.tensor(each)
        mask_BT[row, :size] = 1
        weight_BT[row, skipped:size] = _weights(size - skipped, pool)
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


def _not_finite(name: str, sentence: str) -> NotFinite:
    return NotFinite(
        f"a hidden state of '{sentence}' in {name} is NaN, infinite or all zero. Likely causes: "
        "(a) a weight of the model is; (b) the model overflows in float16: load it in bfloat16."
    )


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
