"""The gguf package, which is optional: it knows llama.cpp's names and how blocks are unpacked.

Tested in tests/export/test_gguf.py.
"""

from typing import Any

from babelpress.errors import MissingPackage


def package() -> Any:
    """The gguf package. Raises MissingPackage."""
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingPackage("gguf", "gguf") from error
    return gguf
