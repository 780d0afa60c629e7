"""What a dense model says of token blocks, kept on disk: it is run once and need not be in memory.

    kept/LANGUAGE.safetensors     log, ids, rest: of every block of a language, by its number

Of every token whose next one is scored the likeliest tokens are kept with the logarithms of their
probabilities, and the mass of all others. A file is whole or absent, so that a run that was killed
goes on with the next language.

Shapes: N blocks of a language, T positions, K tokens that are kept.

Tested in tests/train/test_recovering.py.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from babelpress.recover._told import Told
from babelpress.system.files import save_tensors
from babelpress.system.progress import Progress
from babelpress.train.batches import Blocks
from babelpress.train.reading import Reader

AT_ONCE = 4096  # tokens that the dense model reads at once


@dataclass(slots=True)
class Kept:
    """A folder of what a dense model said."""

    folder: Path
    _open: dict[str, Any] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    @torch.no_grad()
    def fill(self, teacher: Reader, text: Blocks, number: int, progress: Progress) -> None:
        """Keep what is not there yet: the likeliest `number` tokens of all blocks."""
        self.folder.mkdir(exist_ok=True)
        tags = text.languages()
        progress("keep: language", 0, len(tags))
        for done, tag in enumerate(tags, 1):
            if not self._path(tag).exists():
                save_tensors(self._path(tag), _said(teacher, text, tag, number))
            progress("keep: language", done, len(tags))

    def of(self, rows: Sequence[tuple[str, int]], scored_BT: Tensor) -> Told:
        """What was said of the scored tokens of blocks, each by its language and number."""
        parts: dict[str, list[Tensor]] = {"log": [], "ids": [], "rest": []}
        for (tag, number), scored_T in zip(rows, scored_BT, strict=True):
            file = self._file(tag)
            for name, found in parts.items():
                if name in file.keys():  # noqa: SIM118 - a file, not a mapping
                    kept = file.get_slice(name)[number]
                    found.append(kept[: len(scored_T)][scored_T[: len(kept)]])
        log_NK = torch.cat(parts["log"])
        if not parts["ids"]:
            return Told(log_NK)
        return Told(log_NK, torch.cat(parts["ids"]).long(), torch.cat(parts["rest"]))

    def close(self) -> None:
        """Let the files go."""
        self._open.clear()
        self._stack.close()

    def _file(self, tag: str) -> Any:
        if tag not in self._open:
            self._open[tag] = self._stack.enter_context(safe_open(self._path(tag), "pt"))
        return self._open[tag]

    def _path(self, tag: str) -> Path:
        return self.folder / f"{tag}.safetensors"


def bytes_of(tokens: int, number: int) -> int:
    """What so many tokens take on disk."""
    return tokens * (8 * number + 4)


def _said(teacher: Reader, text: Blocks, tag: str, number: int) -> dict[str, Tensor]:
    """What is said of all blocks of a language; zeros where nothing is scored."""
    length = text.blocks[tag].length
    size, count = max(1, AT_ONCE // length), text.number(tag)
    rng = np.random.default_rng(0)  # nothing is drawn of a text whose next tokens are scored
    kept: dict[str, Tensor] = {}
    for start in range(0, count, size):
        batch = text.some(tag, start, size, rng).to(teacher.model.device)
        rows, places = batch.scored_BT.nonzero(as_tuple=True)
        said = teacher.read(batch)
        told = [Told.top(part(), number) for part in said.parts]
        for name, parts in _columns(told).items():
            found = torch.cat(parts).cpu()
            shape = (count, length, *found.shape[1:])
            whole = kept.setdefault(name, torch.zeros(shape, dtype=found.dtype))
            whole[rows.cpu() + start, places.cpu()] = found
    return kept


def _columns(told: Sequence[Told]) -> dict[str, list[Tensor]]:
    found = {"log": [each.log_NK for each in told]}
    ids = [each.ids_NK.int() for each in told if each.ids_NK is not None]
    rest = [each.rest_N for each in told if each.rest_N is not None]
    return found | ({"ids": ids, "rest": rest} if ids else {})
