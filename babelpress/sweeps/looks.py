"""The moments that recipes of a sweep share: seen by language, and merged to one folder.

Tested in tests/sweeps/test_plan.py.
"""

import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from babelpress.moments.calibrate import calibrate
from babelpress.runs.open import open_any
from babelpress.sweeps import merge
from babelpress.sweeps.beginnings import Begin
from babelpress.sweeps.folders import once
from babelpress.sweeps.plan import short
from babelpress.sweeps.setup import Setup, Tried
from babelpress.system.progress import Progress
from babelpress.text.settings import CalibrationSettings

PROCESS = 512 << 20  # bytes of a process that has done nothing but import torch and transformers
COPIES = 2  # of a block's moments while they are merged: as tensors, and as the file to be written


@dataclass(frozen=True, slots=True)
class Look:
    """Take moments of some languages, a folder each; a cluster takes one language a job.

    `asked` itself names no languages: the moments of one serve every calibration that has it.
    """

    model: str
    asked: CalibrationSettings
    languages: tuple[str, ...]
    gram: bool
    size: Tried | None = None
    begun: Begin | None = None

    @property
    def key(self) -> str:
        asked = self.asked.model_dump(mode="json")
        model = self.begun.name if self.begun else self.model
        return short({"model": model, "calibration": asked, "gram": self.gram})

    @property
    def name(self) -> str:
        return f"parts/{self.key}/{'+'.join(self.languages)}"

    @property
    def label(self) -> str:
        tags = self.languages
        named = ", ".join(tags) if len(tags) < 4 else f"{len(tags)} languages"
        return f"the moments of {self.model} in {named}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.begun.name,) if self.begun else ()

    def folder(self, out: Path, language: str) -> Path:
        """Where the moments of a language go."""
        return out / "parts" / self.key / language

    def done(self, setup: Setup) -> bool:
        return all(self.folder(setup.out, tag).exists() for tag in self.languages)

    def do(self, setup: Setup, progress: Progress) -> None:
        opened = open_any(self.model, device=setup.device)
        for tag in self.languages:
            asked = self.asked.model_copy(update={"languages": (tag,)})

            def make(new: Path, asked: CalibrationSettings = asked) -> None:
                calibrate(opened, asked, new, gram=self.gram, progress=progress)

            once(self.folder(setup.out, tag), make, progress)


@dataclass(frozen=True, slots=True)
class Merge:
    """One moments folder of what was seen in each language.

    One without Gram matrices, whose vectors are the same, is a part of one that has some: where
    that stands, of this sweep or of one on the same folder before, nothing is seen again.
    """

    looks: tuple[Look, ...]
    asked: CalibrationSettings
    gram: bool
    size: Tried | None = None

    @property
    def key(self) -> str:
        tags = [tag for look in self.looks for tag in look.languages]
        parts = replace(self.looks[0], gram=self.gram).key  # whatever else was seen with them
        return short({"parts": parts, "languages": tags, "gram": self.gram})

    @property
    def name(self) -> str:
        return f"moments/{self.key}"

    @property
    def label(self) -> str:
        return f"the moments of {self.looks[0].model} in all languages"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(look.name for look in self.looks)

    def folder(self, out: Path) -> Path:
        """Where the moments go."""
        return out / "moments" / self.key

    def parts(self, out: Path) -> list[Path]:
        """Where the moments of its languages lie apart."""
        return [look.folder(out, tag) for look in self.looks for tag in look.languages]

    @property
    def with_gram(self) -> "Merge":
        """The one that has all of this one, and Gram matrices."""
        looks = tuple(replace(look, gram=True) for look in self.looks)
        return replace(self, looks=looks, gram=True)

    def richer(self, out: Path) -> Path | None:
        """The folder that has all of this one and Gram matrices too, where it stands."""
        folder = self.with_gram.folder(out)
        return folder if not self.gram and folder.exists() else None

    def there(self, setup: Setup, coming: Collection[str] = ()) -> bool:
        """Whether it stands or can be made of what stands, so that no text is seen for it.

        Merges whose names are `coming` are as good as there.
        """
        if self.done(setup) or self.richer(setup.out):
            return True
        return self.name in coming or self.with_gram.name in coming

    def unseen(self, setup: Setup) -> list[Look]:
        """The languages that are to be seen before it."""
        if self.there(setup):
            return []
        return [look for look in self.looks if not look.done(setup)]

    def memory(self, out: Path) -> int:
        """Bytes at the worst moment: those of the largest block of every language, and a copy."""
        richer = self.richer(out)
        folders = [richer] if richer else self.parts(out)
        blocks = ([p.stat().st_size for p in each.glob("*.safetensors")] for each in folders)
        return PROCESS + COPIES * sum(max(sizes, default=0) for sizes in blocks)

    def done(self, setup: Setup) -> bool:
        return self.folder(setup.out).exists()

    def do(self, setup: Setup, progress: Progress) -> None:
        def make(new: Path) -> None:
            if richer := self.richer(setup.out):
                merge.without_gram(richer, new, progress=progress)
                return
            merge.merge(self.asked, self.parts(setup.out), new, gram=self.gram, progress=progress)

        once(self.folder(setup.out), make, progress)

    def free(self, out: Path, others: Iterable["Merge"]) -> None:
        """Remove what was merged and no other merge is to read: the same moments stand twice."""
        wanted = {place for other in others for place in other.parts(out)}
        for place in self.parts(out):
            if place not in wanted:
                shutil.rmtree(place, ignore_errors=True)
