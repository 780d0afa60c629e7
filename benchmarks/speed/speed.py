"""How fast we press beside llm-compressor and the published wanda and sparsegpt codes.

    sh benchmarks/speed/peers.sh PEERS
    python benchmarks/speed/speed.py --folder FOLDER --peer PEERS/env/bin/python \\
        --wanda PEERS/wanda --sparsegpt PEERS/sparsegpt --data TEXT_FOLDER --out speed.json

One call runs everything in turn: every side is a whole process on the same random Llama of 135 M
parameters and the same tokens (shape.py), loads it, presses it, saves it. Sides take turns within
every repeat, so that a busy neighbour hits all; the table has the least of the repeats and JSON has
all. `ratio` is the wall time of llm-compressor's best setting over that of the row, whole
processes; `inside` the same without the imports. Its settings: its defaults (batch 1) and batch 8;
`--settings` also takes `one pass`, in which it feeds blocks what dense blocks give, as our `dense`
does. Phases are seconds inside the process. `of floor` is the floor (floor.py, measured in the same
call) over the phase: 1.0 would be as fast as the machine can.

Parts (`--parts`): speed, further, floor, curves (curves.py), quality (quality.py: layer error and
bits per byte of babel-mini pressed by both sides on the same tokens of `--data`). Tools that are
not given are left out. Set OMP_NUM_THREADS yourself; all sides get the same environment.
"""

import argparse
import os
import platform
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import curves
import floor
import torch
from jobs import HERE, Failed, Job, Measured, run
from quality import Judge, prepare
from shape import TOKENS, Shape

from babelpress.errors import BabelpressError
from babelpress.system.files import write_json

METHODS = ("wanda 0.5", "sparsegpt 0.5", "sparsegpt 2of4", "gptq 4/128")
PARTS = ("speed", "further", "floor", "curves", "quality")
PEER = "llm-compressor"
OURS = "babelpress"
PHASES = ("import", "load", "forward", "gram", "solve", "damage", "save", "rest")
LIMITS = {"wanda 0.5": 0.10}  # of the first configuration's time; solvers have the other one
SOLVER_LIMIT = 0.15


@dataclass(frozen=True, slots=True)
class Side:
    """A tool with one setting, and how its process is started."""

    tool: str
    setting: str
    python: str
    script: str
    code: str = ""

    def does(self, method: str) -> bool:
        """Whether it has the method in this benchmark."""
        if self.setting == "wanda code":
            return not method.startswith("gptq")
        return self.setting != "sparsegpt code" or not method.startswith("wanda")


@dataclass(frozen=True, slots=True)
class Row:
    """What one side took for one method and number of samples, all repeats."""

    side: Side
    method: str
    samples: int
    runs: tuple[Measured, ...]

    @property
    def best(self) -> Measured:
        """The run that took least on the wall."""
        return min(self.runs, key=lambda each: each.wall_s)

    @property
    def inside_s(self) -> float:
        """Its time without the imports."""
        return self.best.inside["inside_s"] - self.best.inside["phases"]["import"]

    def told(self) -> dict[str, Any]:
        """For JSON."""
        runs = [asdict(each) for each in self.runs]
        words = {"tool": self.side.tool, "setting": self.side.setting}
        return {**words, "method": self.method, "samples": self.samples, "runs": runs}


# ---- sides ---------------------------------------------------------------------------------


def ours(setting: str) -> Side:
    """We, in this interpreter."""
    return Side(OURS, setting, sys.executable, "inside_ours.py")


def sides(given: Namespace) -> list[Side]:
    """Everything that was given."""
    found = [ours("dense"), ours("compressed")]
    if given.peer:
        script = "inside_llmcompressor.py"
        found += [Side(PEER, s, str(given.peer), script) for s in given.settings]
    for name in ("wanda", "sparsegpt"):
        if folder := getattr(given, name):
            code = str(folder.resolve())
            found.append(Side(name, f"{name} code", sys.executable, "inside_published.py", code))
    return found


class Runner:
    """Runs sides on jobs in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        package = str(HERE.parent.parent)
        self.env = {**os.environ, "PYTHONPATH": package, "HF_HUB_OFFLINE": "1"}

    def __call__(self, side: Side, job: Job) -> Measured:
        """One process. Raises Failed."""
        words = f"{side.tool} {side.setting} {job.method} {job.samples}"
        work = self.folder / words.replace(" ", "_").replace("/", "-")
        out = work / "model"
        if out.exists():
            shutil.rmtree(out)
        job = replace(job, out=str(out), result=str(work / "result.json"), code=side.code)
        found = run([side.python, str(HERE / side.script)], job, work, self.env)
        print(f"{words}: {found.wall_s:.1f} s, {found.peak_mib:.0f} MiB", file=sys.stderr)
        shutil.rmtree(out)
        return found


def job_of(model: Path, method: str, samples: int, setting: str) -> Job:
    """A job without its output paths."""
    return Job(
        str(model.resolve()), str(model.resolve() / TOKENS), samples, method, setting, "", ""
    )


# ---- speed ---------------------------------------------------------------------------------


def speed(given: Namespace, runner: Runner, model: Path) -> list[Row]:
    """All sides, methods and sample numbers; within a repeat sides take turns."""
    found: list[Row] = []
    for samples in given.samples:
        for method in given.methods:
            there = [side for side in sides(given) if side.does(method)]
            runs: dict[Side, list[Measured]] = {side: [] for side in there}
            for repeat in range(given.repeats):
                for side in there if repeat % 2 == 0 else reversed(there):
                    runs[side].append(runner(side, job_of(model, method, samples, side.setting)))
            found += [Row(side, method, samples, tuple(each)) for side, each in runs.items()]
    return found


def peer_best(rows: Sequence[Row], row: Row) -> Row | None:
    """llm-compressor's quickest setting for the method and samples of a row."""
    same = [r for r in rows if (r.method, r.samples) == (row.method, row.samples)]
    return min((r for r in same if r.side.tool == PEER), key=lambda r: r.best.wall_s, default=None)


def floor_of(row: Row, shape: Shape, measured: floor.Rates) -> dict[str, float]:
    """The floor of a row's phases."""
    one_pass = row.side.setting in ("dense", "one pass")
    return floor.seconds(
        replace(shape, samples=row.samples),
        measured,
        passes=1 if one_pass else 2,
        gram=not row.method.startswith("wanda"),
    )


def speed_lines(rows: Sequence[Row], shape: Shape, measured: floor.Rates | None) -> Iterator[str]:
    """As a Markdown table."""
    head = ["samples", "method", "tool", "setting", "wall s", "cpu s", "MiB", "ratio", "inside"]
    head += [*PHASES, "of floor: forward / gram / solve"]
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        best, peer = row.best, peer_best(rows, row)
        ratios = ["", ""]
        if peer:
            ratios = [
                f"{peer.best.wall_s / best.wall_s:.2f}",
                f"{peer.inside_s / row.inside_s:.2f}",
            ]
        cells = [str(row.samples), row.method, row.side.tool, row.side.setting]
        cells += [f"{best.wall_s:.1f}", f"{best.cpu_s:.1f}", f"{best.peak_mib:.0f}", *ratios]
        phases: Mapping[str, float] = best.inside["phases"]
        cells += [f"{phases[name]:.2f}" if name in phases else "" for name in PHASES]
        near = floor_of(row, shape, measured) if measured else {}
        cells.append(" / ".join(f"{s / phases[n]:.2f}" for n, s in near.items() if n in phases))
        yield "| " + " | ".join(cells) + " |"


# ---- a further configuration ---------------------------------------------------------------


def further(given: Namespace, runner: Runner, model: Path) -> list[dict[str, Any]]:
    """What a further configuration on the same moments takes of the first one's time."""
    found: list[dict[str, Any]] = []
    for samples in given.samples:
        for method in given.methods:
            job = job_of(model, method, samples, "further")
            runs = [runner(ours("further"), job).inside for _ in range(given.repeats)]
            least = min(runs, key=lambda each: each["further_s"] / each["first_s"])
            times = {name: least[name] for name in ("gather_s", "first_s", "further_s")}
            share = times["further_s"] / times["first_s"]
            found.append({"method": method, "samples": samples, **times, "share": share})
    return found


def further_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """As a Markdown table."""
    yield "| samples | method | gather s | first s | further s | share | wanted |"
    yield "|---|---|---|---|---|---|---|"
    for row in found:
        limit = LIMITS.get(row["method"], SOLVER_LIMIT)
        times = " | ".join(f"{row[n]:.2f}" for n in ("gather_s", "first_s", "further_s"))
        share = f"{row['share']:.1%} | < {limit:.0%}"
        yield f"| {row['samples']} | {row['method']} | {times} | {share} |"


# ---- quality -------------------------------------------------------------------------------


def quality(given: Namespace, runner: Runner) -> list[dict[str, Any]]:
    """babel-mini, or another small model, pressed by both sides on the same tokens."""
    told: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        wanted = {"samples": given.quality_samples, "length": given.quality_length, "seed": seed}
        folder = runner.folder / f"quality-{seed}"
        model, ids_NT = prepare(given.quality_model, given.data, folder, wanted)
        judge = Judge(str(model), ids_NT, given.data, given.documents)
        told.append({"seed": seed, "tool": "dense", "bits_per_byte": judge.dense_bits()})
        there = [ours("compressed"), ours("dense")]
        there += [s for s in sides(given) if s.tool == PEER][:1]
        for method in given.methods:
            for side in there:
                job = job_of(model, method, len(ids_NT), side.setting)
                file = folder / "linears.safetensors"
                runner(side, replace(job, linears=str(file)))
                words = {"tool": side.tool, "setting": side.setting, "method": method}
                told.append({"seed": seed, **words, **judge.judge(file).told()})
    return told


def quality_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """As a Markdown table."""
    yield "| seed | method | tool | setting | layer error | output error | bits per byte |"
    yield "|---|---|---|---|---|---|---|"
    for row in found:
        errors = [f"{row[n]:.5f}" if n in row else "" for n in ("layer_error", "output_error")]
        words = [row.get(name, "") for name in ("method", "tool", "setting")]
        cells = [str(row["seed"]), *words, *errors, f"{row['bits_per_byte']:.4f}"]
        yield "| " + " | ".join(cells) + " |"


# ---- the command ---------------------------------------------------------------------------


def arguments() -> Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for models and outputs")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--peer", type=Path, help="python of llm-compressor's environment")
    parser.add_argument("--wanda", type=Path, help="folder of the published code")
    parser.add_argument("--sparsegpt", type=Path, help="the same")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--settings", nargs="+", default=["default", "batch 8"])
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--repeats", type=int, default=3)
    for name in ("hidden", "blocks", "length", "vocabulary"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Shape(), name))
    parser.add_argument("--curve-blocks", type=int, default=3, help="of the curves' base")
    parser.add_argument("--curve-samples", type=int, default=32, help="the same")
    parser.add_argument("--data", help="a corpus folder, for quality")
    parser.add_argument("--seeds", type=int, default=3, help="of quality's calibration text")
    parser.add_argument("--quality-model", default="babel-mini")
    parser.add_argument("--quality-samples", type=int, default=128)
    parser.add_argument("--quality-length", type=int, default=256)
    parser.add_argument("--documents", type=int, default=30, help="FLORES articles of a language")
    given = parser.parse_args()
    if "quality" in given.parts and not given.data:
        parser.error("quality needs --data; or leave it out of --parts")
    return given


def about() -> dict[str, Any]:
    """The machine, as far as it tells."""
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Run the parts, print their tables, write the figures."""
    given = arguments()
    shape = Shape(given.hidden, given.blocks, given.vocabulary, max(given.samples), given.length)
    runner = Runner(given.folder / "work")
    told: dict[str, Any] = {"about": about(), "shape": asdict(shape)}
    model = curves.folder_of(given.folder, shape)
    measured = None
    if "floor" in given.parts:
        measured = floor.rates(shape)
        told["floor"] = {"rates": asdict(measured), "work": asdict(floor.work(shape))}
        show("The floor", floor.lines(shape, measured))
    if "speed" in given.parts:
        rows = speed(given, runner, model)
        told["speed"] = [row.told() for row in rows]
        show("Speed", speed_lines(rows, shape, measured))
    if "further" in given.parts:
        told["further"] = further(given, runner, model)
        show("A further configuration on the same moments", further_lines(told["further"]))
    if "curves" in given.parts:
        base = replace(shape, blocks=given.curve_blocks, samples=given.curve_samples)
        told["curves"] = curves.exponents(curves.measure(base, given.folder, given.repeats))
        show("Exponents of cost", curves.lines(told["curves"]))
    if "quality" in given.parts:
        told["quality"] = quality(given, runner)
        show("Quality", quality_lines(told["quality"]))
    write_json(given.out, told)


def show(title: str, table: Sequence[str] | Iterator[str]) -> None:
    """Print one part."""
    print(f"\n## {title}\n\n" + "\n".join(table), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (BabelpressError, Failed) as error:
        sys.exit(f"speed.py: {error}")
