"""Let a model go on with a text, token by token: how the next one is chosen is the caller's.

Shapes: B texts of one length at once, T positions, V vocabulary.

Tested in tests/text/test_self_written.py and tests/judge/test_generations.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from babelpress.errors import NotFinite


@torch.inference_mode()
def go_on(
    model: Any, prompt_BT: Tensor, length: int, eos: int | None, choose: Callable[[Tensor], Tensor]
) -> Tensor:
    """Extend every prompt to `length` ids, or until all have come to EOS.

    `choose` makes ids (B, 1) of finite logits (B, V), which are float32 and on the CPU: the same
    choice then means the same text on every device's numbers. Raises NotFinite.
    """
    ids_BT = prompt_BT
    done_B = torch.zeros(len(prompt_BT), dtype=torch.bool)
    step_BT, cache = prompt_BT, None
    while ids_BT.shape[1] < length and not bool(done_B.all()):
        out = model(input_ids=step_BT.to(model.device), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        step_BT = choose(_finite(out.logits[:, -1].float().cpu()))
        ids_BT = torch.cat([ids_BT, step_BT], dim=1)
        if eos is not None:
            done_B |= step_BT[:, 0] == eos
    return ids_BT


def before(ids: list[int], eos: int | None) -> list[int]:
    """The ids before EOS; all where there is none."""
    return ids[: ids.index(eos)] if eos in ids else ids


def beginning(text: str, characters: int) -> str:
    """The beginning of a text, ending with a word where spaces part words."""
    cut = text[:characters]
    word = cut.rfind(" ")
    return cut[:word] if word > characters // 2 else cut


def _finite(logits_BV: Tensor) -> Tensor:
    """The logits; a row may have -inf in places (words that are never said), not everywhere."""
    if not bool(logits_BV.isfinite().any(dim=1).all()) or bool(logits_BV.isnan().any()):
        raise NotFinite(
            "the model's logits are NaN or infinite while it writes text. Check its weights, or "
            "load it in another dtype."
        )
    return logits_BV
