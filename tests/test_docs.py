"""Documentation cannot rot: the reference page is fresh, the tree is whole, examples parse."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from babelpress import cli, commands, evals
from babelpress.allocate import RULES
from babelpress.commands.declared import rows_of
from babelpress.distill import OBJECTIVES
from babelpress.export import FORMATS
from babelpress.insight import ANALYSES
from babelpress.prune import PRUNERS
from babelpress.quantize import QUANTIZERS
from babelpress.text import mixtures

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "babelpress"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reference():
    """docs/reference.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def tree() -> dict[str, str]:
    """The last tree of README: entries of babelpress/ and what is said of them."""
    (block,) = (block for block in blocks(README) if block.startswith("babelpress/\n"))
    return dict(re.findall(r"^  (\S+) +(\S.*)$", block, re.MULTILINE))


def test_the_reference_page_is_fresh(reference):
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")

    assert reference.page() == written, "run `make docs`"


def test_what_type_checkers_read_is_fresh(reference):
    written = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")

    assert reference.stub() == written, "run `make docs`"


def test_the_reference_page_does_not_depend_on_the_terminal(reference, monkeypatch):
    plain = [reference.help_of([name]) for name in ("prune", "compare")]

    for name, value in {"COLUMNS": "33", "FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)

    assert [reference.help_of([name]) for name in ("prune", "compare")] == plain
    assert all("\x1b" not in text for text in plain)


def test_the_reference_page_has_every_command_method_evaluation_and_distribution(reference):
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")

    for name in commands.COMMANDS:
        assert f"### babelpress {name}\n" in written
        rows = rows_of(commands.COMMANDS[name])
        assert rows
        assert all(rows.values())
        assert all(f"| `{key}` | {words} |" in written for key, words in rows.items())
    entries = (
        PRUNERS.names(),
        QUANTIZERS.names(),
        FORMATS.names(),
        RULES.names(),
        OBJECTIVES.names(),
        evals.EVALUATIONS.names(),
        ANALYSES.names(),
    )
    for name in (*(n for names in entries for n in names), *mixtures.distributions()):
        assert f"- **{name}** — " in written


def test_the_tree_of_the_readme_names_every_module_and_folder_of_the_package():
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}

    assert set(tree()) == modules | folders | {"data/"}


def test_the_tree_is_short_and_every_folder_beside_the_package_in_it_exists():
    (block,) = (block for block in blocks(README) if block.startswith("babelpress/\n"))

    for line in block.splitlines():
        assert len(line) <= 100
    for name in re.findall(r"^(\S+)/", block, re.MULTILINE):
        assert (ROOT / name).is_dir()


def commands_of(page: Path) -> list[str]:
    lines = "\n".join(blocks(page.read_text(encoding="utf-8"))).splitlines()
    return [line for line in lines if line.startswith("babelpress ")]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/data.md", "docs/gallery.md"]
)
def test_every_command_in_the_pages_is_one_that_the_parser_accepts(page):
    for line in commands_of(ROOT / page):
        _, *words = shlex.split(line, comments=True)
        function, *_ = cli.build().parse_args(
            [word for word in words if word != "--json"],
            exit_on_error=False,
            print_error=False,
            help_on_error=False,
        )
        assert function is commands.COMMANDS[words[0]], line


def test_every_evaluation_says_what_it_was_checked_against():
    page = (ROOT / "docs" / "evaluations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", page, re.MULTILINE)

    assert sorted(name for name, _ in rows) == sorted(evals.EVALUATIONS.names())
    assert all(len(checked) > 20 for _, checked in rows)
    for name in evals.EVALUATIONS.names():
        assert (ROOT / "tests" / "evals" / f"test_{name}.py").exists()


def test_the_readme_shows_commands():
    assert len(commands_of(ROOT / "README.md")) >= 4


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md"])
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")

    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target
