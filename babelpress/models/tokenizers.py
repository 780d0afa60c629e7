"""Tokenizers: what one does, as a hash, and how it is written.

Tested in tests/text/test_calibration.py.
"""

import json
from pathlib import Path
from typing import Any, TypeAlias

from transformers import (
    PreTrainedTokenizerBase,
)

from babelpress.errors import BadRun
from babelpress.system.files import fingerprint

# A tokenizer of transformers, whose own annotations allow more types than its attributes have.
Tokenizer: TypeAlias = Any


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files. Raises BadRun where the disk refuses."""
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        # What tokenizers raises for a full disk is of no narrower class; all else goes on.
        if type(error) is not Exception:
            raise
        raise BadRun(f"cannot write the tokenizer to {folder}: {error}.") from error


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what the tokenizer does: its rules where it is a fast one, else its vocabulary."""
    if not tokenizer.is_fast:
        return fingerprint(tokenizer.get_vocab())
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    # The last call's truncation and padding are kept there, and are no property of the tokenizer.
    return fingerprint({**rules, "truncation": None, "padding": None})
