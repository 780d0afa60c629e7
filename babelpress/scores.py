"""Scores of a model in a folder: results.jsonl, one row a language, and the tallies behind them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from babelpress import evals, models
from babelpress.corpus import Corpus
from babelpress.errors import BadRun
from babelpress.files import lock, read_json, write_json, write_text
from babelpress.gathering import fitting_length, languages_of
from babelpress.models import Opened
from babelpress.press import Progress, silent
from babelpress.tally import Tally

RESULTS = "results.jsonl"


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
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Score a model and keep every tally; gives the rows of results.jsonl.

    `documents` takes that many of the corpus's test documents, the first ones (0: all). What was
    measured before on the same model and text is not measured again.
    """
    tags = languages_of(corpus, languages)
    corpus.require(tags)
    texts = {tag: corpus.documents(tag, "test")[: documents or None] for tag in tags}
    with lock(out):
        rows = read_results(out)
        for name in on:
            evaluation = evals.get(name)
            size = window or fitting_length(opened, 1024)
            identity = {
                "model": models.fingerprint(opened.model),
                "corpus": corpus.name,
                "documents": documents,
                "window": size,
            }
            key = out / "tallies" / f"{name}.json"
            if not key.exists() or read_json(key) != identity:
                for stale in key.parent.glob(f"{name}.*.parquet"):
                    stale.unlink()
                rows = [r for r in rows if r["evaluation"] != name]
                write_json(key, identity)
            for done, tag in enumerate(tags):
                path = _tally_path(out, name, tag)
                if path.exists():
                    tally = Tally.load(path)
                else:
                    measured = evaluation.measure(
                        opened.model,
                        opened.tokenizer,
                        {tag: texts[tag]},
                        window=size,
                        memory_mb=memory_mb,
                    )
                    tally = measured[tag]
                    tally.save(path)
                rows = [r for r in rows if (r["evaluation"], r["language"]) != (name, tag)]
                rows.append(_row(opened.name, tag, name, evaluation.METRIC, tally))
                progress(f"eval {name}", done + 1, len(tags))
        rows.sort(key=lambda r: (r["evaluation"], r["language"]))
        lines = [json.dumps(r, ensure_ascii=False, sort_keys=True) for r in rows]
        write_text(out / RESULTS, "\n".join(lines) + "\n")
    return [r for r in rows if r["evaluation"] in on and r["language"] in tags]


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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise BadRun(f"{path} line {number} is not JSON: evaluate this model again.") from error
    return rows


def tallies(folder: Path, name: str) -> dict[str, Tally]:
    """The tallies of an evaluation by language. Raises BadRun where there are none."""
    found = {
        row["language"]: Tally.load(_tally_path(folder, name, row["language"]))
        for row in read_results(folder)
        if row["evaluation"] == name
    }
    if not found:
        raise BadRun(
            f"{folder} has no {name} scores. Make them: babelpress eval {folder} --on {name}"
        )
    return found


def _tally_path(folder: Path, name: str, tag: str) -> Path:
    return folder / "tallies" / f"{name}.{tag}.parquet"


def prediction(manifest: Mapping[str, Any], changes: Mapping[str, float]) -> dict[str, Any] | None:
    """Rank correlation over languages of predicted damage with a measured change.

    None where the run predicted nothing or for fewer than three languages.
    """
    from scipy.stats import spearmanr

    steps = manifest["steps"]
    common = [tag for tag in steps[-1]["damage"] if tag in changes]
    if len(common) < 3:
        return None
    result = spearmanr([steps[-1]["damage"][t] for t in common], [changes[t] for t in common])
    return {
        "spearman": float(result.statistic),
        "p": float(result.pvalue),
        "languages": len(common),
    }
