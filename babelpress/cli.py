"""The command line: a table from command to function. No logic of pressing lives here.

Every command takes `--json`: then standard output carries exactly one JSON document, of an error
and of `--help` too. Progress goes to standard error: bars on a terminal, now and then a line
elsewhere. Exit codes: 0 done, 1 a gate failed, 2 the user must mend something, 3 interrupted, 141
nobody reads any more (`babelpress … | head`).
"""

import json
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from cyclopts import App, CycloptsError, Parameter

from babelpress.commands import COMMANDS, Outcome, described
from babelpress.commands.declared import with_choices
from babelpress.commands.screen import show
from babelpress.errors import BabelpressError, BabelpressWarning
from babelpress.system.escaping import NEAR, clean
from babelpress.system.progress import Bars, Lines

if TYPE_CHECKING:
    from rich.console import Console

INSTALL = "--install-completion"
LOCALE = ("LC_ALL", "LANG")  # LC_CTYPE is what Python itself sets where nobody did
CHOSEN = ("PYTHONIOENCODING", "PYTHONUTF8")
PIPED = 200  # columns where no terminal sets a width
INTERRUPTED = 3
PIPE_CLOSED = 128 + getattr(signal, "SIGPIPE", 13)  # as a shell says of what such a signal ended
EPILOGUE = (
    "Every command takes --json: standard output is then one JSON document. "
    "Exit codes: 0 done, 1 a gate failed, 2 something to mend, 3 interrupted."
)


def build(*, offering: bool = False) -> App:
    """The command tree; `offering` is for a shell, with the words that options may be completed to.

    Other words are refused by such a tree, so it is not for commands that are to be done.
    """
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
        app.command(with_choices(function) if offering else function, name=name)
    app.register_install_completion_command(name=INSTALL)
    return app


def _default(value: Any) -> str | None:
    """Defaults as help shows them: none where there is nothing to show."""
    return None if value in ("", (), None) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    _prepare_streams()
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
        app = build(offering=INSTALL in words)
        function, bound, ignored = app.parse_args(
            words, exit_on_error=False, print_error=False, help_on_error=False
        )
    except CycloptsError as error:
        return fail(f"{_one_line(error)} {_help(words)}", 2, _help(words))
    if function not in COMMANDS.values():
        if as_json and (told := _told(words, app)):
            print(_json(told))
            return 0
        function(*bound.args, **bound.kwargs)  # --help, --version, completion
        return 0
    try:
        with _watch(as_json) as watch, warnings.catch_warnings():
            warnings.simplefilter("ignore", BabelpressWarning)  # they are shown with the rest
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
        for line in outcome.warnings:
            print(f"babelpress: warning: {clean(line)}", file=sys.stderr)
    else:
        _show(outcome)
    return outcome.exit_code


def _told(words: Sequence[str], app: App) -> dict[str, Any]:
    """Help, or the version, as a document; nothing of what is neither."""
    if set(words) & set(app.help_flags):
        name = _command(words)
        return described.one(name, COMMANDS[name]) if name else described.every(COMMANDS)
    if set(words) & set(app.version_flags):
        return {"command": None, "version": version("babelpress")}
    return {}


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
    return _json(document)


def _json(document: dict[str, Any]) -> str:
    """One line that stays what it is on a stream of any encoding."""
    whole = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    return json.dumps(document, ensure_ascii=not whole, allow_nan=False)


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


def _watch(as_json: bool) -> "Lines | Bars":
    """Bars on a terminal; elsewhere, and beside a document, lines."""
    return Lines() if as_json or not sys.stderr.isatty() else Bars()


def _prepare_streams() -> None:
    """Let everything be written: what the terminal has no character for in other words."""
    asked = next((v for n in LOCALE if (v := os.environ.get(n))), "")
    plain = asked in ("C", "POSIX") and not any(os.environ.get(name) for name in CHOSEN)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="ascii" if plain else None, errors=NEAR)


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
        print(_json(document))
    return code
