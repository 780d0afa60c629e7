"""Scores of a model in a folder: results.jsonl, one row a language, and the tallies behind them.

    results.jsonl                 model, language, evaluation, corpus, metric, value, …, by line
    tallies/NAME.KEY.json         what the tallies of an evaluation on a corpus are of, and hashes
    tallies/NAME.KEY.TAG.parquet  the tally of a language
    tallies/NAME.KEY.sites.json   parts of scores, by language: by site, layer or wrong language
    tallies/likelihoods/          what models said of choices (likelihoods.py)
    tallies/aside/SETTINGS/       the same of scores with other settings, by a hash of those

KEY stands for the corpus, which is a part of every row: scores on another corpus stand beside.
Every line has a seal: what a disk spoils is not taken for a score.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun
from babelpress.numerics.tally import Tally
from babelpress.system.files import (
    read_json,
    seal,
    sha256_file,
    sha256_text,
    unsealed,
    write_text,
)

RESULTS = "results.jsonl"
TALLIES = "tallies"
BASELINES = "baselines"  # what scores are held against: by language, as `chance` and `majority`
KEY = 8  # characters of a hash that tell corpora apart

Row = dict[str, Any]


def stem(folder: Path, name: str, corpus: str) -> Path:
    """What the names of files of an evaluation on a corpus begin with.

    Folders of before corpora were told apart have none in their names.
    """
    keyed = folder / TALLIES / f"{name}.{sha256_text(corpus)[:KEY]}"
    there = keyed.with_name(f"{keyed.name}.json").exists()
    if corpus and (there or _unnamed(folder, name) != corpus):
        return keyed
    return folder / TALLIES / name


def _unnamed(folder: Path, name: str) -> str | None:
    """The corpus of files that have none in their names; None without such files."""
    path = folder / TALLIES / f"{name}.json"
    if not path.exists():
        return None
    return str(_identity(path).get("corpus", ""))


def files_of(folder: Path, name: str, corpus: str) -> list[Path]:
    """All files of an evaluation on a corpus, and of no other."""
    beginning = stem(folder, name, corpus)
    found = beginning.parent.glob(f"{beginning.name}.*")
    if beginning.name != name:
        return list(found)
    keyed = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{{KEY}}}\.")
    return [path for path in found if not keyed.match(path.name)]


def tally_path(folder: Path, row: Mapping[str, Any]) -> Path:
    """Where the tally of a row is."""
    beginning = stem(folder, row["evaluation"], row.get("corpus", ""))
    return beginning.with_name(f"{beginning.name}.{row['language']}.parquet")


def facts_path(folder: Path, name: str, corpus: str) -> Path:
    """Where it is written what the tallies of an evaluation on a corpus are of."""
    beginning = stem(folder, name, corpus)
    return beginning.with_name(f"{beginning.name}.json")


def identity_of(folder: Path, name: str, corpus: str) -> dict[str, Any]:
    """What was scored, and how: `model` (of its weights), corpus, window, …; empty if not kept."""
    return _identity(facts_path(folder, name, corpus))


def _identity(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.exists() else {}
    identity = found.get("identity") if isinstance(found, dict) else None
    return identity if isinstance(identity, dict) else {}


def sites_path(folder: Path, name: str, corpus: str) -> Path:
    """Where scores by language and site are."""
    beginning = stem(folder, name, corpus)
    return beginning.with_name(f"{beginning.name}.sites.json")


def write_results(folder: Path, rows: list[Row]) -> None:
    """Write all rows, whole or not at all."""
    rows.sort(key=lambda row: (row["evaluation"], row.get("corpus", ""), row["language"]))
    lines = [json.dumps(seal(row), ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    write_text(folder / RESULTS, "".join(lines))


def read_results(folder: Path) -> list[Row]:
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
            if "corpus" not in row and (known := _unnamed(folder, row["evaluation"])):
                row["corpus"] = known
            rows.append(row)
    except (ValueError, RecursionError) as error:  # also what no UTF-8 raises
        raise BadRun(
            f"{path} line {len(rows) + 1} is not JSON: evaluate this model again."
        ) from error
    return rows


def _is_row(row: Any) -> bool:
    """Whether this has what is read of a row, and names that files may have."""
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in ("model", "language", "evaluation"))
        and isinstance(row.get("corpus", ""), str)
        and isinstance(row.get("value"), float | int)
        and math.isfinite(row["value"])
        and all(Path(row[key]).name == row[key] for key in ("language", "evaluation"))
    )


# ---- of one corpus -------------------------------------------------------------------------


def corpora(folder: Path, name: str) -> list[str]:
    """The corpora that an evaluation was done on, in order."""
    rows = read_results(folder)
    return sorted({row.get("corpus", "") for row in rows if row["evaluation"] == name})


def the_corpus(folders: Sequence[Path], name: str, corpus: str = "") -> dict[Path, str]:
    """The corpus of every folder whose scores are to be compared.

    That which is named, else the one that all have, else the only one of each: whether texts are
    the same is seen by their documents. Raises BadRun where that does not settle it.
    """
    found = in_common(folders, name, corpus)
    if len(found) == 1:
        return found[0]
    named = "; ".join(f"{folder}: {', '.join(corpora(folder, name))}" for folder in folders)
    raise BadRun(f"there are {name} scores on several corpora ({named}). Name one with --corpus.")


def in_common(folders: Sequence[Path], name: str, corpus: str = "") -> list[dict[Path, str]]:
    """Every corpus on which the scores of all folders can be compared, as `the_corpus` gives one.

    None where folders have several of which none is in all. Raises BadRun where one has no scores.
    """
    there = {folder: corpora(folder, name) for folder in folders}
    for folder, found in there.items():
        if not found or (corpus and corpus not in found):
            of = f" on {corpus} (it has {', '.join(found)})" if corpus and found else ""
            raise without(folder, name, of)
    common = [corpus] if corpus else sorted(set.intersection(*map(set, there.values())))
    if not common and all(len(found) == 1 for found in there.values()):
        return [{folder: found[0] for folder, found in there.items()}]
    return [dict.fromkeys(folders, each) for each in common]


def without(folder: Path, name: str, of: str = "") -> BadRun:
    """The error for a folder that is none, or has no such scores (`of` says of which text)."""
    if not folder.is_dir():
        make = f"babelpress eval MODEL --on {name} --out {folder}"
        return BadRun(f"there is no folder {folder}. Make it: {make}")
    others = sorted({row["evaluation"] for row in read_results(folder)} - {name})
    has = f", but those of {', '.join(others)}, which --on names" if others and not of else ""
    return BadRun(
        f"{folder} has no {name} scores{of}{has}. Make them: babelpress eval {folder} --on {name}"
    )


def common_corpus(folders: Sequence[Path], name: str, corpus: str = "") -> str:
    """The corpus that scores of all of them are compared on; "" where each has another only one.

    Raises BadRun as `the_corpus` does.
    """
    found = set(the_corpus(folders, name, corpus).values())
    return found.pop() if len(found) == 1 else ""


def prefer(folder: Path, name: str, corpus: str) -> str:
    """This corpus where there are such scores on it, else the first there is."""
    found = corpora(folder, name)
    return corpus if corpus in found else next(iter(found), "")


def values(folder: Path, name: str, corpus: str | None = None) -> dict[str, float]:
    """The scores of an evaluation by language, on a corpus or the first; empty without any."""
    if corpus is None:
        corpus = next(iter(corpora(folder, name)), "")
    return {
        row["language"]: row["value"]
        for row in read_results(folder)
        if row["evaluation"] == name and row.get("corpus", "") == corpus
    }


def baselines(folder: Path, name: str, corpus: str | None = None) -> dict[str, dict[str, float]]:
    """What scores are held against, by language: what guessing finds (`chance`), and the answer
    that is right most often (`majority`). Empty of an evaluation that has no such thing.
    """
    if corpus is None:
        corpus = next(iter(corpora(folder, name)), "")
    path = facts_path(folder, name, corpus)
    kept = read_json(path) if path.exists() else {}
    return kept.get(BASELINES, {}) if isinstance(kept, dict) else {}


def tallies(folder: Path, name: str, corpus: str | None = None) -> dict[str, Tally]:
    """The tallies of an evaluation by language. Raises BadRun where there are none."""
    if corpus is None:
        corpus = the_corpus([folder], name)[folder]
    path = facts_path(folder, name, corpus)
    kept = read_json(path) if path.exists() else {}
    files = kept.get("files", {}) if isinstance(kept, dict) else {}
    found = {
        row["language"]: _tally(folder, row, files)
        for row in read_results(folder)
        if row["evaluation"] == name and row.get("corpus", "") == corpus
    }
    if found and (lost := sorted(set(files) - set(found))):
        raise BadRun(
            f"{folder / RESULTS} lacks {', '.join(lost)}, of which there are {name} tallies. "
            f"Make them again: babelpress eval {folder} --on {name}"
        )
    return found


def _tally(folder: Path, row: Mapping[str, Any], files: Mapping[str, str]) -> Tally:
    """The tally of a row. Raises BadRun where it is not the one that the row was made of."""
    path = tally_path(folder, row)
    tally = Tally.load(path)
    sound = files.get(row["language"], "") in ("", sha256_file(path))
    if not sound or tally.value != row["value"]:
        raise BadRun(
            f"{path} is not the tally of its line in {RESULTS}. "
            "Evaluate this model again with `babelpress eval`."
        )
    return tally


def sites(folder: Path, name: str, corpus: str | None = None) -> dict[str, dict[str, float]]:
    """The parts of scores by language, of an evaluation that tells them: by site, say; or empty."""
    if corpus is None:
        corpus = next(iter(corpora(folder, name)), "")
    path = sites_path(folder, name, corpus)
    return read_json(path) if path.exists() else {}
