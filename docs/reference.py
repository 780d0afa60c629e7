"""Write docs/reference.md from `--help` and docstrings, and the tables of keys in docs/recipes.md.

`--check` fails where one of them is stale. They are the same on every terminal: the width is set
here, and there are no colours.

Beside them babelpress/__init__.pyi is written: what every command takes in a library call, for type
checkers and editors, since the functions themselves are made when they are asked for.
"""

import inspect
import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

import babelpress
from babelpress import cli, evals
from babelpress.allocate import RULES
from babelpress.commands import COMMANDS
from babelpress.commands.declared import rows_of, taken_by
from babelpress.commands.given import spelled
from babelpress.distill import OBJECTIVES
from babelpress.export import FORMATS
from babelpress.insight import ANALYSES
from babelpress.judge.settings import EvaluationSettings
from babelpress.prune import PRUNERS
from babelpress.quantize import QUANTIZERS
from babelpress.registry import Registry
from babelpress.steps import KINDS
from babelpress.system.settings import Strict
from babelpress.text import mixtures
from babelpress.text.settings import CalibrationSettings

PAGE = Path(__file__).with_name("reference.md")
RECIPES = Path(__file__).with_name("recipes.md")
STUB = Path(babelpress.__file__).with_name("__init__.pyi")
TABLE = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
WIDTH = 96
JSON = '{"command": …, "out": path or null, "seconds": …, "results": [rows]}'


def help_of(words: list[str]) -> str:
    """What `babelpress WORDS --help` prints, but for its last lines, which stand above all."""
    paper = io.StringIO()
    console = Console(width=WIDTH, file=paper, color_system=None, force_terminal=False)
    app = cli.build()
    app.help_epilogue = ""
    app.help_print(words, console=console)
    return "\n".join(line.rstrip() for line in paper.getvalue().strip().splitlines())


def about(registry: Registry, name: str, paragraphs: int = 1) -> str:
    """The first paragraphs of the docstring of an entry, in one line."""
    parts = registry.about(name).strip().split("\n\n")
    kept = [part for part in parts[:paragraphs] if not part.startswith("Shapes:")]
    return " ".join(" ".join(kept).split())


def entries(registry: Registry, paragraphs: int = 1) -> list[str]:
    """One line an entry: its docstring, its options, its paper and what it declares of itself."""
    lines = []
    for name in registry.names():
        facts = registry.facts(name)
        given = {k: v for k, v in registry.options(name).items() if k not in evals.GIVEN}
        options = ", ".join(f"`{k}={v}`" for k, v in given.items()) or "no options"
        line = f"- **{name}** — {about(registry, name, paragraphs)} Options: {options}."
        if "gram" in facts.get("READS", ()):
            line += " Needs Gram matrices."
        if "languages" in facts.get("READS", ()):
            line += " Sees languages apart."
        if "PAPER" in facts:
            line += f" After {facts['PAPER']}."
        if "DIFFERS" in facts:
            line += f" Differs: {' '.join(facts['DIFFERS'])}"
        lines.append(line)
    return lines


def keys(settings: type[Strict]) -> list[str]:
    """The keys of settings, with their defaults and help."""
    rows = [
        f"| `{key}` | {default(field.default)} | {field.description or ''} |"
        for key, field in settings.model_fields.items()
    ]
    return ["| key | default | meaning |", "| --- | --- | --- |", *rows]


def default(value: object) -> str:
    """A default as a recipe writes it."""
    if isinstance(value, Strict):
        value = value.model_dump()
    plain = list(value) if isinstance(value, tuple) else value
    return f"`{json.dumps(plain, ensure_ascii=False)}`"


def steps() -> list[str]:
    """The keys of every kind of step."""
    lines = []
    for kind in KINDS.names():
        lines += [f"### - {kind}: {{…}}", "", *keys(KINDS.module(kind).Settings), ""]
    return lines[:-1]


def recipes() -> str:
    """The page of recipes with its tables of keys."""
    tables = {
        "calibration": keys(CalibrationSettings),
        "steps": steps(),
        "evaluate": keys(EvaluationSettings),
    }

    def filled(found: re.Match[str]) -> str:
        name = found[1]
        return "\n".join((f"<!-- generated: {name} -->", "", *tables[name], "", "<!-- end -->"))

    return TABLE.sub(filled, RECIPES.read_text(encoding="utf-8"))


def distributions() -> list[str]:
    """One line a distribution."""
    lines = []
    for name in mixtures.distributions():
        table = mixtures.distribution(name)
        prior = ", a prior" if table.prior else ""
        lines.append(
            f"- **{name}** — {len(table.values)} languages, {table.unit}, {table.stage}{prior}. "
            f"Source: {table.source}."
        )
    return lines


def command(name: str) -> list[str]:
    """The help of a command and the table of its rows."""
    rows = [f"| `{key}` | {words} |" for key, words in rows_of(COMMANDS[name]).items()]
    table = ["Rows of `--json`:", "", "| key | meaning |", "| --- | --- |", *rows]
    return [f"### babelpress {name}", "", "```", help_of([name]), "```", "", *table, ""]


def page() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        "",
        "Generated by `make docs` from the docstrings; edit those.",
        "",
        "## Pruning methods",
        "",
        *entries(PRUNERS),
        "",
        "## Quantization methods",
        "",
        *entries(QUANTIZERS),
        "",
        "## Rules of allocation",
        "",
        *entries(RULES),
        "",
        "## Distillation objectives",
        "",
        *entries(OBJECTIVES),
        "",
        "## Export formats",
        "",
        *entries(FORMATS),
        "",
        "## Evaluations",
        "",
        *entries(evals.EVALUATIONS, 3),
        "",
        "## Analyses",
        "",
        *entries(ANALYSES),
        "",
        "What each asks and how to read it: [insight.md](insight.md).",
        "",
        "Steps of a recipe and their keys: [recipes.md](recipes.md).",
        "",
        "## Distributions",
        "",
        *distributions(),
        "",
        "## Commands",
        "",
        f"{cli.EPILOGUE} The document is `{JSON}`. Languages are canonical tags.",
        "",
    ]  # fmt: skip
    for name in COMMANDS:
        parts += command(name)
    return "\n".join(parts).rstrip() + "\n"


def function(name: str) -> list[str]:
    """A command as a type checker reads it: what it takes, what it gives, its docstring."""
    given = taken_by(COMMANDS[name])
    parameters = inspect.signature(COMMANDS[name]).parameters.values()
    lines = [f"def {name}("]
    starred = False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not starred:
            lines.append("    *,")
            starred = True
        default = "" if each.default is each.empty else " = ..."
        lines.append(f"    {each.name}: {spelled(given[each.name])}{default},")
    first, *rest = inspect.cleandoc(COMMANDS[name].__doc__ or "").splitlines()
    if not rest:
        return [*lines, ") -> Outcome:", f'    """{first}"""', ""]
    body = [f"    {line}".rstrip() for line in rest]
    return [*lines, ") -> Outcome:", f'    """{first}', *body, '    """', ""]


def stub() -> str:
    """The public names of the package, with their types."""
    return "\n".join(
        [
            '"""Generated by `make docs` from the commands; edit those."""',
            "",
            "# ruff: noqa: E501",
            "from collections.abc import Iterable, Mapping",
            "from os import PathLike",
            "from typing import Any, Literal",
            "",
            "from babelpress.commands import Outcome as Outcome",
            "from babelpress.system.progress import Progress",
            "",
            "__version__: str",
            "",
            *[line for name in COMMANDS for line in function(name)],
            "evaluate = eval",
            "",
        ]
    )


def main() -> int:
    """Write the pages and the stub, or say whether they are fresh; the exit code."""
    stale = []
    for path, new in ((PAGE, page()), (RECIPES, recipes()), (STUB, stub())):
        if not path.exists() or path.read_text(encoding="utf-8") != new:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    if "--check" not in sys.argv:
        return 0
    names = " and ".join(path.name for path in stale)
    print(f"{names}: stale, run make docs" if stale else "what is generated is fresh")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
