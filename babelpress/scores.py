"""Scores of a model in a folder: results.jsonl, one row a language, and the tallies behind them.

Every line has a seal, and `tallies/NAME.json` the hashes of its tallies: what a disk spoils is not
taken for a score.

An evaluation that looks at sites also leaves `tallies/NAME.sites.json`: by language, by site.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from babelpress import evals, opening
from babelpress.calibration import tokenizer_hash
from babelpress.corpus import Corpus, Document
from babelpress.errors import BadRun, BadSetting
from babelpress.feeding import Progress, silent
from babelpress.files import (
    fingerprint,
    read_json,
    seal,
    sha256_file,
    unsealed,
    write_json,
    write_sealed,
    write_text,
)
from babelpress.gathering import PARTIAL, fitting_length, held, languages_of, remove_partials
from babelpress.opening import Opened
from babelpress.ranges import Ranges
from babelpress.tally import Tally

RESULTS = "results.jsonl"
WINDOW = 1024  # tokens in a window, where the model has as many positions
MOMENTS = "name moments of this model with --moments (`babelpress calibrate` makes them)."


def evaluate(
    opened: Opened,
    out: Path,
    corpus: Corpus,
    *,
    on: Sequence[str],
    languages: Sequence[str],
    documents: int = 0,
    window: int = 0,
    memory_mb: int = 256,
    ranges: Ranges | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Score a model and keep every tally; gives the rows of results.jsonl.

    `documents` takes that many of the corpus's test documents, the first ones (0: all); `ranges`
    are for evaluations that need them. What was measured before on the same model and text is not
    measured again; scores of another model, corpus or setting are dropped. Raises BadSetting, or
    BadCorpus naming a language that is not there.
    """
    if documents < 0 or not on:
        raise BadSetting(f"documents must be 0 or more and --on not empty: {documents}, {on}.")
    for name in on:
        if evals.needs_ranges(name) and ranges is None:
            raise BadSetting(f"{name} must know what calibration saw: {MOMENTS}")
    tags = languages_of(corpus, languages)
    corpus.require(tags)
    texts = {tag: corpus.documents(tag, "test")[: documents or None] for tag in tags}
    identity = {
        "model": opening.fingerprint(opened.model),
        "tokenizer": tokenizer_hash(opened.tokenizer),
        "corpus": corpus.name,
        "documents": documents,
        "window": window or fitting_length(opened, WINDOW),
    }
    with held(out):
        remove_partials(out, names=f".{RESULTS}{PARTIAL}")
        remove_partials(out / "tallies")
        for name in on:
            looked = ranges if evals.needs_ranges(name) else None
            kept = _Kept.open(out, name, identity, looked)
            for done, tag in enumerate(tags):
                if not kept.has(tag, texts[tag]):
                    found = _measure(opened, name, tag, texts[tag], kept, memory_mb, looked)
                    kept.put(tag, texts[tag], found)
                progress(f"eval {name}", done + 1, len(tags))
            metric = evals.get(name).METRIC
            new = [_row(opened.name, tag, name, metric, kept.tally(tag)) for tag in tags]
            _write(out, [r for r in read_results(out) if not _in(r, name, tags)] + new)
    return [row for row in read_results(out) if any(_in(row, name, tags) for name in on)]


def _measure(
    opened: Opened,
    name: str,
    tag: str,
    documents: Sequence[Document],
    kept: "_Kept",
    memory_mb: int,
    ranges: Ranges | None,
) -> Tally:
    looked = {"ranges": ranges.largest, "detail": kept.put_sites} if ranges else {}
    measured = evals.get(name).measure(
        opened.model,
        opened.tokenizer,
        {tag: documents},
        window=kept.identity["window"],
        memory_mb=memory_mb,
        **looked,
    )
    return measured[tag]


@dataclass(frozen=True, slots=True)
class _Kept:
    """The tallies of one evaluation in a folder, and what each is of.

    `tallies/NAME.json` is written so that no tally is ever taken for one of another model or text,
    wherever a process dies. `texts` are hashes of documents, `files` those of tallies, by language.
    """

    folder: Path
    name: str
    identity: dict[str, Any]
    texts: dict[str, str]
    files: dict[str, str]

    @classmethod
    def open(
        cls, folder: Path, name: str, identity: dict[str, Any], ranges: Ranges | None
    ) -> "_Kept":
        """What is there of the same model, corpus and settings; the rest is dropped."""
        path = folder / "tallies" / f"{name}.json"
        if ranges:
            identity = {**identity, "ranges": ranges.fingerprint()}
        if path.exists():
            there = read_json(path)
            if isinstance(there, dict) and there.get("identity") == identity:
                return cls(folder, name, identity, there["texts"], there.get("files", {}))
            _write(folder, [row for row in read_results(folder) if row["evaluation"] != name])
        kept = cls(folder, name, identity, {}, {})
        kept._note()
        _sites_path(folder, name).unlink(missing_ok=True)
        for stale in path.parent.glob(f"{name}.*.parquet"):
            stale.unlink()
        return kept

    def has(self, tag: str, documents: Sequence[Document]) -> bool:
        """Whether the tally of exactly this text is there, as it was written."""
        path = self._path(tag)
        there = self.texts.get(tag) == _hash(documents) and path.exists()
        return there and self.files.get(tag, "") in ("", sha256_file(path))

    def put(self, tag: str, documents: Sequence[Document], tally: Tally) -> None:
        """Keep a tally."""
        if self.texts.pop(tag, None):
            self._note()
        tally.save(self._path(tag))
        self.files[tag] = sha256_file(self._path(tag))
        self.texts[tag] = _hash(documents)
        self._note()

    def put_sites(self, tag: str, shares: Mapping[str, float]) -> None:
        """Keep a language's score at every site."""
        by_language = {**sites(self.folder, self.name), tag: dict(shares)}
        write_json(_sites_path(self.folder, self.name), by_language)

    def tally(self, tag: str) -> Tally:
        """The tally of a language that is kept."""
        return Tally.load(self._path(tag))

    def _note(self) -> None:
        value = {"identity": self.identity, "texts": self.texts, "files": self.files}
        write_sealed(self.folder / "tallies" / f"{self.name}.json", value)

    def _path(self, tag: str) -> Path:
        return _tally_path(self.folder, self.name, tag)


def _hash(documents: Sequence[Document]) -> str:
    return fingerprint([[document.id, document.text] for document in documents])


def _in(row: Mapping[str, Any], name: str, tags: Sequence[str]) -> bool:
    return row["evaluation"] == name and row["language"] in tags


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    rows.sort(key=lambda row: (row["evaluation"], row["language"]))
    lines = [json.dumps(seal(row), ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    write_text(folder / RESULTS, "".join(lines))


def _row(model: str, tag: str, name: str, metric: str, tally: Tally) -> dict[str, Any]:
    return {
        "model": model,
        "language": tag,
        "evaluation": name,
        "metric": metric,
        "value": tally.value,
        "numerator": float(tally.numerator_D.sum()),
        "denominator": float(tally.denominator_D.sum()),
        "documents": len(tally.documents),
        "seed": None,
    }


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The rows of results.jsonl; none where nothing was measured. BadRun for a broken one."""
    path = folder / RESULTS
    if not path.exists():
        return []
    rows = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            row = unsealed(json.loads(line), f"{path} line {number}", BadRun)
            if not _is_row(row):
                raise BadRun(f"{path} line {number} is no score: evaluate this model again.")
            rows.append(row)
    except (ValueError, RecursionError) as error:  # also what no UTF-8 raises
        raise BadRun(
            f"{path} line {len(rows) + 1} is not JSON: evaluate this model again."
        ) from error
    return rows


def _is_row(row: Any) -> bool:
    """Whether this has what is read of a row, and its language a name that files may have."""
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in ("model", "language", "evaluation"))
        and isinstance(row.get("value"), float | int)
        and math.isfinite(row["value"])
        and Path(row["language"]).name == row["language"]
    )


def values(folder: Path, name: str) -> dict[str, float]:
    """The scores of an evaluation by language; empty where it was not done."""
    rows = read_results(folder)
    return {row["language"]: row["value"] for row in rows if row["evaluation"] == name}


def tallies(folder: Path, name: str) -> dict[str, Tally]:
    """The tallies of an evaluation by language. Raises BadRun where there are none."""
    path = folder / "tallies" / f"{name}.json"
    kept = read_json(path) if path.exists() else {}
    files = kept.get("files", {}) if isinstance(kept, dict) else {}
    found = {
        row["language"]: _tally(folder, row, files)
        for row in read_results(folder)
        if row["evaluation"] == name
    }
    if found and (lost := sorted(set(files) - set(found))):
        raise BadRun(
            f"{folder / RESULTS} lacks {', '.join(lost)}, of which there are {name} tallies. "
            f"Make them again: babelpress eval {folder} --on {name}"
        )
    if not found:
        raise BadRun(
            f"{folder} has no {name} scores. Make them: babelpress eval {folder} --on {name}"
        )
    return found


def _tally(folder: Path, row: Mapping[str, Any], files: Mapping[str, str]) -> Tally:
    """The tally of a row. Raises BadRun where it is not the one that the row was made of."""
    path = _tally_path(folder, row["evaluation"], row["language"])
    tally = Tally.load(path)
    sound = files.get(row["language"], "") in ("", sha256_file(path))
    if not sound or tally.value != row["value"]:
        raise BadRun(
            f"{path} is not the tally of its line in {RESULTS}. "
            "Evaluate this model again with `babelpress eval`."
        )
    return tally


def sites(folder: Path, name: str) -> dict[str, dict[str, float]]:
    """Scores by language and site, of an evaluation that looks at sites; else empty."""
    path = _sites_path(folder, name)
    return read_json(path) if path.exists() else {}


def _sites_path(folder: Path, name: str) -> Path:
    return folder / "tallies" / f"{name}.sites.json"


def _tally_path(folder: Path, name: str, tag: str) -> Path:
    return folder / "tallies" / f"{name}.{tag}.parquet"


def prediction(manifest: Mapping[str, Any], changes: Mapping[str, float]) -> dict[str, Any] | None:
    """Rank correlation over languages of a run's predicted damage with a measured change.

    The damage of a chain is summed over its steps. None for fewer than three languages, and where
    all damage or all change is the same, which ranks nothing.
    """
    from scipy.stats import spearmanr

    parts = [step["damage"] for step in manifest["steps"]]
    common = [tag for tag in parts[0] if tag in changes and all(tag in part for part in parts)]
    damage_L = np.array([math.fsum(part[tag] for part in parts) for tag in common])
    change_L = np.array([changes[tag] for tag in common])
    if len(common) < 3 or not np.ptp(damage_L) or not np.ptp(change_L):
        return None
    result: Any = spearmanr(damage_L, change_L)
    return {
        "spearman": float(result.statistic),
        "p": float(result.pvalue),
        "languages": len(common),
    }
