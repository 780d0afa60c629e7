"""Write babel-mini's model card from what was measured.

    babelpress eval babel-mini --corpus "TEXT_FOLDER?src=flores" --out SCORES
    python benchmarks/reference/compressors.py TEXT_FOLDER --out COMPRESSORS.csv
    python benchmarks/reference/card.py SCORES COMPRESSORS.csv TRAINING.json --out MODEL/README.md

TRAINING.json holds what was done: steps, tokens, hours, machine.
"""

import argparse
import csv
import json
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from babelpress.judge.scores import read_results
from babelpress.system.files import write_text
from babelpress.text import mixtures
from babelpress.text.languages import find


def row(result: dict, compressors: dict[str, dict[str, str]]) -> dict:
    tag = result["language"]
    tokens, data = (mixtures.distribution(n) for n in ("babel-mini", "babel-mini-bytes"))
    return {
        "tag": tag,
        "name": find(tag).name,
        "share": tokens.values[tag] / sum(tokens.values.values()),
        "share_bytes": data.values[tag] / sum(data.values.values()),
        "mini": result["value"],
        "xz": float(compressors[tag]["xz"]),
        "ppmd": float(compressors[tag]["ppmd"]),
    }


def shown(found: dict) -> dict:
    best = found["mini"] < min(found["xz"], found["ppmd"])
    mini = f"{found['mini']:.3f}"
    return found | {
        "tokens": f"{found['share']:.2%}",
        "bytes": f"{found['share_bytes']:.2%}",
        "mini": f"**{mini}**" if best else mini,
        "xz": f"{found['xz']:.3f}",
        "ppmd": f"{found['ppmd']:.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("compressors", type=Path)
    parser.add_argument("training", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    with given.compressors.open(encoding="utf-8") as file:
        compressors = {line["language"]: line for line in csv.DictReader(file)}
    rows = [row(result, compressors) for result in read_results(given.scores)]
    rows.sort(key=lambda each: -each["share"])
    training = json.loads(given.training.read_text(encoding="utf-8"))
    mean = {k: f"{sum(r[k] for r in rows) / len(rows):.3f}" for k in ("mini", "xz", "ppmd")}
    words = Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(words)
    text = template.render(
        codes=sorted(row["tag"].split("_")[0] for row in rows),
        parameters=training["parameters"],
        inside=round(100 * training["inside"] / training["parameters"]),
        training=training,
        rows=[shown(each) for each in rows],
        mean=mean,
        beats_xz=sum(r["mini"] < r["xz"] for r in rows),
        beats_ppmd=sum(r["mini"] < r["ppmd"] for r in rows),
    )
    write_text(given.out, text)


if __name__ == "__main__":
    main()
