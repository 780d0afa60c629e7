"""The package as `import babelpress` gives it: at once, nothing heavy, a function a command."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest
from scoring import LOSS, run, scored

import babelpress as bp
from babelpress import commands
from babelpress.prune import PRUNERS

HEAVY = ("torch", "transformers", "numpy", "pydantic", "cyclopts", "yaml", "scipy", "pyarrow")
TENSORS = ("torch", "transformers", "tokenizers", "safetensors", "accelerate")
JUDGING = (
    "compare dense run --json",
    "gate run --against dense --max-loss 9 --json",
    "report dense run --out page.html --json",
)
LINE = re.compile(r"import time:\s+\d+ \|\s+(\d+) \| babelpress$")


def python(*words, cwd=None):
    """What a new interpreter prints."""
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=True, cwd=cwd
    )


def test_importing_takes_less_than_a_fifth_of_a_second():
    """With what it imports, but not the interpreter itself; the least of three."""
    seconds = []
    for _ in range(3):
        printed = python("-X", "importtime", "-c", "import babelpress").stderr
        (found,) = (m for line in printed.splitlines() if (m := LINE.match(line)))
        seconds.append(int(found[1]) / 1e6)

    assert min(seconds) < 0.2


def test_importing_and_looking_loads_nothing_heavy():
    code = (
        "import sys, babelpress as bp\n"
        "_ = bp.__version__, dir(bp), bp.__doc__\n"
        f"print(sorted({{*{HEAVY}}} & sys.modules.keys()), 'babelpress.commands' in sys.modules)"
    )

    assert python("-c", code).stdout == "[] False\n"


def test_every_command_is_a_function_of_its_name_though_rooms_have_the_same():
    """In a new interpreter, with the rooms of these names imported first and after."""
    code = (
        "import babelpress.prune, babelpress.quantize, babelpress.report as room\n"
        "import babelpress as bp\n"
        "from babelpress import commands\n"
        "from babelpress.prune import PRUNERS\n"
        "import babelpress.evals, babelpress.sweeps\n"
        "same = {name: getattr(bp, name) is each for name, each in commands.COMMANDS.items()}\n"
        "print(all(same.values()), callable(bp.prune), callable(bp.report), len(PRUNERS.names()))"
    )

    assert python("-c", code).stdout == f"True True True {len(PRUNERS.names())}\n"


def test_eval_and_evaluate_are_one_function():
    assert bp.eval is bp.evaluate is commands.COMMANDS["eval"]
    assert {"eval", "evaluate", "Outcome", "__version__", *commands.COMMANDS} <= set(dir(bp))
    assert bp.Outcome is commands.Outcome


def test_the_version_is_that_of_the_distribution():
    assert bp.__version__ == version("babelpress")


@pytest.mark.parametrize("place", [bp, commands])
def test_a_name_that_is_none_is_an_attribute_error_that_names_it(place):
    with pytest.raises(AttributeError, match=f"module '{place.__name__}' has no .*'prun'"):
        _ = place.prun
    assert not hasattr(place, "prun")


def test_types_are_shipped():
    assert files("babelpress").joinpath("py.typed").is_file()


def test_type_checkers_know_of_every_command():
    """Functions are given when they are asked for, so what checkers read is written by hand."""
    text = files("babelpress").joinpath("__init__.py").read_text(encoding="utf-8")

    told = set(
        re.findall(r"^    from babelpress\.commands import (\w+) as \1$", text, re.MULTILINE)
    )

    assert told == {*commands.COMMANDS, "evaluate", "Outcome"}
    assert "\n    __version__: str\n" in text


def test_judging_scores_never_imports_what_models_need(tmp_path):
    scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))
    run(tmp_path / "run", LOSS)
    code = (
        "import sys\n"
        "from babelpress import cli\n"
        f"codes = [cli.main(words.split()) for words in {JUDGING}]\n"
        f"print(codes, sorted({{*{TENSORS}}} & sys.modules.keys()), file=sys.stderr)"
    )

    found = python("-c", code, cwd=tmp_path)

    assert found.stderr.splitlines()[-1] == "[0, 0, 0] []"
    assert len([json.loads(line)["results"] for line in found.stdout.splitlines()]) == 3
    assert (tmp_path / "page.html").exists()
