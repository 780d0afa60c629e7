"""Kill a worker and the head of a Ray cluster in the middle of a sweep; nothing may be lost.

    python benchmarks/ray/kill.py --out /tmp/kill

Starts a head and two workers on this machine as separate processes, sweeps 24 recipes of the
embedded model, kills one worker with all its processes (SIGKILL), later the head and the command
itself; starts the cluster again and gives the same command again. Then every result, row for row
and weight for weight, must be byte for byte that of the same sweep done here with as many threads.
Needs `pip install 'babelpress[ray]'`. Exits with 1 where anything differs.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

SWEEP = """\
model: babel-mini
calibration: {corpus: embedded, tokens: 768, length: 128, languages: [en, sw, hi]}
steps:
  - prune: {propagate: dense}
vary:
  steps.0.prune.method: [wanda, ria, sparsegpt]
  steps.0.prune.pattern: ["0.25", "0.5"]
  steps.0.prune.mixture: [uniform, "only:hi"]
  calibration.seed: [0, 1]
evaluate: {corpus: embedded, languages: [en, sw, hi], documents: 2, window: 256}
"""
RECIPES = 24
FIRST_KILL, SECOND_KILL = 5, 12  # results that are there when a worker, and the head, are killed
PATIENCE = 3600.0  # seconds for any one wait
TRIES = 20  # at starting a node
STARTED = b"Ray runtime started"
BIN = Path(sys.executable).parent
QUIET = {
    "RAY_AUTH_MODE": "token",  # a head asks for one wherever one is found; the others do not
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray lets its workers give way to all else, which can starve them
    "TOKENIZERS_PARALLELISM": "false",
}


class Cluster:
    """A head without processors and two workers with one each, every one a process tree."""

    def __init__(self, folder: Path, port: int, sessions: Path):
        """`sessions` is for Ray's own files, its path short: sockets lie in it."""
        self._folder, self._port, self._sessions = folder, port, sessions
        token = folder / "token"
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        token.chmod(0o600)
        QUIET["RAY_AUTH_TOKEN_PATH"] = str(token)
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def join(self, name: str, index: int) -> None:
        """Start a node and wait until it is there; one that gives up is started again.

        Ray gives a node 30 seconds to come up, which on a busy machine may be too few.
        """
        for _ in range(TRIES):
            self.start(name, index)
            wait(name, lambda: self.up(name, index) or self.nodes[name].poll() is not None)
            if self.nodes[name].poll() is None:
                return
            self.kill(name)
        raise RuntimeError(f"{name} does not come up; see its log in {self._folder}")

    def start(self, name: str, index: int) -> None:
        """Start a node; `index` keeps its ports apart from the others'."""
        first = self._port + 1000 * (index + 1)
        if name == "head":
            role = ["--head", f"--port={self._port}", "--num-cpus=0", "--include-dashboard=false"]
            role += [f"--temp-dir={self._sessions}"]  # which the workers use too
        else:
            role = [f"--address={self.address}", "--num-cpus=1"]
        words = [
            str(BIN / "ray"),
            "start",
            "--block",
            *role,
            "--disable-usage-stats",
            "--object-store-memory=100000000",
            f"--min-worker-port={first + 10}",
            f"--max-worker-port={first + 900}",
            f"--dashboard-agent-listen-port={first}",
            f"--dashboard-agent-grpc-port={first + 1}",
            f"--metrics-export-port={first + 2}",
            f"--runtime-env-agent-port={first + 3}",
        ]
        with self._log(name, index).open("wb") as log:
            self.nodes[name] = subprocess.Popen(
                words, stdout=log, stderr=log, env=os.environ | QUIET, start_new_session=True
            )

    def up(self, name: str, index: int) -> bool:
        """Whether a node has said that it runs."""
        return STARTED in self._log(name, index).read_bytes()

    def _log(self, name: str, index: int) -> Path:
        return self._folder / f"{name}-{index}.log"

    def kill(self, name: str) -> int:
        """SIGKILL a node with all its processes; how many they were."""
        return killed(self.nodes.pop(name))


def killed(process: subprocess.Popen[bytes]) -> int:
    """SIGKILL a process and all that it started; how many died."""
    count = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        for each in (*root.children(recursive=True), root):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
                count += 1
    process.wait()
    return count


def wait(what: str, until: Callable[[], bool]) -> None:
    start = time.monotonic()
    while not until():
        if time.monotonic() - start > PATIENCE:
            raise TimeoutError(what)
        time.sleep(0.2)


def command(sweep: Path, out: Path, *more: str) -> list[str]:
    words = [str(BIN / "babelpress"), "sweep", str(sweep), "--out", str(out), "--keep-models"]
    return [*words, *more]


def results(out: Path) -> dict[str, bytes]:
    """The files of results by name, and the merged one."""
    paths = [*out.glob("results/*.jsonl"), *out.glob("results.jsonl")]
    return {path.name: path.read_bytes() for path in paths}


def weights(out: Path) -> dict[str, bytes]:
    """Every file of every model."""
    paths = (path for path in out.glob("runs/*/model/*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def recipes(out: Path) -> int:
    """How many recipes have results."""
    return sum(not path.name.startswith("dense-") for path in out.glob("results/*.jsonl"))


def act(cluster: Cluster, folder: Path, sweep: Path) -> list[str]:
    """The sweep with its two deaths; what is to be told of it."""
    out = folder / "ray"
    words = command(sweep, out, "--on", "ray", "--address", cluster.address)
    told = []
    for index, name in enumerate(("head", "worker-1", "worker-2")):
        cluster.join(name, index)
    with (folder / "first.log").open("wb") as log:
        driver = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | QUIET)
    try:
        wait(
            "results before the first kill",
            lambda: recipes(out) >= FIRST_KILL or driver.poll() is not None,
        )
        before, count = recipes(out), cluster.kill("worker-1")
        told.append(f"worker 1 killed with {count} processes when {before} recipes were done")
        wait(
            "results before the second kill",
            lambda: recipes(out) >= max(SECOND_KILL, before + 3) or driver.poll() is not None,
        )
        if driver.poll() is not None:
            raise RuntimeError(f"the sweep ended early; see {folder / 'first.log'}")
        before, count = recipes(out), cluster.kill("head")
    finally:
        command_processes = killed(driver)
    told.append(
        f"the sweep went on to {before} recipes; head killed with {count} processes, the command "
        f"with {command_processes}"
    )
    kept = results(out)
    died = time.monotonic()
    wait("the last worker of a dead head", lambda: cluster.nodes["worker-2"].poll() is not None)
    told.append(f"worker 2 gave up by itself {time.monotonic() - died:.0f} s after its head")
    for index, name in enumerate(("head", "worker-3", "worker-4"), start=3):
        cluster.join(name, index)
    alone = recipes(out)  # a worker without a head ends the task that it has
    with (folder / "second.log").open("wb") as log:
        again = subprocess.run(words, stdout=log, stderr=log, env=os.environ | QUIET, check=False)
    now = results(out)
    changed = sum(now.get(name) != data for name, data in kept.items())
    told.append(
        f"same command again: exit code {again.returncode}, {recipes(out) - alone} recipes made "
        f"up, {changed} of the {len(kept)} files of results that were there changed"
    )
    if again.returncode or changed:
        told.append("WRONG: the second command failed or changed results")
    return told


def compare(folder: Path) -> list[str]:
    """What differs between the sweep on Ray and the local one."""
    here, there = folder / "local", folder / "ray"
    wrong = []
    for what, of in (("results", results), ("weights", weights)):
        one, other = of(here), of(there)
        differ = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
        print(f"{what}: {len(one)} files here, {len(other)} on Ray, {len(differ)} differ")
        wrong += [f"{what} differ: {name}" for name in sorted(differ)]
    rows = [json.loads(line) for line in (there / "results.jsonl").read_text().splitlines()]
    keys = {(row["fingerprint"], row["language"]) for row in rows}
    print(f"rows: {len(rows)}, of {len({mark for mark, _ in keys})} recipes, each once")
    if len(rows) != len(keys) or len(keys) != 3 * RECIPES:
        wrong.append(f"rows are lost or doubled: {len(rows)} rows, {len(keys)} different")
    left = [str(path) for path in there.rglob("*") if path.name.endswith(".partial")]
    wrong += [f"left half-written: {path}" for path in left]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="a folder; a local sweep there is used"
    )
    parser.add_argument("--port", type=int, default=26379)
    given = parser.parse_args()
    folder = given.out.absolute()
    shutil.rmtree(folder / "ray", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    sweep = folder / "sweep.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    start = time.monotonic()
    subprocess.run(
        command(sweep, folder / "local"),
        env=os.environ | QUIET,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    print(f"local: {recipes(folder / 'local')} recipes in {time.monotonic() - start:.0f} s")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as sessions:
        cluster = Cluster(folder, given.port, Path(sessions))
        try:
            told = act(cluster, folder, sweep)
        finally:
            for name in list(cluster.nodes):
                cluster.kill(name)
    print("\n".join(told))
    print(f"on Ray: {time.monotonic() - start:.0f} s with both deaths")
    wrong = [*(line for line in told if line.startswith("WRONG")), *compare(folder)]
    print("\n".join(wrong) or "nothing lost, nothing doubled, all bytes equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
