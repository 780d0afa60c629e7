"""What a GGUF file asks of us, apart from writing it: names, blocks of codes, vocabularies."""

from typing import Any

from babelpress.errors import MissingPackage


def package() -> Any:
    """The gguf package, which is optional. Raises MissingPackage."""
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingPackage("gguf", "gguf") from error
    return gguf
