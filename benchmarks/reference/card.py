"""Write babel-mini's model card from what was measured; the cards of our others share `render`.

    babelpress eval babel-mini --corpus "TEXT_FOLDER?src=flores" --out SCORES
    python benchmarks/reference/compressors.py TEXT_FOLDER --out COMPRESSORS.csv
    python benchmarks/reference/card.py SCORES COMPRESSORS.csv TRAINING.json --out MODEL/README.md

TRAINING.json holds what was done: steps, tokens, hours, machine. What all cards have stands in
card.md.j2; what is of one model in a template that extends it (decoder.md.j2, encoder/, mt/).
"""

import argparse
import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from babelpress.judge.scores import read_results
from babelpress.models.open import open_model
from babelpress.models.stacks import find_stacks
from babelpress.system.files import write_text
from babelpress.text import mixtures
from babelpress.text.languages import find

HERE = Path(__file__).parent


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


def render(template: str, training: Path, tags: Iterable[str], **facts: Any) -> str:
    """A card by its template, of a model of these languages and what is told of its training."""
    place = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=False)
    return place.get_template(template).render(
        codes=sorted({tag.split("_")[0] for tag in tags}),
        training=json.loads(training.read_text(encoding="utf-8")),
        **facts,
    )


def facts_of(model: Path) -> dict[str, Any]:
    """What a card tells of a model's shape: its config, parameters, and per cent of them inside."""
    opened = open_model(str(model)).model
    blocks = [block for stack in find_stacks(opened) for block in stack.blocks]
    parameters = sum(each.numel() for each in opened.parameters())
    inside = sum(each.numel() for block in blocks for each in block.parameters())
    return {
        "config": opened.config,
        "parameters": parameters,
        "inside": round(100 * inside / parameters),
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
    mean = {k: f"{sum(r[k] for r in rows) / len(rows):.3f}" for k in ("mini", "xz", "ppmd")}
    training = json.loads(given.training.read_text(encoding="utf-8"))
    text = render(
        "decoder.md.j2",
        given.training,
        [row["tag"] for row in rows],
        parameters=training["parameters"],
        inside=round(100 * training["inside"] / training["parameters"]),
        rows=[shown(each) for each in rows],
        mean=mean,
        beats_xz=sum(r["mini"] < r["xz"] for r in rows),
        beats_ppmd=sum(r["mini"] < r["ppmd"] for r in rows),
    )
    write_text(given.out, text)


if __name__ == "__main__":
    main()
