"""The command line: a table from command to function. No logic of pressing lives here.

Every command takes `--json`: then standard output carries exactly one JSON document, of an error
too. Progress goes to standard error, and only to a terminal. Exit codes: 0 done, 1 a gate failed,
2 the user must mend something, 3 interrupted, 141 nobody reads any more (`babelpress … | head`).
"""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TextIO

from cyclopts import App, CycloptsError, Parameter

from babelpress.commands import COMMANDS, Outcome
from babelpress.errors import BabelpressError
from babelpress.system.escaping import clean

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 40  # rows of a table on a terminal
PIPED = 200  # columns where no terminal sets a width
INTERRUPTED = 3
PIPE_CLOSED = 128 + getattr(signal, "SIGPIPE", 13)  # as a shell says of what such a signal ended
EPILOGUE = (
    "Every command takes --json: standard output is then one JSON document. "
    "Exit codes: 0 done, 1 a gate failed, 2 something to mend, 3 interrupted."
)


def build() -> App:
    """The command tree."""
    app = App(
        name="babelpress",
        help="Make multilingual language models smaller without leaving a language behind.",
        version=version("babelpress"),
        console=_console(),
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        default_parameter=Parameter(negative_iterable=(), show_default=_default),
        result_action="return_value",
    )
    for name, function in COMMANDS.items():
        app.command(function, name=name)
    app.register_install_completion_command(name="--install-completion")
    return app


def _default(value: Any) -> str | None:
    """Defaults as help shows them: none where there is nothing to show."""
    return None if value in ("", (), None) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    words, as_json = [word for word in given if word != "--json"], "--json" in given
    fail = partial(_fail, words, as_json)
    try:
        try:
            code = _run(words, as_json, fail)
        except KeyboardInterrupt as error:
            again = shlex.join(["babelpress", *given])
            text = "interrupted. What is done is kept: the same command goes on."
            code = fail(str(error) or text, INTERRUPTED, f"Run it again: {again}")
        print(end="", flush=True)
    except BrokenPipeError:  # whoever reads has enough, as `head` has; what is done stays done
        _let_go(sys.stdout)
        _let_go(sys.stderr)
        return PIPE_CLOSED
    return code


def _run(words: Sequence[str], as_json: bool, fail: Callable[..., int]) -> int:
    start = time.monotonic()
    # Nothing downstream may call home or draw bars of its own.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait take the cores from their neighbours; torch reads this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if as_json and not words:
        return fail("no command is named.", 2)
    try:
        function, bound, ignored = build().parse_args(
            words, exit_on_error=False, print_error=False, help_on_error=False
        )
    except CycloptsError as error:
        return fail(f"{_one_line(error)} {_help(words)}", 2, _help(words))
    if function not in COMMANDS.values():
        function(*bound.args, **bound.kwargs)  # --help, --version, completion
        return 0
    try:
        with _progress(as_json) as watch:
            extra = {"progress": watch} if "progress" in ignored else {}
            outcome = function(*bound.args, **bound.kwargs, **extra)
    except BabelpressError as error:
        return fail(str(error), error.exit_code, error.next)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return fail(f"{place}{error.strerror or error}.", 2)
    name = next(name for name, known in COMMANDS.items() if known is function)
    if as_json:
        print(_document(name, outcome, time.monotonic() - start))
    else:
        _show(outcome)
    return outcome.exit_code


def run() -> None:
    """The console script."""
    sys.exit(main())


def _let_go(stream: TextIO | None) -> None:
    """Point a stream whose reader is gone at nothing, so that closing it cannot fail again."""
    if stream is None:
        return
    with suppress(OSError, ValueError):  # it may be no file
        there, nothing = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, there)
        os.close(nothing)


def _document(command: str, outcome: Outcome, seconds: float) -> str:
    document = {
        "command": command,
        "out": str(outcome.out) if outcome.out else None,
        "seconds": round(seconds, 3),
        "results": outcome.rows,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def _show(outcome: Outcome) -> None:
    console = _console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED
    show(outcome, console)


def _console() -> "Console":
    """Standard output, which says when its reader is gone; rich itself would end with 1."""
    from rich.console import Console

    class Heard(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Heard()


def show(outcome: Outcome, console: "Console") -> None:
    """Print the tables of an outcome and what it says; nothing is cut off at the right."""
    from rich.table import Table
    from rich.text import Text

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    for table in outcome.tables:
        if table.title:
            say(table.title)
        cells = [[column.write(row) for column in table.columns] for row in table.rows[:SHOWN]]
        # A blank line between rows of more than one line.
        airy = any("\n" in cell for row in cells for cell in row)
        shown = Table(box=None, pad_edge=False)
        for column in table.columns:
            side = "right" if column.number else "left"
            shown.add_column(Text(column.title), justify=side, overflow="fold")
        for row in cells:
            if airy and shown.row_count:
                shown.add_row()
            shown.add_row(*map(Text, row))
        console.print(shown)
        if len(table.rows) > SHOWN:
            say(f"and {len(table.rows) - SHOWN} more rows; --json gives all")
        say("")
    for line in outcome.says:
        say(line)


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if as_json or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield watch


def _one_line(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?")) else f"{text}."


def _command(words: Sequence[str]) -> str | None:
    """The command that is meant, where it is one."""
    return words[0] if words and words[0] in COMMANDS else None


def _help(words: Sequence[str]) -> str:
    return f"See {' '.join(filter(None, ('babelpress', _command(words), '--help')))}."


def _fail(words: Sequence[str], as_json: bool, text: str, code: int, next_: str = "") -> int:
    """One line for people and, where a program asked, one document for it."""
    line = " ".join(text.splitlines())
    # Names of files may carry what a terminal would obey.
    print(f"babelpress: {clean(line)}", file=sys.stderr)
    if as_json:
        document = {"command": _command(words), "error": line, "next": next_ or _help(words)}
        print(json.dumps(document, ensure_ascii=False))
    return code
