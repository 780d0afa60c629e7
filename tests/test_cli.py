"""The command line: help at once, one JSON document, exit codes, tables, bars."""

import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from rich.console import Console

import babelpress as bp
from babelpress import cli, commands
from babelpress.allocate import RULES
from babelpress.commands import Outcome, screen
from babelpress.commands import outcome as o
from babelpress.commands.declared import Watched, command, rows_of
from babelpress.commands.outcome import Column, Table
from babelpress.errors import BabelpressWarning, BadCorpus
from babelpress.evals import EVALUATIONS
from babelpress.export import FORMATS
from babelpress.prune import PRUNERS
from babelpress.quantize import QUANTIZERS
from babelpress.system.progress import remark, silent
from babelpress.text.mixtures import OFFERED

every_command = pytest.mark.parametrize("name", commands.COMMANDS)
HEAVY = (
    "altair",
    "datasets",
    "huggingface_hub",
    "jinja2",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)


def example(name: str) -> list[str]:
    """The words of a command's example, without the program's name."""
    lines = inspect.cleandoc(commands.COMMANDS[name].__doc__ or "").splitlines()
    (line,) = (line for line in lines if line.startswith("Example: "))
    program, *words = shlex.split(line.removeprefix("Example: "))
    assert program == "babelpress"
    return words


def stand_in(monkeypatch, command):
    """Another function in place of `doctor`."""
    monkeypatch.setitem(commands.COMMANDS, "doctor", command)


def shown(outcome: Outcome, width: int = 80) -> str:
    paper = io.StringIO()
    cli.show(outcome, Console(width=width, file=paper, color_system=None, force_terminal=True))
    return paper.getvalue()


# ---- help ----------------------------------------------------------------------------------


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from babelpress import cli, commands\n"
        "names = [[], *([n] for n in commands.COMMANDS)]\n"
        "codes = {cli.main([*name, '--help']) for name in names}\n"
        f"print(codes, sorted(set({HEAVY}) & sys.modules.keys()), file=sys.stderr)"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert found.stderr == "{0} []\n"
    assert "Usage: babelpress COMMAND" in found.stdout


@every_command
def test_every_example_is_a_command_that_the_parser_accepts(name):
    first, *words = example(name)

    function, _, _ = cli.build().parse_args(
        [first, *words], exit_on_error=False, print_error=False, help_on_error=False
    )

    assert first == name
    assert function is commands.COMMANDS[name]


@every_command
def test_every_option_is_documented_and_its_default_is_sensible_to_show(name, capsys):
    app = cli.build()[name]
    arguments = app.assemble_argument_collection(parse_docstring=True)

    cli.main([name, "--help"])

    printed = capsys.readouterr().out
    for argument in arguments:
        if argument.parse:
            assert argument.parameter.help, argument.name
            assert argument.name in printed
    assert "--empty-" not in printed
    assert '""' not in printed
    assert "progress" not in printed.lower()


@every_command
def test_help_is_one_document_where_json_is_asked_for(name, capsys):
    """Its options are those of the help for people, defaults too."""
    assert cli.main([name, "--help"]) == 0
    words = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out))
    assert cli.main([name, "--json", "--help"]) == 0

    out = capsys.readouterr().out
    document = json.loads(out)
    assert out.count("\n") == 1
    assert document["command"] == name
    assert document["rows"] == rows_of(commands.COMMANDS[name])
    assert shlex.split(document["example"])[1:] == example(name)
    named = [each["name"] for each in document["options"]]
    there = inspect.signature(commands.COMMANDS[name]).parameters
    assert len(set(named)) == len([each for each in there if each != "progress"])
    negative = {each["negative"] for each in document["options"] if "negative" in each}
    assert {*named, *negative} <= words
    assert all(each["help"] for each in document["options"])


def test_help_of_the_whole_is_a_list_of_commands_and_the_version_a_document(capsys):
    assert cli.main(["--json", "--help"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["command"] for each in document["commands"]] == [*commands.COMMANDS]
    assert all(each["help"] for each in document["commands"])
    assert cli.main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"]


def test_an_option_is_described_with_its_type_its_default_and_its_words(capsys):
    assert cli.main(["quantize", "--help", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["options"]}

    assert found["--model"]["positional"] and found["--model"]["required"]
    assert (found["--bits"]["type"], found["--bits"]["default"]) == ("integer", 4)
    assert found["--embeddings"]["choices"] == ["dense", "8bit"]
    assert found["--method"]["offers"] == QUANTIZERS.names()
    assert found["--symmetric"]["negative"] == "--asymmetric"
    assert found["--keep-zeros"]["negative"] == "--no-keep-zeros"
    assert found["--option"]["type"] == "list of string"


def test_every_command_is_a_function_of_the_library():
    assert all(getattr(bp, name) is function for name, function in commands.COMMANDS.items())
    assert bp.evaluate is bp.eval


def test_help_names_the_exit_codes_and_json(capsys):
    assert cli.main(["--help"]) == 0

    printed = " ".join(capsys.readouterr().out.split())
    assert "--json" in printed
    assert "1 a gate failed" in printed


def test_shell_completion_can_be_installed():
    function, _, _ = cli.build().parse_args(
        ["--install-completion"], exit_on_error=False, print_error=False
    )

    assert function not in commands.COMMANDS.values()
    assert "completion" in (function.__doc__ or "").lower()


def test_the_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == "0.1.0"


# ---- json ----------------------------------------------------------------------------------


def test_json_is_one_document_wherever_the_word_stands(capsys):
    for words in (
        ["mixture", "only:Swahili", "--languages", "en,sw", "--json"],
        ["--json", "mixture", "only:Swahili", "--languages", "en,sw"],
    ):
        assert cli.main(words) == 0

        said = capsys.readouterr()
        document = json.loads(said.out)
        assert said.out.count("\n") == 1
        assert said.err == ""
        assert list(document) == ["command", "out", "seconds", "results"]
        assert (document["command"], document["out"]) == ("mixture", None)
        assert document["seconds"] >= 0
        assert document["results"] == [
            {"language": "eng_Latn", "share": 0.0, "tokens": 0, "count": None},
            {"language": "swh_Latn", "share": 1.0, "tokens": 16384, "count": None},
        ]


def test_names_in_json_are_written_as_they_are(capsys, monkeypatch):
    stand_in(monkeypatch, lambda: Outcome([{"what": "ภาษาไทย"}]))

    cli.main(["doctor", "--json"])

    assert "ภาษาไทย" in capsys.readouterr().out


# ---- exit codes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mixtre", "uniform"], "mixture"),
        (["mixture", "uniform", "--langages", "en"], "--languages"),
        (["mixture"], "babelpress mixture --help"),
        (["mixture", "uniform", "--tokens", "many"], "--tokens"),
        (["mixture", "unifrm", "--languages", "en"], "Did you mean 'uniform'?"),
        (["mixture", "uniform", "--languages", "Swahilli"], "Swahili"),
        (["mixture", "uniform", "--corpus", "nowhere"], "there is no folder nowhere"),
        (["mixture", "proportional", "--languages", "en,mri", "--model", "bloom"], "mri_Latn"),
        (["calibrate", "nowhere", "--out", "moments"], "neither a folder nor a hub id"),
        (["calibrate", "nowhere", "--tokens", "0", "--out", "moments"], "tokens"),
        (
            ["prune", "nowhere", "--method", "wnada", "--out", "run"],
            "Did you mean 'wanda' or 'mwanda'?",
        ),
        (["prune", "nowhere", "--pattern", "3of2", "--out", "run"], "keep 3 of 2"),
        (["prune", "nowhere", "--option", "damp", "--out", "run"], "--option damp"),
        (["prune", "nowhere", "--option", "damp={", "--out", "run"], "--option damp={"),
        (["press", "nowhere", "recipe.yaml", "--out", "run"], "recipe.yaml cannot be read"),
        (["eval", "nowhere"], "neither a folder nor a hub id"),
        (["eval", "nowhere", "--out", "dense", "--on", ","], "--on bits_per_byte"),
        (["eval", "nowhere", "--out", "dense", "--window", "-3"], "window"),
        (["compare", "dense", "run"], "babelpress eval MODEL --on bits_per_byte --out dense"),
        (["gate", "run", "--against", "dense"], "babelpress eval"),
        (["report", "dense", "run"], "babelpress eval"),
    ],
)
def test_what_the_user_must_mend_is_one_line_and_exit_code_2(
    words, said, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    code = cli.main(words)

    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("babelpress: ")
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_ours_is_for_the_user_to_mend(capsys, monkeypatch):
    def fails() -> Outcome:
        raise BadCorpus("no text.")

    stand_in(monkeypatch, fails)

    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr() == ("", "babelpress: no text.\n")


# ---- errors for programs -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "command", "error", "next_"),
    [
        (["mixture", "uniform", "--langages", "en"], "mixture", "--langages", "mixture --help"),
        (["mixtre", "uniform"], None, "mixture", "See babelpress --help."),
        (["mixture"], "mixture", "requires", "See babelpress mixture --help."),
        ([], None, "no command", "See babelpress --help."),
        (["mixture", "unifrm", "--languages", "en"], "mixture", "'unifrm'", "mean 'uniform'?"),
        (
            ["compare", "dense", "run"],
            "compare",
            "no folder dense",
            "Make it: babelpress eval MODEL",
        ),
        (["eval", "nowhere"], "eval", "nowhere", ""),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_error_is_one_document_where_json_is_asked_for(
    first, words, command, error, next_, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    code = cli.main(["--json", *words] if first else [*words, "--json"])

    out, err = capsys.readouterr()
    document = json.loads(out)
    assert code == 2
    assert list(document) == ["command", "error", "next"]
    assert document["command"] == command
    assert error in document["error"]
    assert next_ in document["next"]
    assert document["next"]
    assert err == f"babelpress: {document['error']}\n"


@pytest.mark.parametrize(
    ("raised", "code", "next_"),
    [
        (BadCorpus("there is no text. Give a folder\nof text."), 2, "Give a folder of text."),
        (FileNotFoundError(2, "No such file", "there/it.txt"), 2, "See babelpress doctor --help."),
        (KeyboardInterrupt(), 3, "Run it again: babelpress doctor --json"),
    ],
)
def test_whatever_ends_a_command_ends_in_a_document(raised, code, next_, capsys, monkeypatch):
    def fails() -> Outcome:
        raise raised

    stand_in(monkeypatch, fails)

    assert cli.main(["doctor", "--json"]) == code
    out, err = capsys.readouterr()
    assert out.count("\n") == err.count("\n") == 1
    assert json.loads(out)["next"] == next_


def closed(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of the program whose standard output nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    code = f"from babelpress import cli; cli.sys.argv = ['babelpress', *{list(words)}]; cli.run()"
    try:
        return subprocess.run(
            [sys.executable, "-c", code],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    "words",
    [
        ["mixture", "uniform", "--languages", "en,sw"],
        ["mixture", "uniform", "--languages", "en,sw", "--json"],
        ["mixture", "--help"],
        ["--version"],
    ],
)
def test_a_reader_that_has_enough_ends_a_command_quietly(words):
    found = closed(*words)

    assert (found.returncode, found.stderr) == (141, "")


def test_a_broken_pipe_inside_a_command_is_an_error_like_others(capsys, monkeypatch):
    def fails() -> Outcome:
        raise BrokenPipeError(32, "Broken pipe", "worker")

    stand_in(monkeypatch, fails)

    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "babelpress: worker: Broken pipe.\n"


def test_an_interrupted_command_says_how_to_go_on(capsys, monkeypatch):
    def interrupted() -> Outcome:
        raise KeyboardInterrupt

    stand_in(monkeypatch, interrupted)

    assert cli.main(["doctor"]) == 3
    assert "the same command goes on" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def broken() -> Outcome:
        raise ZeroDivisionError

    stand_in(monkeypatch, broken)

    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_the_outcomes(code, monkeypatch):
    stand_in(monkeypatch, lambda: Outcome([], exit_code=code))

    assert cli.main(["doctor"]) == code


# ---- tables --------------------------------------------------------------------------------

CHANGE = {"language": "swh_Latn", "change": 0.1234, "low": -0.05, "high": 1.0}


def test_changes_are_per_cent_with_a_sign_and_numbers_stand_right():
    columns = (o.name(), o.change(), o.interval())
    rows = [CHANGE, CHANGE | {"change": -0.001, "low": None or -0.01, "high": 0.002}]

    lines = shown(Outcome(rows, tables=(Table(columns, rows, "a title"),))).splitlines()

    assert lines[0] == "a title"
    assert [line.rstrip() for line in lines[2:4]] == [
        "Swahili  +12.3 %  -5.0 to +100.0 %",
        "Swahili   -0.1 %    -1.0 to +0.2 %",
    ]


@pytest.mark.parametrize(
    ("column", "value", "written"),
    [
        (o.word("x", "x"), "plain [bold]text[/bold]", "plain [bold]text[/bold]"),
        (o.tag("x"), "swh_Latn", "swh_Latn"),
        (o.name("x"), "swh_Latn", "Swahili"),
        (o.name("x"), "a tongue that no table has", "a tongue that no table has"),
        (o.count("x", "x"), 1234567, "1,234,567"),
        (o.number("x", "x"), 2.34567, "2.346"),
        (o.share("x", "x"), 0.5, "50.0 %"),
        (o.share("x", "x"), 0.0123, "1.23 %"),
        (o.share("x", "x"), 0.00391, "0.391 %"),
        (o.share("x", "x"), 0.0, "0.000 %"),
        (o.share("x", "x"), 2e-6, "<0.001 %"),
        (o.change("x"), 0.25, "+25.0 %"),
        (o.count("x", "x"), None, "–"),
    ],
)
def test_values_are_written_for_people(column, value, written):
    assert column.write({"x": value}) == written
    assert written in shown(Outcome([], tables=(Table((column,), [{"x": value}]),)))


def test_no_cell_is_cut_off_on_a_narrow_terminal():
    long = "a_word_that_is_longer_than_any_column_of_a_narrow_terminal_may_be"
    columns = tuple(o.word(key, f"heading-{key}") for key in "abc")
    rows = [dict.fromkeys("abc", long)]

    printed = shown(Outcome(rows, tables=(Table(columns, rows),)), width=60)

    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 60
    assert printed.replace("\n", "").replace(" ", "").count("_") == 3 * long.count("_")


def test_a_long_table_says_how_many_rows_are_left_out():
    rows = [{"x": str(number)} for number in range(screen.ROWS + 3)]

    printed = shown(Outcome(rows, tables=(Table((Column("x", lambda row: row["x"]),), rows),)))

    assert "and 3 more rows; --json gives all" in printed
    assert f"\n{screen.ROWS - 1}" in printed
    assert f"\n{screen.ROWS}" not in printed


def test_lines_are_said_as_they_are_and_never_broken():
    line = "next: babelpress prune [bold] " + "x" * 120

    assert line in shown(Outcome([], says=(line,))).splitlines()


# ---- narrow, and without characters --------------------------------------------------------


def test_what_a_terminal_has_no_character_for_is_written_near_it(monkeypatch):
    rows = [{"name": "nob_Latn", "note": "a – b"}]
    columns = (o.name("name"), o.word("note", "note"))
    stand_in(monkeypatch, lambda: Outcome(rows, tables=(Table(columns, rows),), says=("±1 …",)))
    paper = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", paper)

    assert cli.main(["doctor"]) == 0

    paper.flush()
    printed = paper.buffer.getvalue().decode("ascii")
    assert "Norwegian Bokmal  a - b" in printed
    assert printed.endswith("+-1 ...\n")


@pytest.mark.parametrize(
    ("variables", "plain"),
    [
        ({"LANG": "C"}, True),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, True),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, False),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({}, False),
    ],
)
def test_a_locale_that_is_plain_c_gets_ascii(variables, plain, monkeypatch):
    for name in (*cli.LOCALE, *cli.CHOSEN):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stand_in(monkeypatch, lambda: Outcome([], says=("–",)))
    paper = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", paper)

    assert cli.main(["doctor"]) == 0

    paper.flush()
    assert paper.buffer.getvalue().decode("utf-8") == ("-\n" if plain else "–\n")


def test_a_document_holds_the_same_names_whatever_the_terminal_writes(monkeypatch):
    stand_in(monkeypatch, lambda: Outcome([{"what": "ภาษาไทย – é"}]))
    paper = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", paper)

    assert cli.main(["doctor", "--json"]) == 0

    paper.flush()
    assert json.loads(paper.buffer.getvalue())["results"] == [{"what": "ภาษาไทย – é"}]


def test_an_error_is_written_on_any_terminal(monkeypatch):
    def fails() -> Outcome:
        raise BadCorpus("ภาษา – none.")

    stand_in(monkeypatch, fails)
    paper = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", paper)

    assert cli.main(["doctor"]) == 2

    paper.flush()
    assert paper.buffer.getvalue() == b"babelpress: ???? - none.\n"


# ---- warnings ------------------------------------------------------------------------------


def warned() -> Outcome:
    return Outcome([], says=("next: x",), warnings=("few tokens",))


def test_warnings_are_printed_once_and_beside_a_document_on_standard_error(capsys, monkeypatch):
    stand_in(monkeypatch, command(rows={})(warned))

    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr() == ("warning: few tokens\nnext: x\n", "")

    assert cli.main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["results"] == []
    assert err == "babelpress: warning: few tokens\n"


def test_a_call_of_the_library_gives_them_to_warnings():
    with pytest.warns(BabelpressWarning, match="few tokens") as caught:
        outcome = command(rows={})(warned)()

    assert outcome.says == ("next: x",)
    assert [each.filename for each in caught] == [__file__]


# ---- completion ----------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_methods_formats_policies_and_more(shell):
    script = cli.build(offering=True).generate_completion(prog_name="babelpress", shell=shell)

    for offered in (
        *PRUNERS.names(),
        *QUANTIZERS.names(),
        *RULES.names(),
        *FORMATS.names(),
        *EVALUATIONS.names(),
        *OFFERED,
        *("embedded", "self", "2of4", "compressed", "8bit", "ray"),
    ):
        assert offered in script


def test_what_bash_offers_depends_on_the_word_before():
    script = cli.build(offering=True).generate_completion(prog_name="babelpress", shell="bash")

    def offered(*words: str) -> set[str]:
        typed = " ".join(map(shlex.quote, ("babelpress", *words)))
        lines = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _babelpress; "
        asked = f"{script}\n{lines} printf '%s\\n' \"${{COMPREPLY[@]}}\""
        found = subprocess.run(
            ["bash", "-c", asked], capture_output=True, text=True, check=True
        ).stdout
        return set(found.split())

    assert offered("prune", "m", "--method", "w") == {"wanda", "worst_language"}
    assert offered("export", "m", "--format", "gg") == {"gguf"}
    assert offered("prune", "m", "--mixture", "uni") == {"uniform"}
    assert offered("mixture", "mi") == {"minimax"}
    assert offered("mixture", "me") == {"measured"}
    assert offered("compare", "--on", "top") == {"top1"}


def test_words_that_nobody_offered_are_still_taken(capsys):
    assert cli.main(["mixture", "only:Swahili", "--languages", "en,sw"]) == 0
    assert "100.0 %" in capsys.readouterr().out


# ---- bars and lines ------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A standard error that says whether it is a terminal."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "words", "bars"),
    [(True, [], True), (True, ["--json"], False), (False, [], False), (False, ["--json"], False)],
)
def test_bars_are_for_terminals_and_elsewhere_there_are_lines(terminal, words, bars, monkeypatch):
    def works(*, progress: Watched = silent) -> Outcome:
        progress("gather: block", 1, 4)
        remark(progress, "resuming: 3 of 4 blocks")
        progress("gather: block", 4, 4)
        return Outcome([])

    stand_in(monkeypatch, works)
    stderr = Terminal(terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")

    assert cli.main(["doctor", *words]) == 0

    printed = stderr.getvalue()
    assert ("gather: block" in printed) == bars
    assert ("\x1b" in printed) == bars
    assert "resuming: 3 of 4 blocks" in printed
    assert bars or printed == "resuming: 3 of 4 blocks\n"


def test_the_package_is_the_command_line_too():
    words = [sys.executable, "-m", "babelpress"]

    found = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    wrong = subprocess.run([*words, "nothing"], capture_output=True, text=True, check=False)

    assert re.fullmatch(r"\d+\.\d+\.\d+\n", found.stdout)
    assert wrong.returncode == 2 and "nothing" in wrong.stderr
