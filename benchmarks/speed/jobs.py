"""What a side of the benchmark is asked to do, and how its process is run and measured.

Only torch and safetensors are used: peers read this in environments of their own.

Shapes: N samples, T tokens of a sample.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Job:
    """One method on one model and the first samples of its tokens.

    `setting` is the tool's own word. The pressed model goes to `out`, the measurements to `result`;
    `linears`, where given, is a file for the dense weights of all pressed linears.
    """

    model: str
    tokens: str
    samples: int
    method: str
    setting: str
    out: str
    result: str
    linears: str = ""
    code: str = ""

    @classmethod
    def read(cls, path: Path) -> "Job":
        """From JSON."""
        return cls(**json.loads(path.read_text()))


def window(job: Job) -> Any:
    """The token ids (N, T) of a job."""
    from safetensors.torch import load_file

    return load_file(job.tokens)["ids"][: job.samples]


def save_linears(model: Any, path: Path) -> None:
    """Write the weights of every linear of the blocks, by name, as the model computes with them."""
    import torch
    from safetensors.torch import save_file

    named = model.model.layers.named_modules()
    found = {n: m.weight.detach().clone() for n, m in named if isinstance(m, torch.nn.Linear)}
    save_file(found, path)


@dataclass(frozen=True, slots=True)
class Measured:
    """A whole process: seconds on the wall and of the processors, peak memory, and its own word."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    inside: dict[str, Any]


class Failed(Exception):
    """A side did not finish; the message has the end of what it printed."""


def run(command: Sequence[str], job: Job, folder: Path, env: Mapping[str, str]) -> Measured:
    """Run a process on a job. Raises Failed where it does not end well."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = folder / "job.json"
    asked.write_text(json.dumps(asdict(job)))
    log = folder / "log.txt"
    with log.open("w") as told:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, str(asked)], stdout=told, stderr=told, cwd=HERE, env=dict(env)
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed("\n".join(log.read_text(errors="replace").splitlines()[-15:]))
    inside = json.loads(Path(job.result).read_text())
    return Measured(wall_s, used.ru_utime + used.ru_stime, inside["peak_mib"], inside)
