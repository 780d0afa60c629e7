"""The package as `import babelpress` gives it: at once, nothing heavy, a function a command."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

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
RIGHT = """\
from pathlib import Path
import babelpress as bp
bp.calibrate(Path("m"), out="o", tokens="512", languages=["sw", "en"], gram=True)
bp.prune("m", out=Path("x"), pattern=0.5, option={"damp": 0.05}, skip=("a", "b"), moments=Path("m"))
bp.quantize("m", out="x", bits="4", group=64, option=["damp=0.5"], embeddings="8bit")
bp.press("m", {"steps": []}, out="x", change={"calibration.tokens": 4096})
bp.evaluate("m", out="x", on=["bits_per_byte"], languages="sw,en")
bp.compare("dense", ["run", Path("small")], languages=["sw"]).to_pandas()
bp.gate(Path("run"), against="dense", max_loss="0.05")
bp.report("dense", "run", out="r.html")
bp.export("run", format="gguf", out="o", option={"kind": "f16"})
bp.sweep("s.yaml", out="o", cpus=2)
bp.mixture("uniform", languages=["sw"])
bp.languages("m", only=["sw"], bits=False)
bp.demo(out="x")
print(bp.doctor().rows, bp.eval is bp.evaluate, bp.__version__)
"""
WRONG = """\
import babelpress as bp
bp.prune("m")
bp.prune("m", out="x", patern=0.5)
bp.compare("dense", 5)
bp.calibrate(3, out="x")
bp.quantize("m", out="x", embeddings="4bit")
bp.prun("m", out="x")
"""
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


def test_type_checkers_know_of_every_command_and_what_it_takes():
    """Functions are given when they are asked for, so what checkers read is written beside them."""
    text = files("babelpress").joinpath("__init__.pyi").read_text(encoding="utf-8")
    body = ast.parse(text).body
    functions = {each.name: each for each in body if isinstance(each, ast.FunctionDef)}

    assert functions.keys() == commands.COMMANDS.keys()
    assert "\nevaluate = eval\n" in text
    assert "\n__version__: str\n" in text
    for name, each in functions.items():
        told = [one.arg for one in (*each.args.args, *each.args.kwonlyargs)]
        assert told == list(inspect.signature(commands.COMMANDS[name]).parameters)


@pytest.mark.slow
def test_a_type_checker_accepts_what_a_user_writes_and_nothing_else(tmp_path):
    """Every near kind of value, in one process; each wrong line is refused."""
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)

    found = subprocess.run(
        [str(Path(sys.executable).parent / "pyright"), "--outputjson", "."],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(files("babelpress").joinpath(".."))},
        capture_output=True,
        text=True,
        check=False,
    )

    errors = json.loads(found.stdout)["generalDiagnostics"]
    places = {(Path(each["file"]).name, each["range"]["start"]["line"]) for each in errors}
    wrong = range(WRONG.count("\n"))[1:]
    assert places == {("wrong.py", line) for line in wrong}, errors


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
