"""Write a model as an ordinary transformers folder.

Tested in tests/models/test_open.py.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from babelpress.errors import BadRun
from babelpress.models import carried
from babelpress.models.open import Opened
from babelpress.models.quiet import quiet
from babelpress.models.tokenizers import save_tokenizer
from babelpress.models.weights import check_finite


def save_model(opened: Opened, folder: Path) -> None:
    """Write an ordinary transformers folder in the dtype that the model came in.

    The open model keeps its own dtype, and its weights become the rounded ones that were written.
    Raises NotFinite where a weight is too large for that dtype, BadRun where the disk refuses.
    """
    model, live = opened.model, opened.model.dtype
    if live != opened.stored_dtype:
        _cast(model, opened.stored_dtype)
    try:
        check_finite(model)
        with quiet():
            model.save_pretrained(folder)
        carried.save(opened.carried, folder)
        save_tokenizer(opened.tokenizer, folder, opened.files)
    except SafetensorError as error:
        raise BadRun(f"cannot write the model to {folder}: {error}.") from error
    finally:
        if live != opened.stored_dtype:
            _cast(model, live)


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    # Not model.to(): that would also round buffers, such as rotary frequencies.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
