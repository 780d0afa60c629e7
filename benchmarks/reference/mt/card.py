"""Write the card of babel-mini-mt from what was measured.

    babelpress eval MODEL --on translation_loss --corpus "TEXT_FOLDER?src=flores" \
        --languages es,it,pt,fr,ru,ar,sw,de,so,ha --out LOSS
    babelpress eval MODEL --on translate --corpus "TEXT_FOLDER?src=flores" \
        --languages es,it,pt,fr,ru,ar,sw,de,so,ha --option into=english --out INTO
    … the same with --option into=language --out FROM
    python -m benchmarks.reference.mt.card MODEL LOSS INTO FROM BLOCKS TRAINING.json --out CARD

BLOCKS is the folder of mt/blocks.py, with pairs.json in it. TRAINING.json holds in `words` what was
done: steps, tokens, hours, machine, seed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from babelpress.judge.scores import read_results
from babelpress.system.files import write_text
from babelpress.text.languages import ENGLISH, INTO, find, sides
from benchmarks.reference.card import facts_of, render

REACHED = 20  # chrF++ from which on a translation says something


def rows_of(
    loss: Path, into: Path, outof: Path, pairs: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row of the table for every language, the one with the most pairs first."""
    losses = _values(loss, "translation_loss")
    english, own = (_values(folder, "translate") for folder in (into, outof))
    rows: list[dict[str, Any]] = []
    for way, each in sorted(pairs.items(), key=lambda item: -item[1]["pairs"]):
        tag, target = sides(way)
        if target == ENGLISH:
            row = {"tag": tag, "name": find(tag).name, "pairs": f"{each['pairs']:,}"}
            row |= {"readings": f"{each['readings']:.1f}"}
            row |= {"loss_from": f"{losses[f'{ENGLISH}{INTO}{tag}']:.3f}"}
            row |= {"loss_into": f"{losses[way]:.3f}"}
            row |= {"chrf_from": f"{own[tag]:.1f}", "chrf_into": f"{english[tag]:.1f}"}
            rows.append(row | {"chrf": (own[tag], english[tag])})
    return rows


def _values(folder: Path, on: str) -> dict[str, float]:
    return {
        row["language"]: row["value"] for row in read_results(folder) if row["evaluation"] == on
    }


def _first(folder: Path, key: str) -> int:
    return int(read_results(folder)[0][key])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "loss", "into", "outof", "blocks", "training"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    pairs = json.loads((given.blocks / "pairs.json").read_text(encoding="utf-8"))
    rows = rows_of(given.loss, given.into, given.outof, pairs)
    text = render(
        "mt/card.md.j2",
        given.training,
        [ENGLISH, *(row["tag"] for row in rows)],
        rows=rows,
        reached=sum(value >= REACHED for row in rows for value in row["chrf"]),
        documents=_first(given.loss, "documents"),
        sentences=f"{_first(given.into, 'denominator'):,}",
        **facts_of(given.model),
    )
    write_text(given.out, text)


if __name__ == "__main__":
    main()
