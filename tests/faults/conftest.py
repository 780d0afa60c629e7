"""A model as a folder, small work to do on it, and one thread, which forks and moments need."""

from collections import Counter
from contextlib import chdir
from pathlib import Path

import pico
import pytest
import torch

from babelpress.models.open import open_model
from babelpress.moments.calibrate import calibrate
from babelpress.runs import recipe, run
from babelpress.text.settings import CalibrationSettings

LANGUAGES = ("swh_Latn", "amh_Ethi")
TEXT = {"languages": LANGUAGES, "tokens": 128, "length": 64}
PRUNED = {"prune": {"method": "wanda", "pattern": "0.25"}}
CODED = {"quantize": {"method": "gptq", "bits": 4, "group": 16}}
STEPS = {"prune": [PRUNED], "quantize": [CODED], "press": [PRUNED, CODED]}
SWEEP = {
    "calibration": {**TEXT, "languages": list(LANGUAGES)},
    "steps": [{"prune": {"method": "wanda", "pattern": "0.25", "propagate": "dense"}}],
    "vary": {"steps.0.prune.method": ["wanda", "magnitude"]},
    "evaluate": {"languages": list(LANGUAGES), "documents": 1, "window": 64},
}


def pytest_terminal_summary(terminalreporter):
    """Say how many kills were survived, by command."""
    survived = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        if report.when == "call" and "test_kills" in report.nodeid:
            survived.update(dict(report.user_properties))
    if survived:
        each = ", ".join(f"{name} {number}" for name, number in sorted(survived.items()))
        terminalreporter.write_line(f"kills survived: {survived.total()} ({each})")


@pytest.fixture(autouse=True)
def alone(one_thread):
    """Every test here forks, and threads belong to what must agree."""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A llama as a transformers folder."""
    folder = tmp_path_factory.mktemp("models") / "pico"
    pico.model().save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def work(model):
    """What a command does into a folder, by the name of the command."""

    def look(out):
        calibrate(open_model(str(model)), CalibrationSettings.model_validate(TEXT), out, gram=True)

    def press(steps):
        plan = recipe.of({"model": str(model), "calibration": TEXT, "steps": steps})
        return lambda out: run.do(plan, out)

    def sweep(out):
        from babelpress.sweeps import plan, schedule
        from babelpress.sweeps.setup import Setup

        asked = plan.of({"model": str(model), **SWEEP})
        with chdir(out.parent):  # recipes name the folder of their moments
            setup = Setup(Path(out.name), str(Path(out.name, "results")))
            swept = schedule.do(asked, setup, schedule.Here(setup))
        assert not swept.failed and not swept.unscored

    return {
        "calibrate": look,
        **{name: press(steps) for name, steps in STEPS.items()},
        "sweep": sweep,
    }


@pytest.fixture(scope="session")
def whole(work, tmp_path_factory):
    """The folder of a command that nothing disturbed, made when it is first asked for."""
    made = {}

    def folder(name):
        if name not in made:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            made[name] = tmp_path_factory.mktemp("whole") / "out"
            work[name](made[name])
            torch.set_num_threads(threads)
        return made[name]

    return folder
