"""The command that searches, as a user calls it."""

import json

import fitting
import pytest

import babelpress as bp
from babelpress.cli import main
from babelpress.sweeps import search

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = ["--languages", "sw,hi", "--tokens", "120", "--length", "40", "--documents", "6"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(fitting.save(tmp_path_factory.mktemp("models") / "tiny"))


def call(capsys, *words):
    code = main(["fit", *map(str, words)])
    found = capsys.readouterr()
    return code, found.out, found.err


def refusal(capsys, *words):
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    last = err.strip().split("\n")[-1]
    assert "Traceback" not in err
    return last


def test_a_search_ends_with_a_model_its_proof_and_two_pages(capsys, model, tmp_path):
    out = tmp_path / "fitted"
    asked = [model, "--size", "60%", *TEXT, "--minutes", 1e-6, "--max-loss", 9, "--out", out]

    code, printed, _ = call(capsys, *asked, "--json")

    found = json.loads(printed)
    rows = found["results"]
    assert code == 0
    assert found["out"] == str(out)
    tried = [row for row in rows if row["kind"] == "candidate"]
    assert {row["usual"] for row in tried} == {True, False}
    assert all(row["low"] <= row["change"] <= row["high"] for row in rows)
    proof = {row["name"]: row for row in rows if row["kind"] == "proof"}
    assert set(proof) == {"mean", "worst", "swh_Latn", "hin_Deva"}
    assert proof["worst"]["change"] == max(proof[tag]["change"] for tag in ("swh_Latn", "hin_Deva"))
    for page in ("report.html", "proof.html"):
        assert "</html>" in (out / page).read_text(encoding="utf-8")
    assert "Worst loss against size" in (out / "report.html").read_text(encoding="utf-8")
    assert (out / "exported" / "model.safetensors").exists()

    code, printed, _ = call(capsys, *asked)

    assert code == 0
    assert "no language loses more than 900 %" in printed
    assert f"exported: {out / 'exported'}" in printed


def test_a_broken_promise_is_exit_code_1(capsys, model, tmp_path, monkeypatch):
    """A model of random weights may gain, so that all languages are said to lose too much."""
    monkeypatch.setattr(search, "gate", lambda found, _: list(found.changes))
    asked = [model, "--size", "60%", *TEXT, "--minutes", 1e-6, "--out", tmp_path / "fitted"]

    code, printed, _ = call(capsys, *asked, "--max-loss", 0)

    assert code == 1
    assert "more than 0 % is lost in Hindi, Swahili." in printed


def test_a_dry_run_lists_candidates_and_costs_and_leaves_nothing(capsys, model, tmp_path):
    out = tmp_path / "fitted"

    code, printed, _ = call(capsys, model, "--size", "60%", *TEXT, "--dry-run", "--out", out)

    assert code == 0
    assert "calibrated on english" in printed
    assert (
        "minutes of at most 60" in printed and "of memory and" in printed and "of disk" in printed
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "60%", "--engine", "word"], "--engine word is none of llama.cpp"),
        (["--size", "much"], "is no size"),
        (["--size", "1kB"], "is less than any chain of steps comes to"),
        (["--size", "60%", "--minutes", "-1"], "must be 0 or more"),
        (["--size", "60%", "--corpus", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(capsys, model, tmp_path, words, said):
    out = tmp_path / "fitted"

    assert said in refusal(capsys, model, *TEXT, *words, "--out", out)
    assert not out.exists()


def test_languages_have_to_be_named(capsys, model, tmp_path):
    line = refusal(capsys, model, "--size", "60%", "--out", tmp_path / "fitted")

    assert "--languages must name" in line
    line = refusal(
        capsys, model, "--size", "60%", "--languages", "zz", "--out", tmp_path / "fitted"
    )
    assert "'zz'" in line or " zz" in line


def test_a_size_is_a_number_of_bytes_in_a_library_call(model, tmp_path):
    text = {"languages": "sw,hi", "tokens": 120, "length": 40, "documents": 6}

    found = bp.fit(model, size=180_000, **text, dry_run=True, out=tmp_path / "fitted")
    same = bp.fit(model, size="180kB", **text, dry_run=True, out=tmp_path / "fitted")

    assert found.rows == same.rows
