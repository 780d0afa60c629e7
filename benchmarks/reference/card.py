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

from babelpress import mixtures
from babelpress.files import write_text
from babelpress.languages import find
from babelpress.scores import read_results

CARD = """---
license: cc-by-sa-4.0
language: [{{ codes | join(", ") }}]
library_name: transformers
pipeline_tag: text-generation
tags: [multilingual, reference-model, compression]
---

# babel-mini

A very small multilingual decoder, trained from scratch for babelpress's demo, tests and benchmarks: a
model whose training text, shares and tokenizer are known exactly, small enough to press a hundred
times on a laptop, and trained enough to be hurt. It is no assistant and knows no facts.

## Shape

Llama: hidden 256, intermediate 768, 4 blocks, 4 heads with 2 key-value heads of 64, rotary positions,
tied embeddings, 256 positions; {{ "{:,}".format(parameters) }} parameters, {{ inside }} % of them
outside the embedding; bfloat16. Vocabulary: 8,192 byte-level BPE tokens trained on the same text, with
the pre-tokenizer that llama.cpp calls `gpt-4o`.

## Training

{{ training.words }}

Text: the train split of the reference data (31 languages, `docs/data.md`), unbalanced. Every epoch has
the same language shares, given below in tokens and in bytes of text. Within a language the last epoch
runs from scripture to modern prose. Recipe: `benchmarks/reference/` (tokenizer.py, blocks.py,
pretrain.py).

## Licence

The training text holds CC BY-SA 4.0 parts (NTREX, OLDI Seed), CC BY parts (HornMT, story collections,
one Bible edition), CC0 and public-domain parts. The weights are given under CC BY-SA 4.0 with
attribution to these sources. No non-commercial data was used. FLORES-200 was used for evaluation only.

## Bits per byte on FLORES-200 devtest

1,012 sentences, 281 articles a language; windows of 256 tokens. Beside it two compressors primed with
the same train text of that language: compressed(train + test) − compressed(train) over the bytes of
test, for xz (64 MiB dictionary) and PPMd (order 6). Lower is better; bold where babel-mini is best.

| language | share of tokens | share of bytes | babel-mini | xz | PPMd |
|---|--:|--:|--:|--:|--:|
{% for r in rows -%}
| {{ r.name }} `{{ r.tag }}` | {{ r.tokens }} | {{ r.bytes }} | {{ r.mini }} | {{ r.xz }} | {{ r.ppmd }} |
{% endfor -%}
| **mean** | | | {{ mean.mini }} | {{ mean.xz }} | {{ mean.ppmd }} |

babel-mini beats xz in {{ beats_xz }} and PPMd in {{ beats_ppmd }} of {{ rows | length }} languages.
PPMd keeps every string of millions of bytes in its memory; this model has
{{ "{:.0f}".format(parameters * 2 / 1e6) }} MB of weights for all 31 languages together. For its purpose
what counts is that pressing it badly shows: `LOG.md` has what English-only calibration costs it.
"""


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(CARD)  # noqa: S701
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
