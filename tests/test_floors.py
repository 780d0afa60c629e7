"""The floors of pyproject.toml: imports point down only, and every module has its floor."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "babelpress"
CHECK = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)


def copy(folder: Path) -> Path:
    """The package's code and its contract, without its data."""
    ignored = shutil.ignore_patterns("data", "__pycache__")
    shutil.copytree(PACKAGE, folder / "babelpress", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the package in a folder, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_point_down_only(tmp_path):
    found = check(copy(tmp_path))

    assert found.returncode == 0, found.stdout + found.stderr
    assert " 0 broken" in found.stdout


def test_a_planted_upward_import_and_a_module_without_a_floor_are_caught(tmp_path):
    folder = copy(tmp_path)
    with (folder / "babelpress" / "numerics" / "tally.py").open("a") as file:
        file.write("\nfrom babelpress.judge import scores\n")
    (folder / "babelpress" / "homeless.py").write_text('"""No floor."""\n')

    found = check(folder)

    assert found.returncode == 1
    assert "babelpress.numerics.tally -> babelpress.judge.scores" in found.stdout
    assert "homeless" in found.stdout


def test_every_module_and_folder_of_the_package_has_exactly_one_floor():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = pyproject["tool"]["importlinter"]["contracts"][0]
    floors = [name.strip() for layer in contract["layers"] for name in layer.split("|")]
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

    assert contract["exhaustive"]
    assert sorted(floors) == sorted(modules | folders)


def test_every_module_has_its_test_file_or_says_where_it_is_tested():
    for path in PACKAGE.rglob("*.py"):
        room = path.parent.relative_to(PACKAGE)
        own = ROOT / "tests" / room / f"test_{path.stem.lstrip('_')}.py"
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        said = re.findall(r"tests/\S+\.py", doc.rpartition("Tested in ")[2])

        assert path.stem == "__init__" or own.exists() or said, path
        assert all((ROOT / each).exists() for each in said), path


def test_no_file_is_longer_than_400_lines_and_no_function_than_60():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
        long = [n.name for n in nodes if (n.end_lineno or n.lineno) - n.lineno >= 60]

        assert text.count("\n") <= 400, path
        assert not long, path
