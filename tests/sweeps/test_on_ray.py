"""A sweep on Ray gives what it gives here; without ray it says how to get it."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pico
import pytest

from babelpress.errors import BadRun, MissingPackage
from babelpress.sweeps import on_ray
from babelpress.sweeps.looks import PROCESS, Look, Merge
from babelpress.sweeps.on_ray import Resources
from babelpress.text.settings import CalibrationSettings

ROOT = Path(__file__).parents[2]
NO_RAY = importlib.util.find_spec("ray") is None
needs_ray = pytest.mark.skipif(NO_RAY, reason="ray is not installed: pip install 'babelpress[ray]'")

# A process of its own: a driver leaves sockets and threads behind, and its workers count threads.
DRIVER = """
import json, sys
from pathlib import Path
from babelpress.commands.sweeping import sweep

found = sweep(Path(sys.argv[1]), out=Path(sys.argv[2]), **json.loads(sys.argv[3]))
print(json.dumps({"rows": found.rows, "code": found.exit_code}))
"""


def swept(folder, out, **options):
    """What the command gives in a process of its own, with one thread."""
    words = [sys.executable, "-c", DRIVER, str(folder / "s.yaml"), out, json.dumps(options)]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": ""}
    done = subprocess.run(
        words, cwd=folder, env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def results(folder):
    paths = (*folder.glob("results/*"), folder / "results.jsonl")
    return {path.relative_to(folder): path.read_bytes() for path in sorted(paths)}


@dataclass(frozen=True, slots=True)
class Sized:
    """Of a job, what its resources hang on: a dry run that found some memory."""

    found: int

    @property
    def size(self):
        return self

    def memory(self, _out):
        return self.found


def asked(resources, found, **more):
    return resources.options(cast(Any, Sized(found)), Path("nowhere"), **more)


def test_resources_are_said_in_the_words_of_ray():
    assert asked(Resources(3, 0.25, 70), found=1000) == {
        "num_cpus": 3,
        "num_gpus": 0.25,
        "memory": 70 * 1024**2,
    }
    assert asked(Resources(memory_mb=0), found=1000) == {"num_cpus": 1, "num_gpus": 0.0}


def test_memory_that_nobody_gave_is_that_of_the_dry_run_with_room_to_spare():
    assert asked(Resources(2, 1), found=1000) == {"num_cpus": 2, "num_gpus": 1, "memory": 1300}
    assert "memory" not in asked(Resources(), found=0)


def test_no_more_memory_is_asked_for_than_the_largest_machine_has_unless_it_was_given():
    assert asked(Resources(), found=1000, largest=1200)["memory"] == 1200
    assert asked(Resources(), found=1000, largest=1400)["memory"] == 1300
    assert asked(Resources(memory_mb=1), found=1, largest=1200)["memory"] == 1024**2


def test_merging_takes_no_gpu_and_the_memory_of_all_its_parts(tmp_path):
    source = CalibrationSettings(tokens=200)
    looks = tuple(Look("m", source, (tag,), True) for tag in ("swh_Latn", "hin_Deva"))
    for look, sizes in zip(looks, [(700, 900), (500, 400)], strict=True):
        folder = look.folder(tmp_path, look.languages[0])
        folder.mkdir(parents=True)
        for number, size in enumerate(sizes):
            (folder / f"block_{number}.safetensors").write_bytes(bytes(size))
    merge = Merge(looks, source, gram=True)

    found = Resources(1, 0.5).options(merge, tmp_path)

    assert found["num_gpus"] == 0
    assert found["memory"] == math.ceil(1.3 * (PROCESS + 2 * (900 + 500)))


@pytest.mark.slow
def test_nothing_of_ray_is_imported_unless_it_is_asked_for():
    code = textwrap.dedent(
        """
        import sys
        import babelpress.commands.sweeping, babelpress.sweeps.on_ray, babelpress.sweeps.schedule
        assert "ray" not in sys.modules
        """
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingPackage, match=r"pip install 'babelpress\[ray\]'"):
        on_ray.package()


@needs_ray
@pytest.mark.slow
def test_a_sweep_on_ray_is_byte_for_byte_the_local_one_and_one_failure_stops_no_other(tmp_path):
    pico.model().save_pretrained(tmp_path / "tiny")
    pico.tokenizer().save_pretrained(tmp_path / "tiny")
    sweep = {
        "model": "tiny",  # by a relative path, which workers must understand too
        "calibration": {"tokens": 200, "length": 50, "languages": ["sw", "am", "hi"]},
        "steps": [{"prune": {"method": "wanda", "pattern": "0.25", "propagate": "dense"}}],
        "vary": {
            "steps.0.prune.mixture": ["uniform", "only:hi", "only:yo"],  # Yoruba is not there
            "calibration.seed": [4, 7],
        },
        "evaluate": {"languages": ["sw", "hi"], "documents": 2},
    }
    (tmp_path / "s.yaml").write_text(json.dumps(sweep))

    there = swept(tmp_path, "there", on="ray", retries=1)
    here = swept(tmp_path, "here")

    assert there == here
    assert here["code"] == 2
    assert sum(row["error"] is not None for row in here["rows"]) == 2
    assert results(tmp_path / "there") == results(tmp_path / "here")
    assert len(results(tmp_path / "here")) == 4 + 1 + 1


@needs_ray
@pytest.mark.slow
def test_one_pass_on_ray_is_byte_for_byte_the_local_sweep_without(tmp_path):
    pico.model().save_pretrained(tmp_path / "tiny")
    pico.tokenizer().save_pretrained(tmp_path / "tiny")
    sweep = {
        "model": "tiny",
        "calibration": {"tokens": 200, "length": 50, "languages": ["sw", "hi"]},
        "steps": [{"prune": {"method": "wanda", "pattern": "0.25", "propagate": "dense"}}],
        "vary": {"steps.0.prune.method": ["wanda", "sparsegpt"]},
        "evaluate": {"languages": ["sw", "hi"], "documents": 2},
    }
    (tmp_path / "s.yaml").write_text(json.dumps(sweep))

    there = swept(tmp_path, "there", on="ray", retries=1, one_pass=True)
    here = swept(tmp_path, "here")

    assert there == here
    assert here["code"] == 0
    assert results(tmp_path / "there") == results(tmp_path / "here")
    assert len([*(tmp_path / "there").glob("passes/*.json")]) == 1
    assert not (tmp_path / "there" / "moments").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_a_cluster_that_does_not_answer_is_named_at_once(address):
    with pytest.raises(BadRun) as caught:
        on_ray.check_address(address)

    assert address in str(caught.value)
    assert "ray start --head" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_numbers_of_the_plan_past_one_machine_are_those_of_its_script(monkeypatch):
    path = ROOT / "benchmarks" / "ray" / "scale.py"
    spec = importlib.util.spec_from_file_location("scale", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "scale", script)
    spec.loader.exec_module(script)
    written = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").splitlines()

    rows = [row for row in script.page() if row]

    assert len(rows) > 30
    assert not [row for row in rows if row not in written]
