"""While a model is loaded or saved transformers draws bars and reports keys: both are ours to tell.

It also names what a plan for several devices leaves whole, where there is one device.

Tested in tests/models/test_open.py.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as theirs

TALKS = "bitsandbytes"  # which says of every product that its inputs pass through float16
LOADING = ("transformers.modeling_utils", "transformers.distributed.tensor_parallel")


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers says nothing of loading and saving; errors are raised as ever.

    What a model is computed with, where it was quantized by others, is silent afterwards too.
    """
    logging.getLogger(TALKS).setLevel(logging.ERROR)
    drawn = theirs.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in LOADING]
    levels = [each.level for each in loggers]
    if drawn:
        theirs.disable_progress_bar()
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
        if drawn:
            theirs.enable_progress_bar()
