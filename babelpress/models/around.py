"""The special tokens around a text: of an encoder CLS or BOS in front, SEP or EOS behind.

Tested in tests/evals/test_masked.py and tests/text/test_marks.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Around:
    """Ids in front of a text and behind it."""

    front: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Around":
        """At most one of an encoder's tokenizer on each side; none where it has none."""
        front = (tokenizer.cls_token_id, tokenizer.bos_token_id)
        behind = (tokenizer.sep_token_id, tokenizer.eos_token_id)
        return cls(_first(front), _first(behind))

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.front) + len(self.behind)

    def ids(self) -> set[int]:
        """All of them."""
        return {*self.front, *self.behind}

    def put(self, ids: Sequence[int]) -> list[int]:
        """The tokens of a text with those around it."""
        return [*self.front, *ids, *self.behind]


def _first(some: Sequence[Any]) -> tuple[int, ...]:
    return tuple(each for each in some if each is not None)[:1]
