"""What a model said of the choices of items, kept beside its tallies.

    tallies/likelihoods/MODEL.KEY.json   language, items, likelihoods (nats) and tokens, by choice

MODEL begins the hash of the weights, KEY is of model, tokenizer and all that was scored. So what is
found there is never of anything else, whichever evaluation asks for it.

Tested in tests/evals/test_rankc.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun
from babelpress.judge.scores import TALLIES
from babelpress.system.claims import remove_partials
from babelpress.system.files import fingerprint, read_json, write_sealed

FOLDER = "likelihoods"
KEY = 16  # characters of a hash in a name


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Those of one model and tokenizer in a folder of scores."""

    folder: Path
    model: str
    tokenizer: str

    @classmethod
    def open(cls, folder: Path, model: str, tokenizer: str) -> "Likelihoods":
        """Those of a model; what is there of another one is dropped."""
        place = folder / TALLIES / FOLDER
        remove_partials(place)
        for path in place.glob("*.json"):
            if not path.name.startswith(f"{model[:KEY]}."):
                path.unlink()
        return cls(place, model, tokenizer)

    def get(self, key: str) -> Mapping[str, Any] | None:
        """What is kept; None where there is nothing, or the disk has spoiled it."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            return read_json(path)
        except BadRun:
            return None  # it is scored and written anew, as a tally would be

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep it, whole or not at all."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, value)

    def _path(self, key: str) -> Path:
        whole = fingerprint([self.model, self.tokenizer, key])
        return self.folder / f"{self.model[:KEY]}.{whole[:KEY]}.json"
