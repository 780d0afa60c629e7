"""Scored folders made by hand, from tallies."""

import json
from pathlib import Path

import numpy as np

from babelpress.numerics.tally import Tally
from babelpress.system.files import write_json

ON = "bits_per_byte"
BYTES = np.array([40.0, 90.0, 55.0, 70.0, 61.0, 48.0])
LOSS = {"eng_Latn": 0.01, "swh_Latn": 0.31, "hin_Deva": 0.12, "tha_Thai": 0.07}


def scored(folder: Path, loss: dict[str, float], *, model: str = "babel-mini") -> Path:
    """A folder as `babelpress eval` leaves it; every document loses about as much."""
    rows = []
    for place, (tag, lost) in enumerate(loss.items()):
        noise_D = 1 + 0.02 * np.random.default_rng(place).standard_normal(len(BYTES))
        bits_D = BYTES * (1.5 + 0.2 * place) * (1 + lost * noise_D)
        tally = Tally(tuple(f"doc-{i}" for i in range(len(BYTES))), bits_D, BYTES)
        tally.save(folder / "tallies" / f"{ON}.{tag}.parquet")
        rows.append({"model": model, "language": tag, "evaluation": ON, "value": tally.value})
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(
    folder: Path,
    loss: dict[str, float],
    *,
    policy: str = "uniform",
    damage: dict[str, float] | None = None,
    model: str = "babel-mini",
) -> Path:
    """A scored folder that is a run of one step."""
    scored(folder, loss, model=str(folder))
    step = {
        "step": {"method": "wanda", "pattern": "0.25"},
        "model": {"name": model},
        "mixture": {"policy": policy},
        "damage": damage or loss,
    }
    write_json(folder / "manifest.json", {"steps": [step]})
    return folder
