"""The command that says what to do, as a user calls it."""

import json
import shlex

import fitting
import pytest

import babelpress as bp
from babelpress import cli
from babelpress.commands import advising
from babelpress.judge.settings import EvaluationSettings
from babelpress.sweeps import advice
from babelpress.sweeps.arms import Arm
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = ["--languages", "sw,hi", "--tokens", "80", "--length", "40", "--documents", "6"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(fitting.save(tmp_path_factory.mktemp("models") / "tiny"))


def call(capsys, *words):
    code = cli.main(["advise", *map(str, words)])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_advice_is_told_with_its_evidence_and_the_command_that_does_it(capsys, model, tmp_path):
    out = tmp_path / "advice"
    asked = [model, "--bits", 4, "--group", 32, *TEXT, "--minutes", 1e-6, "--out", out]

    code, printed, _ = call(capsys, *asked, "--json")

    assert code == 0
    rows = json.loads(printed)["results"]
    kinds = [row["kind"] for row in rows]
    assert {"round", "proof"} <= set(kinds) <= {"round", "proof", "difference"}
    assert sum(bool(row["best"]) for row in rows if row["kind"] == "round") == 1
    for row in rows:
        assert row["low"] <= row["worst"] <= row["high"]

    code, printed, _ = call(capsys, *asked)

    assert code == 0
    assert "advice: " in printed
    line = next(line for line in printed.splitlines() if line.startswith("next: "))
    words = shlex.split(line.removeprefix("next: ").partition("   (")[0])
    assert words[:2] == ["babelpress", "quantize"]
    function, bound, _ = cli.build().parse_args(words[1:], exit_on_error=False, print_error=False)
    assert function is cli.COMMANDS["quantize"]
    assert (bound.arguments["bits"], str(bound.arguments["group"])) == (4, "32")
    best = next(row for row in rows if row["kind"] == "round" and row["best"])
    assert best["name"].startswith(bound.arguments["method"])


def test_the_command_of_english_calibration_reads_english():
    text = CalibrationSettings(languages=("swh_Latn", "hin_Deva"), tokens=80)
    scored = EvaluationSettings(documents=3)
    plain, english = Arm("gptq"), Arm("gptq", mixture="english")
    wanted = advice.Asked(
        "babel-mini", "quantize", {"bits": 4}, 1.0, text, scored, scored, english=True, prior=False
    )

    def line(arm):
        found = advice.Advice(arm, arm, (), (), None, None, None, ())
        return advising._next(wanted, found)

    assert "--languages swh_Latn,hin_Deva" in line(plain)
    assert "--mixture english" in line(english)
    assert "--languages eng_Latn --tokens 80" in line(english)


def test_a_dry_run_lists_the_first_round_and_leaves_nothing(capsys, model, tmp_path):
    out = tmp_path / "advice"

    code, printed, _ = call(capsys, model, "--pattern", "0.5", *TEXT, "--dry-run", "--out", out)

    assert code == 0
    assert "sparsegpt, english mixture" in printed and "owl allocation" in printed
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give one"),
        (["--pattern", "0.5", "--bits", "4"], "Give one"),
        (["--pattern", "0.5", "--minutes", "-1"], "must be 0 or more"),
        (["--pattern", "0.5", "--corpus", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(capsys, model, tmp_path, words, said):
    out = tmp_path / "advice"

    code, printed, err = call(capsys, model, *TEXT, *words, "--out", out)

    assert (code, printed) == (2, "")
    assert said in err.strip().split("\n")[-1]
    assert not out.exists()


@pytest.mark.parametrize("amount", [{"pattern": 0.5}, {"bits": "4", "group": 32}])
def test_numbers_are_as_good_as_their_text_in_a_library_call(model, tmp_path, amount):
    text = {"languages": "sw,hi", "tokens": 80, "length": 40, "documents": 6}
    words = {name: str(value) for name, value in amount.items()}

    found = bp.advise(model, **amount, **text, dry_run=True, out=tmp_path / "advice")
    same = bp.advise(model, **words, **text, dry_run=True, out=tmp_path / "advice")

    assert found.rows == same.rows
