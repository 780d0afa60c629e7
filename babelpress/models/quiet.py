"""While a model is loaded or saved transformers draws bars and reports keys: both are ours to tell.

Tested in tests/models/test_open.py.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as theirs

LOADING = logging.getLogger("transformers.modeling_utils")


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers says nothing of loading and saving; errors are raised as ever."""
    drawn, level = theirs.is_progress_bar_enabled(), LOADING.level
    if drawn:
        theirs.disable_progress_bar()
    LOADING.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOADING.setLevel(level)
        if drawn:
            theirs.enable_progress_bar()
