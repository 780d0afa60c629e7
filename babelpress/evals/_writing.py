"""What a model writes after prompts: the likeliest token every time, many prompts side by side.

Prompts of a batch are padded on the left, and padding is masked and has no position, so that each
is written on as it would be alone, up to rounding: of two tokens that are as likely to the last bit
of bfloat16, another batch may take the other. So equal texts on one machine make equal batches, the
longest prompts first, unless memory is too little for them. Keys and values of what came before are
kept. A prompt that has come to its end (EOS, a line end where that is one, as many tokens as it may
have) gets masked padding from then on.

Shapes: B prompts of a batch, T positions, V vocabulary.

Tested in tests/evals/test_translate.py.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from babelpress.errors import BadModel, NotFinite
from babelpress.evals._windows import evaluating
from babelpress.models.tokenizers import Tokenizer, check_known, vocabulary_of

ROWS = {"cpu": 16, "other": 64}
EAGER = "eager"
BYTES_PER_LOGIT = 12  # as the model gives them, and their float32 copy with a margin
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ids to write on after, with at most `most` new ones; `name` is told where it goes wrong."""

    name: str
    ids: list[int]
    most: int


def check_writes(model: PreTrainedModel) -> None:
    """Raise BadModel for a model that does not write text from left to right."""
    kind = model.config.model_type
    if not model.can_generate():
        raise BadModel(f"{kind} is no decoder that writes text. Leave this evaluation out.")
    probe_2T = torch.tensor([[0, 1], [0, 2]], device=model.device)
    with torch.inference_mode(), evaluating(model):
        first_2V = _model(model)(input_ids=probe_2T, use_cache=False).logits[:, 0].float()
    if not torch.allclose(*first_2V, rtol=1e-2, atol=1e-2, equal_nan=True):
        raise BadModel(f"{kind} sees later tokens, so it cannot write. Leave this evaluation out.")


def write(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    line: bool = False,
    memory_mb: int = 256,
    told: Told,
) -> list[str]:
    """The text that follows every prompt, without special tokens; with `line` up to a line end.

    The logits of a batch take at most `memory_mb` (2^20 bytes), but one prompt is always done.
    `told` hears how many are done, of how many. Raises NotFinite naming the prompt, BadModel where
    it has tokens that the model does not know.
    """
    for each in prompts:
        check_known(max(each.ids), vocabulary_of(model), each.name)
    writer = _Writer(model, tokenizer, line, _ends(model, tokenizer), {})
    found = [""] * len(prompts)
    done = 0
    with torch.inference_mode(), evaluating(model):
        for places in by_length(prompts, writer.rows(memory_mb << 20)):
            written = writer.batch([prompts[place] for place in places])
            for place, ids in zip(places, written, strict=True):
                found[place] = _before_line_end(tokenizer, ids) if line else _text(tokenizer, ids)
            done += len(places)
            told(done, len(prompts))
    return found


def _text(tokenizer: Tokenizer, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _before_line_end(tokenizer: Tokenizer, ids: list[int]) -> str:
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    return text.partition("\n")[0].strip()


def _model(model: PreTrainedModel) -> Any:
    """The model as what takes any argument, which its annotations do not say."""
    return model


def _ends(model: PreTrainedModel, tokenizer: Tokenizer) -> frozenset[int]:
    """What ends a text: EOS, and whatever else the model's settings name."""
    said = getattr(model.generation_config, "eos_token_id", None)
    more = said if isinstance(said, list) else [said]
    return frozenset(each for each in (tokenizer.eos_token_id, *more) if each is not None)


def by_length(prompts: Sequence[Prompt], rows: Callable[[int], int]) -> Iterator[list[int]]:
    """Places of prompts, the longest first, so that those of like length share a batch."""
    order = sorted(range(len(prompts)), key=lambda place: (-len(prompts[place].ids), place))
    while order:
        size = rows(len(prompts[order[0]].ids))
        yield order[:size]
        order = order[size:]


@dataclass(frozen=True, slots=True)
class _Writer:
    """A model, what ends a text, and which tokens have a line end in them, as far as seen."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    line: bool
    ends: frozenset[int]
    line_ends: dict[int, bool]

    def rows(self, memory: int) -> Callable[[int], int]:
        """How many prompts of a length go into one batch."""
        most = ROWS["cpu" if self.model.device.type == "cpu" else "other"]
        a_row = vocabulary_of(self.model) * BYTES_PER_LOGIT
        last_alone = "logits_to_keep" in self._arguments()

        def fit(length: int) -> int:
            return max(1, min(most, memory // (a_row * (1 if last_alone else length))))

        return fit

    def _arguments(self) -> set[str]:
        return set(inspect.signature(self.model.forward).parameters)

    def batch(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The new ids of every prompt, before EOS; the token with a line end is there."""
        step_BT, mask_BT = (x.to(self.model.device) for x in _padded(prompts))
        position_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
        new: list[list[int]] = [[] for _ in prompts]
        done_B = torch.zeros(len(prompts), dtype=torch.bool)
        out = self._run(step_BT, mask_BT, position_BT, None)
        with _token_by_token(self.model):
            while True:
                next_B = _likeliest(out.logits[:, -1].float().cpu(), done_B, prompts)
                for row, token in enumerate(next_B.tolist()):
                    if not done_B[row]:
                        done_B[row] = self._take(new[row], token, prompts[row].most)
                if bool(done_B.all()):
                    return new
                on_B1 = (~done_B).long()[:, None].to(mask_BT.device)
                step_BT = next_B[:, None].to(mask_BT.device)
                mask_BT = torch.cat([mask_BT, on_B1], dim=1)
                position_BT = position_BT[:, -1:] + on_B1
                out = self._run(step_BT, mask_BT, position_BT, out.past_key_values)

    def _run(self, step_BT: Tensor, mask_BT: Tensor, position_BT: Tensor, cache: Any) -> Any:
        """What the model says of a step; keys and values of what came before are in the cache."""
        known = self._arguments()
        extra: dict[str, Any] = {"position_ids": position_BT} if "position_ids" in known else {}
        if "logits_to_keep" in known:
            extra["logits_to_keep"] = 1
        return _model(self.model)(
            input_ids=step_BT,
            attention_mask=mask_BT,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )

    def _take(self, new: list[int], token: int, most: int) -> bool:
        """Add a token, unless it is an end; gives whether the text has come to one."""
        if token in self.ends:
            return True
        new.append(token)
        return len(new) >= most or (self.line and self._ends_line(token))

    def _ends_line(self, token: int) -> bool:
        if token not in self.line_ends:
            self.line_ends[token] = "\n" in str(self.tokenizer.decode([token]))
        return self.line_ends[token]


@contextmanager
def _token_by_token(model: PreTrainedModel) -> Iterator[None]:
    """Inside, attention is transformers' `sdpa` where a step of one token is slow without it.

    Where heads share keys, `eager` copies all that came before for each of them, at every step.
    """
    there: Any = model
    slow = there.config._attn_implementation == EAGER and any(
        getattr(module, "num_key_value_groups", 1) > 1 for module in there.modules()
    )
    if not (slow and there._supports_sdpa and there._can_set_attn_implementation()):
        yield
        return
    there.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        there.set_attn_implementation(EAGER)


def _padded(prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """Ids and the mask of real ones (B, T), padded on the left."""
    length = max(len(each.ids) for each in prompts)
    ids_BT = torch.zeros(len(prompts), length, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, each in enumerate(prompts):
        ids_BT[row, length - len(each.ids) :] = torch.tensor(each.ids)
        mask_BT[row, length - len(each.ids) :] = 1
    return ids_BT, mask_BT


def _likeliest(logits_BV: Tensor, done_B: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """The likeliest token (B,). A row may have −inf in places, which are never said."""
    best_B, token_B = logits_BV.max(1)
    sound_B = best_B.isfinite() | done_B
    if not bool(sound_B.all()):
        raise not_numbers(prompts[int((~sound_B).nonzero()[0])].name)
    return token_B


def not_numbers(name: str) -> NotFinite:
    """The error for logits after a prompt that are no numbers."""
    return NotFinite(
        f"the logits after {name} are NaN or infinite. Likely causes: (a) a weight of the model "
        "is; (b) the model overflows in float16: load it in bfloat16."
    )
