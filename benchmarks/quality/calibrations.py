"""What calibration does to each language: methods x mixtures x seeds on one model, resumable.

    python benchmarks/quality/calibrations.py --data TEXT_FOLDER --out FOLDER [--model babel-mini]
    python benchmarks/quality/calibrations.py --data TEXT_FOLDER --out FOLDER --table

Calibration reads the train text of all languages (`propagate: dense`: moments once per seed, then
every configuration from them); scores are bits per byte on the first FLORES articles, the same in
all languages. Every configuration is a folder of its own with tallies and a manifest; one that is
there is not done again. `--table` prints what is there.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

from babelpress.evals import bits_per_byte
from babelpress.evals._windows import prepare
from babelpress.judge.compare import compare
from babelpress.judge.predicted import prediction
from babelpress.judge.verdicts import training_shares
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.gather import gather_dense
from babelpress.moments.store import BlockMoments
from babelpress.numerics.tally import Tally
from babelpress.press.blocks import predicted_damage, press_dense
from babelpress.press.method import Pruner
from babelpress.press.mixture_search import best, minimax
from babelpress.runs.manifest import Manifest
from babelpress.steps._kind import ModelRow, StepReport
from babelpress.system.files import read_json, write_json
from babelpress.text import calibration, mixtures
from babelpress.text.corpus import open_corpus

TARGETS = ("fra_Latn", "arb_Arab", "hin_Deva", "swh_Latn", "yor_Latn", "ibo_Latn")
MIXED = ("english", "uniform", "proportional:babel-mini", "minimax")
ALL = (
    *MIXED,
    "mbs:256:babel-mini",
    *(f"only:{tag}" for tag in TARGETS),
    "ntrex",  # uniform over the 30 languages of NTREX alone: equal content in all of them
)
SEEDS = (0, 1, 2)
DOCUMENTS = 90  # FLORES articles: 314 sentences
TOKENS, LENGTH = 16384, 256


def configurations() -> list[tuple[str, str, str]]:
    """(method, pattern, mixture), the quickest answers first."""
    grid = [(method, "0.5", mixed) for mixed in ALL for method in ("wanda", "sparsegpt")]
    grid += [("wanda", pattern, mixed) for pattern in ("0.7", "2of4") for mixed in MIXED]
    grid += [(method, "0.5", "uniform") for method in ("magnitude", "random", "ria")]
    return grid


def name(method: str, pattern: str, mixed: str, seed: int) -> str:
    """Folder of a configuration."""
    return f"{method}-{pattern}-{mixed.replace(':', '_')}-{seed}"


def moments(walk: Walk, tokenizer, source: str, seed: int) -> dict[int, BlockMoments]:
    """Moments with Gram matrices of the train text of a corpus."""
    corpus = open_corpus(source)
    tags = [t for t in corpus.languages() if corpus.documents(t, "train")]
    found = calibration.build(corpus, tokenizer, tags, tokens=TOKENS, length=LENGTH, seed=seed)
    return dict(gather_dense(walk, found.blocks, gram=True))


def without_gram(found: Mapping[int, BlockMoments]) -> dict[int, BlockMoments]:
    """The same moments as a method that needs no Gram matrix would have them."""
    return {
        index: {
            site: {tag: each.without_gram() for tag, each in seen.items()}
            for site, seen in block.items()
        }
        for index, block in found.items()
    }


def press(walk: Walk, found: Mapping[int, BlockMoments], method: Pruner, mixed: str) -> dict:
    """Press in place; the manifest of the configuration."""
    tags = list(next(iter(found[0].values())))
    policy = "uniform" if mixed == "ntrex" else mixed
    shares = mixtures.mixture(policy, tags).shares
    trace = []
    if mixed == "minimax":
        trace = minimax(lambda p: predicted_damage(walk, found.__getitem__, method, p), tags)
        shares = best(trace).shares
    reports = press_dense(walk, found.__getitem__, method, shares)
    sites = [r.damage for r in reports]
    harm = {
        tag: sum(d[tag].numerator / d[tag].denominator for d in sites) / len(sites) for tag in tags
    }
    return {
        "shares": shares,
        "trace": [{"worst": r.worst, "mean": r.mean} for r in trace],
        "steps": [{"damage": harm}],
        "zeros": sum(r.zeros for r in reports),
        "weights": sum(r.weights for r in reports),
    }


def sweep(data: str, out: Path, model: str, seeds: list[int], backwards: bool) -> None:
    opened = open_model(model)
    walk = Walk(opened.model)
    dense = {key: value.clone() for key, value in opened.model.state_dict().items()}
    flores = open_corpus(f"{data}?src=flores")
    texts = {tag: flores.documents(tag, "test")[:DOCUMENTS] for tag in flores.languages()}
    prepared = prepare(opened.tokenizer, texts, window=LENGTH)

    def score(folder: Path, manifest: dict) -> None:
        start = time.monotonic()
        for tag, tally in bits_per_byte.score(opened.model, prepared).items():
            tally.save(folder / "tallies" / f"bits_per_byte.{tag}.parquet")
        manifest["seconds_eval"] = round(time.monotonic() - start, 1)
        write_json(folder / "manifest.json", manifest)  # last: its presence means done
        print(f"{time.strftime('%H:%M:%S')} {folder.name} {manifest['seconds_eval']} s", flush=True)

    if not (out / "dense" / "manifest.json").exists():
        score(out / "dense", {"model": model})
    for seed in seeds:
        kept: dict[str, dict[int, BlockMoments]] = {}
        for method, pattern, mixed in configurations()[:: -1 if backwards else 1]:
            folder = out / name(method, pattern, mixed, seed)
            if (folder / "manifest.json").exists():
                continue
            source = f"{data}?src=ntrex" if mixed == "ntrex" else data
            if source not in kept:
                kept[source] = moments(walk, opened.tokenizer, source, seed)
            found = kept[source] if method == "sparsegpt" else without_gram(kept[source])
            options = {"seed": seed} if method == "random" else {}
            manifest = press(walk, found, Pruner.of(method, pattern, options), mixed)
            score(folder, manifest)
            opened.model.load_state_dict(dense)


def load(folder: Path) -> dict[str, Tally]:
    """Tallies of a scored folder by language."""
    paths = sorted((folder / "tallies").glob("bits_per_byte.*.parquet"))
    return {path.name.split(".")[1]: Tally.load(path) for path in paths}


def table(out: Path, model: str) -> None:
    """One line a configuration: every seed, then the hull of their intervals; all of it as JSON.

    A second table has what target-only calibration costs the target itself.
    """
    dense = load(out / "dense")
    shares = training_shares(model, dense)
    mean = sum(tally.value for tally in dense.values()) / len(dense)
    print(f"dense: mean {mean:.4f} bits per byte over {len(dense)} languages\n")
    print("| method | pattern | calibration | mean | worst language | low-resource | ρ |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for method, pattern, mixed in configurations():
        folders = [out / name(method, pattern, mixed, seed) for seed in SEEDS]
        found = [row(f, dense, shares) for f in folders if (f / "manifest.json").exists()]
        if not found:
            continue
        rows += [{"method": method, "pattern": pattern, "mixture": mixed, **r} for r in found]
        cells = [cell([r[key] for r in found]) for key in ("mean", "worst", "low_resource")]
        rho = " / ".join(f"{r['spearman']:.2f}" for r in found)
        print(f"| {method} | {pattern} | {mixed} | {' | '.join(cells)} | {rho} |")
    print("\n| target | method | " + " | ".join(("target-only", *MIXED)) + " |")
    print("|---|---|" + "---|" * (1 + len(MIXED)))
    for tag in TARGETS:
        for method in ("wanda", "sparsegpt"):
            policies = (f"only:{tag}", *MIXED)
            shown = [_target(rows, method, mixed, tag) for mixed in policies]
            print(f"| {tag} | {method} | {' | '.join(shown)} |")
    (out / "table.json").write_text(json.dumps(rows, indent=1))


def row(folder: Path, dense: Mapping[str, Tally], shares: Mapping[str, float] | None) -> dict:
    """A scored folder against the dense model."""
    found = compare(dense, load(folder), shares=shares)
    changes = {c.language: c.change for c in found.changes}
    noted = prediction(predicted(folder), changes)
    return {
        "seed": int(folder.name.rpartition("-")[2]),
        "spearman": noted["spearman"] if noted else None,
        "changes": {c.language: [c.change, c.low, c.high, c.p_holm] for c in found.changes},
        **{s.name: [s.value, s.low, s.high, s.language] for s in found.summaries},
    }


def predicted(folder: Path) -> Manifest:
    """The damage of the steps of a configuration, as the manifest of a run has it."""
    steps = read_json(folder / "manifest.json")["steps"]
    rows = (StepReport(model=ModelRow(name=""), damage=step["damage"]) for step in steps)
    return Manifest(steps=tuple(rows))


def cell(summaries: list[list]) -> str:
    """The value of every seed, the hull of their intervals, and the languages they name."""
    values = " / ".join(f"{100 * value:+.1f}" for value, *_ in summaries)
    low, high = min(s[1] for s in summaries), max(s[2] for s in summaries)
    named = ", ".join(sorted({s[3] for s in summaries if s[3]}))
    return f"{values} % [{100 * low:.1f}, {100 * high:.1f}] {named}".strip()


def _target(rows: list[dict], method: str, mixed: str, tag: str) -> str:
    same = {"method": method, "pattern": "0.5", "mixture": mixed}
    found = [r for r in rows if all(r[key] == value for key, value in same.items())]
    return cell([[*r["changes"][tag][:3], None] for r in found]) if found else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="corpus folder with all languages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="babel-mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--backwards", action="store_true", help="so that two processes meet")
    parser.add_argument("--table", action="store_true", help="print what is there")
    given = parser.parse_args()
    if given.table:
        table(given.out, given.model)
        return
    sweep(given.data, given.out, given.model, given.seeds, given.backwards)


if __name__ == "__main__":
    main()
