"""The special tokens that an encoder has around a text: CLS or BOS in front, SEP or EOS behind.

Tested in tests/evals/test_masked.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Around:
    """At most one token on each side."""

    front: list[int]
    behind: list[int]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Around":
        """Those of a tokenizer; none where it has none."""
        front = (tokenizer.cls_token_id, tokenizer.bos_token_id)
        behind = (tokenizer.sep_token_id, tokenizer.eos_token_id)
        return cls(_first(front), _first(behind))

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.front) + len(self.behind)

    def put(self, ids: Sequence[int]) -> list[int]:
        """The tokens of a text with those around it."""
        return [*self.front, *ids, *self.behind]


def _first(some: Sequence[Any]) -> list[int]:
    return [each for each in some if each is not None][:1]
