"""Write the card of babel-mini-encoder from what was measured.

    babelpress eval MODEL --on masked --corpus "TEXT_FOLDER?src=flores" \
        --languages am,ha,ig,om,so,sw,yo,zu --out SCORES
    python -m benchmarks.reference.encoder.card MODEL SCORES BLOCKS TRAINING.json --out CARD

BLOCKS is the folder of blocks.py, with shares.json in it. TRAINING.json holds in `words` what was
done: steps, tokens, hours, machine, seed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from babelpress.judge.scores import identity_of, read_results
from babelpress.system.files import write_text
from babelpress.text.languages import find
from benchmarks.reference.card import facts_of, render

ON = "masked"


def rows_of(scores: Path, shares: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """A row of the table for every language, the one with the most text first."""
    values = {row["language"]: row for row in read_results(scores) if row["evaluation"] == ON}
    total = {unit: sum(each[unit] for each in shares.values()) for unit in ("tokens", "bytes")}
    return [
        {
            "tag": tag,
            "name": find(tag).name,
            "kilobytes": f"{each['bytes'] / 1000:,.0f}",
            "tokens": f"{each['tokens'] / total['tokens']:.1%}",
            "bytes": f"{each['bytes'] / total['bytes']:.1%}",
            "score": f"{values[tag]['value']:.3f}",
            "value": values[tag]["value"],
            "documents": values[tag]["documents"],
            "corpus": values[tag]["corpus"],
        }
        for tag, each in sorted(shares.items(), key=lambda item: -item[1]["tokens"])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("blocks", type=Path)
    parser.add_argument("training", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    shares = json.loads((given.blocks / "shares.json").read_text(encoding="utf-8"))
    rows = rows_of(given.scores, shares)
    text = render(
        "encoder/card.md.j2",
        given.training,
        [row["tag"] for row in rows],
        rows=rows,
        mean=f"{sum(row['value'] for row in rows) / len(rows):.3f}",
        documents=rows[0]["documents"],
        window=identity_of(given.scores, ON, rows[0]["corpus"])["window"],
        **facts_of(given.model),
    )
    write_text(given.out, text)


if __name__ == "__main__":
    main()
