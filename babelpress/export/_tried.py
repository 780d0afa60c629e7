"""What a model gives on real text of many languages, before and after an export rounds it.

Tested in tests/export/test_onnx.py.

Shapes: B texts of a batch, T positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.export._source import Source
from babelpress.models.reading import positions_of
from babelpress.text.corpus import open_corpus
from babelpress.text.pieces import padded

TEXTS, LONGEST, TOGETHER = 24, 64, 2  # texts that are tried, tokens of one, and how many at once
INPUTS: tuple[str, ...] = ("input_ids", "attention_mask")

Feed = Mapping[str, Tensor]  # ids and mask (B, T)
Found = list[dict[str, np.ndarray]]  # of every text the outputs by name, float64, no padding


@dataclass(frozen=True, slots=True)
class Texts:
    """Some texts, each of a language, and the batches that they are in, in their order."""

    tags: tuple[str, ...]
    feeds: tuple[Feed, ...]


def texts_of(source: Source) -> Texts:
    """Embedded texts, a long one and a short one at a time; the run's languages first."""
    corpus, tokenizer = open_corpus("embedded"), source.opened.tokenizer
    there = corpus.languages()
    shares = [tag for tag, share in (source.shares or {}).items() if share > 0 and tag in there]
    tags = list(dict.fromkeys([*shares, *there]))[:TEXTS]
    longest = min(LONGEST, positions_of(source.opened.model) or LONGEST)
    every = [
        tokenizer(
            corpus.documents(tag, "test")[0].text,
            truncation=True,
            max_length=longest // (1 + place % TOGETHER),
        )["input_ids"]
        for place, tag in enumerate(tags)
    ]
    padding = tokenizer.pad_token_id
    beside = padding if isinstance(padding, int) else 0
    feeds = (
        dict(zip(INPUTS, padded(every[start : start + TOGETHER], beside), strict=True))
        for start in range(0, len(every), TOGETHER)
    )
    return Texts(tuple(tags), tuple(feeds))


class Named(nn.Module):
    """A model of two inputs whose outputs are tensors: those of its head, else its last states."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def outputs(self, feed: Feed) -> dict[str, Tensor]:
        """The outputs by name."""
        every = self.model(**feed, return_dict=True)
        tensors = {name: each for name, each in every.items() if isinstance(each, Tensor)}
        last = tensors.get("last_hidden_state")
        return tensors if last is None else {"last_hidden_state": last}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """The outputs in their order."""
        feed: Feed = {INPUTS[0]: input_ids, INPUTS[1]: attention_mask}
        return tuple(self.outputs(feed).values())


def in_torch(model: PreTrainedModel, texts: Texts) -> Found:
    """What PyTorch computes, in the dtype of the model."""
    named, device, found = Named(model), model.device, []
    with torch.inference_mode():
        for feed in texts.feeds:
            outputs = named.outputs({name: each.to(device) for name, each in feed.items()})
            numbers = {n: o.double().cpu().numpy() for n, o in outputs.items()}
            found += by_text(feed, numbers)
    return found


def by_text(feed: Feed, outputs: Mapping[str, np.ndarray]) -> Found:
    """The outputs of a batch by text, without those of padding where there is one a position."""
    mask_BT = feed["attention_mask"].numpy().astype(bool)
    return [
        {
            name: (each[row][mask_T] if each.shape[:2] == mask_BT.shape else each[row]).astype(
                np.float64
            )
            for name, each in outputs.items()
        }
        for row, mask_T in enumerate(mask_BT)
    ]


def finite(found: Found) -> bool:
    """Whether all outputs are numbers."""
    return all(np.isfinite(each).all() for outputs in found for each in outputs.values())


def largest(found: Found) -> float:
    """The largest output, without its sign."""
    return max(float(abs(each).max()) for outputs in found for each in outputs.values())


def apart(one: Found, other: Found) -> float:
    """The largest difference of two outputs."""
    return largest(
        [{n: a[n] - b[n] for n in a} for a, b in zip(one, other, strict=True)],
    )


def change(texts: Texts, before: Found, after: Found) -> str:
    """How much outputs change, root mean square, of their size; and in which language most."""
    off = [_squares({n: a[n] - b[n] for n in a}) for a, b in zip(before, after, strict=True)]
    size = [_squares(each) for each in before]
    shares = [(o / s) ** 0.5 for o, s in zip(off, size, strict=True)]
    most = max(range(len(shares)), key=shares.__getitem__)
    return (
        f"{(sum(off) / sum(size)) ** 0.5:.1%} of their size, root mean square "
        f"(most in {texts.tags[most]}: {shares[most]:.1%})"
    )


def _squares(outputs: Mapping[str, np.ndarray]) -> float:
    return sum(float(np.square(each).sum()) for each in outputs.values())
