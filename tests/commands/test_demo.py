"""The demo on a pico model in place of babel-mini, and on four languages of the embedded text."""

import shlex
import shutil
from pathlib import Path

import pico
import pytest

from babelpress import cli
from babelpress.commands import demonstration
from babelpress.text import corpus

TEXT = corpus.EMBEDDED


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The demo's folder after one call, what that printed, and a way to call it again."""
    folder = tmp_path_factory.mktemp("demo")
    model = folder / "small" / "babel-mini"
    pico.model().save_pretrained(model)
    pico.tokenizer().save_pretrained(model)
    text = folder / "text"
    text.mkdir()
    for tag in ("eng_Latn", "fra_Latn", "swh_Latn", "yor_Latn"):
        shutil.copy(TEXT / f"{tag}.jsonl", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(demonstration, "EMBEDDED", "small/babel-mini")
        patch.setattr(demonstration, "TOKENS", 200)
        patch.setattr(demonstration, "SIZE", "90%")
        patch.setattr(demonstration, "MINUTES", 1e-6)
        patch.setattr(corpus, "EMBEDDED", text)
        patch.setenv("COLUMNS", "100")
        yield Path("out")


@pytest.fixture(scope="module")
def first(small):
    """What the first call did."""
    return demonstration.do(small, lambda *_: None)


def stamps(folder):
    """When each file was written, but for the two that are written again each time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path: path.stat().st_mtime_ns
        for path in files
        if path.name not in ("report.html", "results.jsonl")
    }


def test_there_is_a_row_for_each_calibration_and_summary(first):
    found = {(row["calibration"], row["summary"]) for row in first.rows}

    assert found == {
        (policy, name)
        for policy in ("english", "proportional", "uniform")
        for name in ("mean", "worst", "low_resource")
    }
    for row in first.rows:
        assert row["low"] <= row["change"] <= row["high"]
        assert (row["language"] is not None) == (row["summary"] == "worst")


def test_runs_scores_and_an_offline_report_are_there(first, small):
    for policy in ("english", "proportional", "uniform"):
        assert (small / policy / "model" / "model.safetensors").exists()
        assert (small / policy / "results.jsonl").exists()
    page = first.page.read_text(encoding="utf-8")
    assert first.page == small / "report.html"
    assert page.startswith("<!doctype html>")
    assert "</html>" in page
    for name in ("English", "French", "Swahili", "Yoruba"):
        assert name in page
    assert (small / "fitted" / "exported" / "model.safetensors").exists()


def test_a_second_call_does_nothing_again(first, small):
    before = stamps(small)

    again = demonstration.do(small, lambda *_: None)

    assert stamps(small) == before
    assert again.rows == first.rows


def test_the_terminal_ends_with_the_table_the_report_and_the_next_command(first, small, capsys):
    assert cli.main(["demo", "--out", str(small)]) == 0

    said = capsys.readouterr().out
    lines = said.splitlines()
    heading = next(line for line in lines if line.startswith("calibrated on"))
    assert heading.split("  ")[0] == "calibrated on"
    for title in ("mean", "worst language", "low-resource"):
        assert title in heading
    for words in ("English only", "as trained", "all alike (uniform)"):
        row = next(line for line in lines if line.startswith(words))
        assert row.count(" %") == 3
    assert "…" not in said
    assert max(map(len, lines)) <= 100
    assert lines[-3] == f"report: {small / 'report.html'}"
    assert lines[-2] == f"model:  {small / 'fitted' / 'exported'}"
    assert "as `babelpress fit` finds it" in " ".join(said.split())
    name, *words = shlex.split(lines[-1].removeprefix("next:"))
    assert name == "babelpress"
    function, _, _ = cli.build().parse_args(words, exit_on_error=False, print_error=False)
    assert function is cli.COMMANDS["prune"]
