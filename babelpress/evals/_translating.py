"""What an encoder-decoder writes of a source: the likeliest token every time, many side by side.

transformers' own `generate`, with what the model's settings say of how a text begins and ends, and
of tokens that are never said (`KEPT`), and with nothing else of them: beams, penalties of lengths
and repetitions, least and greatest lengths differ from model to model, and what forbids to repeat
hides that a pressed model does. A translation begins with the token of its language where the model
has such. Sources are
padded behind, and padding is masked, so that each is translated as it would be alone, up to
rounding. Equal texts on one machine make equal batches, the longest sources first.

Shapes: B sources of a batch, S positions, V vocabulary.

Tested in tests/evals/test_translate.py.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
)

from babelpress.evals._windows import evaluating
from babelpress.evals._writing import BYTES_PER_LOGIT, ROWS, Prompt, Told, by_length, not_numbers
from babelpress.models.quiet import quiet
from babelpress.models.sides import padded, there
from babelpress.models.tokenizers import Tokenizer, check_known, vocabulary_of

# Of the settings of a model: how a text begins and ends, and what is no text.
KEPT = (
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip


def translated(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    sources: Sequence[Prompt],
    forced: int | None,
    *,
    memory_mb: int = 256,
    told: Told,
) -> list[str]:
    """The translation of every source, without special tokens; each begins after `forced`.

    The logits of a batch take at most `memory_mb` (2^20 bytes), but one source is always done.
    `told` hears how many are done, of how many. Raises NotFinite naming a source of the batch,
    BadModel where it has tokens that the model does not know.
    """
    known = vocabulary_of(model)
    for each in sources:
        check_known(max(each.ids), known, each.name)
    most = ROWS["cpu" if model.device.type == "cpu" else "other"]
    rows = max(1, min(most, (memory_mb << 20) // (known * BYTES_PER_LOGIT)))
    found = [""] * len(sources)
    done = 0
    with torch.inference_mode(), evaluating(model):
        for places in by_length(sources, lambda _: rows):
            batch = [sources[place] for place in places]
            for place, ids in zip(places, _written(model, tokenizer, batch, forced), strict=True):
                found[place] = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
            done += len(places)
            told(done, len(sources))
    return found


def _written(
    model: PreTrainedModel, tokenizer: Tokenizer, batch: Sequence[Prompt], forced: int | None
) -> list[list[int]]:
    """The ids of every translation, before its end, and no more than it may have."""
    begins: dict[str, Any] = {"forced_bos_token_id": forced} if forced is not None else {}
    most = max(each.most for each in batch) + len(begins)
    ids_BS = padded([each.ids for each in batch], tokenizer.pad_token_id or 0).to(model.device)
    mask_BS = there([each.ids for each in batch]).long().to(model.device)
    asked: Any = model
    with quiet(), warnings.catch_warnings(), _plain(model) as settings:
        warnings.simplefilter("ignore")  # of a tokenizer's own length
        settings.update(**begins, max_new_tokens=most)
        written_BT: Tensor = asked.generate(
            input_ids=ids_BS,
            attention_mask=mask_BS,
            logits_processor=LogitsProcessorList([_Sound(batch)]),
        )
    ends = settings.eos_token_id
    ends = {*ends} if isinstance(ends, list) else {ends}
    found = []
    for each, ids in zip(batch, written_BT[:, 1 + len(begins) :].tolist(), strict=True):
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        found.append(ids[: min(end, each.most)])
    return found


@contextmanager
def _plain(model: PreTrainedModel) -> Iterator[GenerationConfig]:
    """Inside, a model has no settings but KEPT: `generate` fills what it is not told from them."""
    own: Any = model.generation_config
    plain = GenerationConfig(**{name: getattr(own, name, None) for name in KEPT})
    model.generation_config = plain
    try:
        yield plain
    finally:
        model.generation_config = own


class _Sound(LogitsProcessor):
    """Raises NotFinite where no token can be told to be the likeliest."""

    def __init__(self, batch: Sequence[Prompt]):
        self._batch = batch

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        sound_B = scores.amax(1).isfinite()
        if not bool(sound_B.all()):
            raise not_numbers(self._batch[int((~sound_B).nonzero()[0])].name)
        return scores
