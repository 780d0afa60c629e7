"""How a model reads text: how much at once, whether on both sides of a token, and what a decoder
reads of what it is to write.

Shapes: B pairs, T positions of a target.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.models import experts
from babelpress.models.recording import other_text

NOISE = 1e-5  # of a state, relative: what other groups of rows to multiply leave in float32


@torch.inference_mode()
def sees_both_sides(model: PreTrainedModel) -> bool:
    """Whether other tokens after the first change what the body of a model makes of the first.

    Told by running it, never by names; it must be in evaluation mode. In a decoder nothing changes
    at all, but for rounding where experts are grouped otherwise; in an encoder, measured on
    multilingual E5 small, half of the state does, and in models that were never trained 0.4 %.
    The encoder of an encoder-decoder always does.
    """
    if model.config.is_encoder_decoder:
        return True
    text_1T = other_text(model).to(model.device)
    other_1T = text_1T[:, :1].expand_as(text_1T)
    with experts.computed(model):
        one_H, two_H = (
            model.base_model(ids, attention_mask=torch.ones_like(ids))[0][0, 0].double()
            for ids in (text_1T, other_1T)
        )
    limit = max(NOISE, torch.finfo(model.dtype).eps / 2)
    return bool((one_H - two_H).norm() > limit * one_H.norm())


class _Caught(Exception):
    """Ends a forward pass that was made to see what a decoder is handed."""


@torch.no_grad()
def decoder_ids(model: PreTrainedModel, label_BT: Tensor) -> Tensor:
    """What a decoder reads (B, T) where it is to write labels (-100 where there are none).

    As transformers shifts them, which differs by family: the model itself is asked.
    """
    found: list[Tensor] = []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(kwargs["input_ids"] if "input_ids" in kwargs else args[0])
        raise _Caught

    table_VH: Any = model.get_input_embeddings().weight
    asked: Any = model
    hook = model.get_decoder().register_forward_pre_hook(catch, with_kwargs=True)
    encoded_B1H = table_VH.new_zeros(len(label_BT), 1, table_VH.shape[1])
    try:
        asked(encoder_outputs=(encoded_B1H,), labels=label_BT.to(table_VH.device))
    except _Caught:
        return found[0].cpu()
    finally:
        hook.remove()
    raise AssertionError("a pass with labels runs the decoder")


def positions_of(model: PreTrainedModel) -> int | None:
    """How many tokens fit at once; None where the config sets no limit.

    A table of positions that has a row for padding, as those of RoBERTa's kind, begins after it.
    """
    limit: Any = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return None
    tables = (each for each in model.modules() if isinstance(each, nn.Embedding))
    found = (each.padding_idx for each in tables if each.num_embeddings == limit)
    return limit - max((index + 1 for index in found if index is not None), default=0)
