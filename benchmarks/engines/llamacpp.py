"""What our imatrix does to each language in llama.cpp: K-quants x calibrations x seeds, resumable.

    python benchmarks/engines/llamacpp.py sweep --engine ENV/bin/python --data TEXTS --out FOLDER
    python benchmarks/engines/llamacpp.py table --out FOLDER

ENV is an environment of its own (llamacpp-requirements.txt); TEXTS a corpus folder. K-quants are
made of our F16 GGUF by llama.cpp, with an imatrix of ours or none, and scored by llama.cpp in bits
per byte on the first FLORES articles (documents and windows of evals/bits_per_byte.py). Every one
is a folder that is not done again. The minimax mixture is found with llama.cpp's own quantizer:
every round is quantized by it, read back, and its damage weighed by the moments of each language.
`table` prints what is there, changes against llama.cpp's own F16.

Shapes: D documents.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from babelpress.evals._windows import Prepared, prepare
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.judge.compare import compare
from babelpress.judge.verdicts import training_shares
from babelpress.models.gguf_names import layout
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened, open_model
from babelpress.models.walk import Walk
from babelpress.moments.calibrate import calibrate
from babelpress.moments.damage import Damage, damages, mean_damage
from babelpress.moments.store import Store
from babelpress.numerics.tally import Tally
from babelpress.press.mixture_search import best, minimax
from babelpress.system.files import read_json, write_json
from babelpress.text import mixtures
from babelpress.text.corpus import open_corpus
from babelpress.text.settings import CalibrationSettings

TYPES = ("Q2_K", "Q3_K_S", "Q4_K_M")
MIXED = ("english", "proportional:babel-mini", "minimax")
SEEDS = (0, 1, 2)
DOCUMENTS = 90  # FLORES articles: 314 sentences
TOKENS, LENGTH = 16384, 256
ROUNDS = 20  # of the minimax loop


class Inside:
    """llama.cpp in its own environment, one process a job."""

    def __init__(self, python: str, folder: Path):
        self.python, self.folder = python, folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, do: str, **job: object) -> dict[str, Any]:
        path = self.folder / "job.json"
        words = {
            key: str(value) if isinstance(value, Path) else value for key, value in job.items()
        }
        path.write_text(json.dumps({"do": do, **words}))
        script = Path(__file__).with_name("llamacpp_inside.py")
        subprocess.run([self.python, str(script), str(path)], check=True)
        return json.loads(path.with_suffix(".result.json").read_text())


def write(form: str, source: Source, folder: Path, **options: object) -> list[str]:
    """An export into a folder, over what may be there."""
    folder.mkdir(parents=True, exist_ok=True)
    return FORMATS.get(form)(source, folder, **options)


# ---- sweep ---------------------------------------------------------------------------------


def sweep(given: argparse.Namespace) -> None:
    out, opened = given.out, open_model(given.model)
    inside = Inside(given.engine, out / f"work-{min(given.seeds)}-{'-'.join(given.types)}")
    flores = open_corpus(f"{given.data}?src=flores")
    texts = {t: flores.documents(t, "test")[: given.documents] for t in flores.languages()}
    prepared = prepare(opened.tokenizer, texts, window=LENGTH)
    dense = out / "dense.gguf"
    if not dense.exists():
        write("gguf", Source(given.model, opened), inside.folder, kind="f16")
        (inside.folder / "model.gguf").rename(dense)
    score(inside, dense, prepared, out / "F16", {})
    for kind in given.types:
        press(inside, dense, kind, "", prepared, out / f"{kind}-none", {})
    for seed in given.seeds:
        folder = out / f"moments-{seed}"
        sees = cache(lambda seed=seed, folder=folder: moments(opened, given.data, seed, folder))
        for kind in given.types:
            for mixed in MIXED:
                place = out / f"{kind}-{mixed.replace(':', '_')}-{seed}"
                if (place / "manifest.json").exists():
                    continue
                source = Source(given.model, opened, moments=sees())
                shares, facts = shares_of(inside, dense, kind, mixed, source, given.rounds)
                write("imatrix", replace(source, shares=shares), inside.folder)
                facts["shares"] = shares
                press(inside, dense, kind, inside.folder / "imatrix.gguf", prepared, place, facts)


def moments(opened: Opened, data: str, seed: int, folder: Path) -> Store:
    """Moments with Gram matrices of the train text, kept in a folder."""
    corpus = open_corpus(data)
    there = tuple(tag for tag in corpus.languages() if corpus.documents(tag, "train"))
    asked = CalibrationSettings(
        corpus=data, languages=there, tokens=TOKENS, length=LENGTH, seed=seed
    )
    return calibrate(opened, asked, folder, gram=True)


def press(
    inside: Inside,
    dense: Path,
    kind: str,
    imatrix: Path | str,
    prepared: Mapping[str, Prepared],
    place: Path,
    facts: dict[str, Any],
) -> None:
    if (place / "manifest.json").exists():
        return
    out = inside.folder / "pressed.gguf"
    made = inside("quantize", model=dense, imatrix=imatrix, type=kind, out=out)
    score(inside, out, prepared, place, {**facts, "bytes": made["bytes"]})


def score(
    inside: Inside,
    model: Path,
    prepared: Mapping[str, Prepared],
    place: Path,
    facts: dict[str, Any],
) -> None:
    """Tallies of every language, then the manifest, whose presence means done."""
    if (place / "manifest.json").exists():
        return
    windows = inside.folder / "windows.npz"
    counts = save_windows(prepared, windows)
    found = inside("score", model=model, windows=windows, out=inside.folder / "nats.npy")
    nats = np.split(np.load(inside.folder / "nats.npy"), np.cumsum(counts)[:-1])
    for (tag, one), nats_D in zip(prepared.items(), nats, strict=True):
        tally = Tally(one.documents, nats_D / np.log(2), one.bytes_D)
        tally.save(place / "tallies" / f"bits_per_byte.{tag}.parquet")
    write_json(place / "manifest.json", {**facts, **found})
    speed = f"{found['tokens_per_second']:.0f} tokens/s"
    print(f"{time.strftime('%H:%M:%S')} {place.name} {found['seconds']:.0f} s, {speed}", flush=True)


def save_windows(prepared: Mapping[str, Prepared], path: Path) -> list[int]:
    """All windows one after the other, documents counted through all languages;
    how many each language has."""
    ids, scored, document, counts = [], [], [], []
    for one in prepared.values():
        before = sum(counts)
        for window in one.windows:
            ids.append(window.ids_T)
            scored.append(window.scored)
            document.append(before + window.document)
        counts.append(len(one.documents))
    ends = np.cumsum([len(each) for each in ids])
    np.savez(path, ids=np.concatenate(ids), ends=ends, scored=scored, document=document)
    return counts


# ---- mixtures ------------------------------------------------------------------------------


def shares_of(
    inside: Inside, dense: Path, kind: str, mixed: str, source: Source, rounds: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """The shares of a mixture, and what is to be noted about them."""
    assert source.moments is not None
    tags = source.moments.identity["languages"]
    if mixed != "minimax":
        return mixtures.mixture(mixed, tags).shares, {}
    damage_of = damage_by_llamacpp(inside, dense, kind, source)
    trace = minimax(damage_of, tags, rounds=rounds)
    rows = [{"worst": each.worst, "mean": each.mean} for each in trace]
    return best(trace).shares, {"trace": rows, "damage": best(trace).lost}


def damage_by_llamacpp(
    inside: Inside, dense: Path, kind: str, source: Source
) -> Callable[[Mapping[str, float]], dict[str, float]]:
    """What each language loses when llama.cpp quantizes with these shares."""

    def damage_of(shares: Mapping[str, float]) -> dict[str, float]:
        write("imatrix", replace(source, shares=shares), inside.folder)
        out = inside.folder / "tried.gguf"
        imatrix = inside.folder / "imatrix.gguf"
        inside("quantize", model=dense, imatrix=imatrix, type=kind, out=out)
        return damage(source, out)

    return damage_of


def damage(source: Source, path: Path) -> dict[str, float]:
    """Mean damage over sites of the weights in a GGUF file, by language."""
    assert source.moments is not None
    walk, named = Walk(source.opened.model), layout(source.opened.model)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    sites: list[dict[str, Damage]] = []
    for index, block in enumerate(walk.blocks):
        layers = linears(block)
        for site, seen in source.moments.load(index).items():
            parts = []
            for name in site.linears:
                parameter = walk.name(index, f"{name}.weight")
                tensor = tensors[named.name(parameter)]
                new = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                old_OI, order = weight(layers[name]), named.order(parameter)
                parts.append(
                    damages(
                        old_OI if order is None else old_OI[order],
                        torch.from_numpy(np.array(new)),
                        seen,
                    )
                )
            sites.append(
                {
                    tag: Damage(
                        sum(part[tag].numerator for part in parts),
                        sum(part[tag].denominator for part in parts),
                    )
                    for tag in seen
                }
            )
    return mean_damage(sites)


# ---- table ---------------------------------------------------------------------------------


def load(folder: Path) -> dict[str, Tally]:
    """Tallies of a scored folder by language."""
    paths = sorted((folder / "tallies").glob("bits_per_byte.*.parquet"))
    return {path.name.split(".")[1]: Tally.load(path) for path in paths}


def table(given: argparse.Namespace) -> None:
    """One line a configuration: every seed, then the hull of their intervals."""
    dense = load(given.out / "F16")
    shares = training_shares(given.model, dense)
    mean = sum(tally.value for tally in dense.values()) / len(dense)
    print(f"F16 in llama.cpp: mean {mean:.4f} bits per byte over {len(dense)} languages\n")
    print(
        "| type | MB | imatrix | mean | worst language | low-resource |\n|---|---|---|---|---|---|"
    )
    for kind in TYPES:
        for mixed in ("none", *MIXED):
            stem = f"{kind}-{mixed.replace(':', '_')}"
            ends = ("",) if mixed == "none" else tuple(f"-{seed}" for seed in SEEDS)
            folders = [given.out / f"{stem}{end}" for end in ends]
            there = [f for f in folders if (f / "manifest.json").exists()]
            if not there:
                continue
            found = [
                {s.name: s for s in compare(dense, load(f), shares=shares).summaries} for f in there
            ]
            cells = [
                cell([each[key] for each in found]) for key in ("mean", "worst", "low_resource")
            ]
            size = read_json(there[0] / "manifest.json")["bytes"] / 1e6
            print(f"| {kind} | {size:.2f} | {mixed} | {' | '.join(cells)} |")


def cell(summaries: Sequence[Any]) -> str:
    """The value of every seed, the hull of their intervals, and the languages they name."""
    values = " / ".join(f"{100 * each.value:+.2f}" for each in summaries)
    low, high = min(each.low for each in summaries), max(each.high for each in summaries)
    named = ", ".join(sorted({each.language for each in summaries if each.language}))
    return f"{values} % [{100 * low:.2f}, {100 * high:.2f}] {named}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=("sweep", "table"))
    parser.add_argument("--engine", default="python", help="python of the llama.cpp environment")
    parser.add_argument("--data", default="text", help="corpus folder with all languages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="babel-mini")
    parser.add_argument("--types", nargs="+", default=list(TYPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="articles a language")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the minimax loop")
    given = parser.parse_args()
    {"sweep": sweep, "table": table}[given.do](given)


if __name__ == "__main__":
    main()
