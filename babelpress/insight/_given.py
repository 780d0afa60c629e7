"""What analyses read: the dense model, runs of it, moments, text. Opened when it is asked for.

Tested in tests/insight/test_doing.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from babelpress.errors import BadModel, BadMoments, BadRun
from babelpress.insight import _cheap
from babelpress.insight._settings import InsightSettings
from babelpress.judge import verdicts
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments.calibrate import calibrate, text_hash
from babelpress.moments.store import BlockMoments, Store
from babelpress.quantize import QUANTIZERS
from babelpress.runs import manifest
from babelpress.runs.open import open_any
from babelpress.system.files import fingerprint
from babelpress.system.progress import Progress, remark, silent
from babelpress.text.draw import draw
from babelpress.text.token_blocks import TokenBlocks

MOMENTS = "moments"  # the folder of those that are taken here


class Given:
    """The dense model and runs of it, by label; what was opened for one analysis is there for all.

    Only one run is in memory at a time.
    """

    def __init__(
        self,
        asked: InsightSettings,
        dense: str,
        runs: Sequence[Path],
        out: Path,
        *,
        moments: Path | None = None,
        beside: Path | None = None,
        device: str = "cpu",
        progress: Progress = silent,
    ):
        self.asked, self.name, self.out, self.device = asked, dense, out, device
        self.folders = dict(zip(verdicts.names(runs), runs, strict=True))
        self.progress = progress
        self._moments, self._beside = moments, beside
        self._open: tuple[str, Opened] | None = None

    @property
    def labels(self) -> list[str]:
        """The runs, each by a name of its own."""
        return list(self.folders)

    # ---- models ----------------------------------------------------------------------------

    @cached_property
    def dense(self) -> Opened:
        """The model that the runs began with."""
        return open_any(self.name, device=self.device)

    def run(self, label: str) -> Opened:
        """A run's model; the one before is let go."""
        if self._open is None or self._open[0] != label:
            self._open = None  # two of them at once may be too much
            self._open = label, open_any(str(self.folders[label]), device=self.device)
        return self._open[1]

    def paired(self, label: str) -> Iterator[tuple[int, dict[str, tuple[Tensor, Tensor]]]]:
        """Block by block the dense and the pressed weight (O, I) of every linear.

        Raises BadModel for a run with other blocks or other shapes, BadRun where its inputs were
        scaled, so that its weights stand for other ones.
        """
        self._check_basis(label)
        dense, pressed = Walk(self.dense.model).blocks, Walk(self.run(label).model).blocks
        if len(dense) != len(pressed):
            raise BadModel(
                f"{label} has {len(pressed)} blocks and {self.name} {len(dense)}: their weights "
                "cannot be compared one by one. Name runs of the same shape."
            )
        for index, (old, new) in enumerate(zip(dense, pressed, strict=True)):
            # Moments are in the memory of the processor, wherever the models are.
            before = {name: weight(each).cpu() for name, each in linears(old).items()}
            after = {name: weight(each).cpu() for name, each in linears(new).items()}
            if {n: w.shape for n, w in before.items()} != {n: w.shape for n, w in after.items()}:
                raise BadModel(
                    f"block {index} of {label} has other linears than that of {self.name}. Name "
                    "runs of the same shape."
                )
            yield index, {name: (old_OI, after[name]) for name, old_OI in before.items()}

    def _check_basis(self, label: str) -> None:
        known = manifest.read_if_there(self.folders[label])
        for step in known.chain if known else ():
            method = step.step.get("method", "")
            if step.kind == "quantize" and QUANTIZERS.defines(method, "scale_inputs"):
                raise BadRun(
                    f"{label} was quantized with {method}, which scales inputs and weights: its "
                    "weights cannot be compared one by one. Leave this run out."
                )

    # ---- moments ---------------------------------------------------------------------------

    @cached_property
    def moments(self) -> Store:
        """Moments of the dense model: those named, those that a run's recipe names, or new ones."""
        if self._moments:
            return self._checked(self._moments)
        for folder in self._recipes_name():
            try:
                found = self._checked(folder)
            except BadMoments as error:
                remark(self.progress, f"moments of a recipe are not used: {error}")
                continue
            remark(self.progress, f"moments: {folder}, which a recipe names")
            return found
        return calibrate(
            self.dense,
            self.asked.text,
            self.out / MOMENTS,
            gram=self.asked.gram,
            progress=self.progress,
        )

    @cached_property
    def beside(self) -> Store | None:
        """Moments of other text of the dense model, where some are named."""
        return self._checked(self._beside) if self._beside else None

    def _recipes_name(self) -> Iterable[Path]:
        """Moments folders that the recipes of the runs name and that are still there."""
        known = [manifest.read_if_there(folder) for folder in self.folders.values()]
        steps = [step.step for each in known if each for step in each.chain]
        named = dict.fromkeys(Path(step["moments"]) for step in steps if step.get("moments"))
        return [folder for folder in named if folder.is_dir()]

    def _checked(self, folder: Path) -> Store:
        store = Store.open(folder)
        model, tokenizer, dtype = self._facts
        store.check(model=model, tokenizer=tokenizer, dtype=dtype)
        return store

    @property
    def model(self) -> str:
        """The hash of the dense model's weights."""
        return self._facts[0]

    def check_origins(self) -> None:
        """Raise BadRun for a run that began with other weights than those of the dense model."""
        for label, folder in self.folders.items():
            known = manifest.read_if_there(folder)
            if known and known.origin.fingerprint != self.model:
                raise BadRun(
                    f"{label} began with other weights than {self.name} has now. Name the model "
                    "that it began with: --dense MODEL."
                )

    @cached_property
    def _facts(self) -> tuple[str, str, str]:
        model = self.dense.model
        return weights_hash(model), tokenizer_hash(self.dense.tokenizer), str(model.dtype)

    def languages(self, store: Store) -> list[str]:
        """Those of moments that are asked for, or all. Raises BadMoments where one is not there."""
        return _cheap.languages(store.folder, store.identity["languages"], self.asked)

    def blocks(self, store: Store, what: str) -> Iterator[tuple[int, BlockMoments]]:
        """The moments of every block, in the languages that are asked for."""
        tags = self.languages(store)
        total = store.manifest["blocks"]
        for index in range(total):
            self.progress(f"{what}: block", index, total)
            found = store.load(index)
            yield (
                index,
                {s: {t: seen[t] for t in tags if t in seen} for s, seen in found.items()},
            )
        self.progress(f"{what}: block", total, total)

    # ---- text ------------------------------------------------------------------------------

    @cached_property
    def text(self) -> Mapping[str, TokenBlocks]:
        """Token blocks of every language, for analyses that run the models.

        Raises BadModel for an encoder-decoder.
        """
        if self.dense.model.config.is_encoder_decoder:
            raise BadModel(
                f"{self.name} is an encoder-decoder, and analyses that run text look at one side "
                "alone. Of it those of moments can be told, such as --on damage,overlap."
            )
        return draw(self.dense, self.asked.text).blocks

    # ---- scores ----------------------------------------------------------------------------

    def beyond(self, label: str) -> dict[str, dict[str, float]]:
        """The shares beyond the calibration range that a run keeps, by language and site."""
        return _cheap.beyond(self.folders[label], self.asked)

    # ---- identity --------------------------------------------------------------------------

    def identity(self, reads: Sequence[str]) -> dict[str, Any]:
        """What an analysis that reads these parts hangs on, as hashes and settings."""
        of = {
            "dense": lambda: list(self._facts),
            "runs": lambda: {label: self._of_run(label) for label in self.folders},
            "moments": lambda: [_of_store(self.moments), self.languages(self.moments)],
            "beside": lambda: _of_store(self.beside) if self.beside else None,
            "text": lambda: text_hash(self.text),
            "scores": lambda: {label: self.beyond(label) for label in self.folders},
        }
        return {part: of[part]() for part in reads}

    def _of_run(self, label: str) -> Any:
        """The hashes of a run's files; of a model from elsewhere that of its weights."""
        known = manifest.read_if_there(self.folders[label])
        return known.files if known else weights_hash(self.run(label).model)


def _of_store(store: Store) -> str:
    return fingerprint({"identity": store.identity, "files": store.manifest["files"]})
