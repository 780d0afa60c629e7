"""The commands that serve what was exported, as its format declares them.

`{folder}` in them is where it lies, `AutoModelForCausalLM` the class that opens a decoder. What
begins with an import is Python, all else a shell's. Of an encoder, or one with a decoder, only
transformers and onnxruntime are named: other programs write text, or read few of those, and were
tried with none.

Tested in tests/export/test_every_export.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.accepted import DECODER, decodes, opened_as

READING = ("transformers", "onnxruntime")  # programs that run what does not only write


@dataclass(frozen=True, slots=True)
class Way:
    """One way to serve an export: the program that does it, and what to say to it."""

    program: str
    language: str
    text: str

    def line(self) -> str:
        """The same on one line of a terminal."""
        lines = filter(None, self.text.split("\n"))
        return f"in Python: {'; '.join(lines)}" if self.language == "python" else self.text


def ways(form: str, source: Source, folder: Path) -> list[Way]:
    """Every way to serve an export of this source, the usual one first; a format may say none."""
    serves: Mapping[str, str] = FORMATS.facts(form).get("SERVES", {})
    chosen = FORMATS.optional(form, "serves")
    names = chosen(source) if chosen else tuple(serves)
    model = source.opened.model  # whose class is what is written, whatever its source was
    config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    if not decodes(config):
        names = [name for name in names if name.startswith(READING)]
    opener, _ = opened_as(config)
    return [_way(name, serves[name].replace(DECODER[0], opener), folder) for name in names]


def _way(program: str, text: str, folder: Path) -> Way:
    if text.startswith("from "):
        return Way(program, "python", text.replace("{folder}", repr(str(folder))))
    return Way(program, "bash", text.replace("{folder}", quote(str(folder))))
