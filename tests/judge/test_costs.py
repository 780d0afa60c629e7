"""What a scored model takes is kept beside its scores, and told beside what it loses."""

import json

import pico
import pytest
import torch
from scoring import LOSS, ON, run, scored
from small import opened

from babelpress import commands
from babelpress.errors import BadRun
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.judge import costs, scores, verdicts
from babelpress.models import sizes as measuring
from babelpress.models.open import open_model
from babelpress.models.weights import weights_hash
from babelpress.numerics.tally import Tally
from babelpress.report import losses
from babelpress.system.files import read_json, write_json
from babelpress.system.surroundings import machine

LEDGER = {"parameters": 1000, "nonzero": 750, "bytes_dense": 2000, "bytes_stored": 2000,
          "bytes_compressed": 1200, "compressor": "zstd"}  # fmt: skip


@pytest.fixture
def small():
    return opened()


def test_parameters_and_bytes_of_a_scored_model_are_kept(small, tmp_path):
    next(small.model.parameters()).data[0] = 0.0
    hashed = weights_hash(small.model)

    costs.keep(tmp_path, small, hashed)

    found = costs.of(tmp_path)
    every = list(small.model.parameters())
    assert found["parameters"] == sum(p.numel() for p in every)
    assert found["nonzero"] == sum((p != 0).sum().item() for p in every)
    assert found["nonzero"] < found["parameters"]
    assert found["bytes_dense"] == found["bytes_stored"] == 4 * found["parameters"]
    assert 0 < found["bytes_compressed"] < found["bytes_dense"]


def test_what_is_kept_of_the_same_weights_is_not_measured_again(small, tmp_path, monkeypatch):
    costs.keep(tmp_path, small, "a")
    before = (tmp_path / costs.LEDGER).read_bytes()
    monkeypatch.setattr(measuring, "measured", lambda *_a, **_k: {"nonzero": 7})

    costs.keep(tmp_path, small, "a")
    assert (tmp_path / costs.LEDGER).read_bytes() == before

    costs.keep(tmp_path, small, "b")
    assert read_json(tmp_path / costs.LEDGER)["nonzero"] == 7


def test_what_lies_in_a_gguf_file_is_stored_as_there(small, tmp_path):
    """Of 32 weights of a matrix 8 bits and one scale of 16 bits, of others 4 bytes each."""
    file = tmp_path / "packed" / "model.gguf"
    file.parent.mkdir()
    FORMATS.get("gguf")(Source("small", small), file.parent, kind="q8_0")

    costs.keep(tmp_path, open_model(str(file)), "a")

    found = costs.of(tmp_path)
    sizes = [(p.ndim, p.numel()) for p in small.model.parameters()]
    assert found["bytes_stored"] == sum(n // 32 * 34 if d > 1 else 4 * n for d, n in sizes)
    assert found["bytes_dense"] == 4 * sum(n for _, n in sizes)
    assert found["bytes_compressed"] < file.stat().st_size < found["bytes_dense"]


def test_of_weights_that_another_program_quantized_nothing_is_kept(small, tmp_path):
    costs.keep(tmp_path, small, "a")
    small.model.config.quantization_config = {"bits": 4}

    costs.keep(tmp_path, small, "b")

    assert costs.of(tmp_path) == {}


def test_a_run_says_it_in_its_manifest_and_an_old_one_less(tmp_path):
    folder = run(tmp_path / "run", LOSS)
    assert costs.of(folder) == {}

    write_json(folder / "manifest.json", read_json(folder / "manifest.json") | {"ledger": LEDGER})

    assert costs.of(folder) == LEDGER


def test_a_damaged_ledger_is_refused(tmp_path):
    (tmp_path / costs.LEDGER).write_text('{"parameters": "many"}')

    with pytest.raises(BadRun, match=r"ledger\.json is damaged: remove it"):
        costs.of(tmp_path)


# ---- beside the losses ---------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """A dense model and a run whose sizes are known."""
    dense = scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))
    write_json(dense / costs.LEDGER, {**LEDGER, "nonzero": 1000, "bytes_compressed": 1600})
    pressed = run(tmp_path / "run", LOSS)
    write_json(pressed / "manifest.json", read_json(pressed / "manifest.json") | {"ledger": LEDGER})
    return dense, pressed


def timed(folder, ms, processor="fast", corpus="", apart=0.0):
    """Milliseconds of three texts in every language, beside the other scores of a folder."""
    beginning = scores.stem(folder, "latency", corpus).name
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for place, tag in enumerate(LOSS):
        texts = [ms * (1 + place + at / 10) for at in range(3)]
        tally = Tally(("a", "b", "c"), torch.tensor(texts).double().numpy(), torch.ones(3).numpy())
        tally.save(folder / "tallies" / f"{beginning}.{tag}.parquet")
        row = {"model": "m", "language": tag, "evaluation": "latency", "value": tally.value}
        rows.append({**row, "corpus": corpus})
    made = {"identity": {"model": folder.name, "made_with": {"processor": processor}}}
    write_json(folder / "tallies" / f"{beginning}.json", made)
    if apart:
        parts = {tag: {"alone: rounds apart": apart} for tag in LOSS}
        write_json(folder / "tallies" / f"{beginning}.sites.json", parts)
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_compare_tells_sizes_beside_losses(folders):
    found = commands.compare(folders[0], folders[1:])

    sizes = {row["name"]: row for row in found.rows if row["kind"] == "size"}
    assert {name: row["pressed"] for name, row in sizes.items()} == {
        key: LEDGER[key] for key in costs.SIZES
    }
    assert sizes["nonzero"]["change"] == pytest.approx(-0.25)
    assert sizes["bytes_compressed"]["change"] == pytest.approx(-0.25)
    assert sizes["bytes_stored"]["change"] == 0
    (line,) = found.tables[-1].rows
    assert line["bytes_compressed"] == "1.2 kB (-25.0 %)"
    assert line["nonzero"] == "750 (-25.0 %)"


def test_where_the_dense_model_is_not_known_sizes_have_no_change(folders):
    (folders[0] / costs.LEDGER).unlink()

    found = commands.compare(folders[0], folders[1:])

    sizes = [row for row in found.rows if row["kind"] == "size"]
    assert {row["change"] for row in sizes} == {row["dense"] for row in sizes} == {None}
    assert found.tables[-1].rows[0]["bytes_stored"] == "2 kB"


def test_times_of_one_machine_stand_beside_losses(folders):
    for folder, ms in zip(folders, (10.0, 7.5), strict=True):
        timed(folder, ms)

    found = commands.compare(folders[0], folders[1:])

    (row,) = [row for row in found.rows if row["kind"] == "time"]
    assert row["change"] == pytest.approx(-0.25)
    assert row["dense"] == pytest.approx(10.0 * sum(range(1, 5)) / 4 + 1.0)
    assert row["pressed"] == pytest.approx(0.75 * row["dense"])
    assert row["low"] == pytest.approx(row["high"])
    (line,) = found.tables[-1].rows
    assert line["latency"] == f"{row['pressed']:.2f}"
    assert line["slower"] == "-25.0 % (-25.0, -25.0)"
    titles = [column.title for column in found.tables[-1].columns]
    assert "ms a text, mean" in titles and "change of time, mean" in titles


def test_times_are_those_on_the_corpus_that_is_compared(folders):
    """The mean of changes is 25 % less on one and 50 % more on the other, which was not quiet."""
    for folder, news, talk in zip(folders, (10.0, 7.5), (10.0, 15.0), strict=True):
        timed(folder, news, corpus="news")
        timed(folder, talk, corpus="talk", apart=0.31)

    def change(corpus):
        return verdicts.timed(folders[0], folders[1], "bits_per_byte", corpus=corpus)

    quiet, loud = change("news"), change("talk")
    assert quiet.found and loud.found
    assert quiet.found.summaries[0].value == pytest.approx(-0.25)
    assert loud.found.summaries[0].value == pytest.approx(0.5)
    assert (quiet.why, "31 % longer" in loud.why) == ("", True)
    assert "several corpora" in change("elsewhere").why
    lines = losses.speed(folders[1], folders[0])
    assert [line.partition(":")[2][1:8] for line in lines if line.startswith("Against")] == [
        "\u221225.0 %", "+50.0 %"
    ]  # fmt: skip


def test_the_corpus_of_a_comparison_reaches_its_times(folders):
    for folder, ms in zip(folders, (10.0, 7.5), strict=True):
        scores_on(folder, "news")
        timed(folder, ms, corpus="news")
        timed(folder, 10.0, corpus="talk")

    found = commands.compare(folders[0], folders[1:], corpus="news")

    (row,) = [row for row in found.rows if row["kind"] == "time"]
    assert row["change"] == pytest.approx(-0.25)


def scores_on(folder, corpus):
    """Say of the scores that are there that they are on this corpus."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    write_json(folder / "tallies" / f"{ON}.json", {"identity": {"corpus": corpus}})
    named = [json.dumps({**row, "corpus": corpus}) + "\n" for row in rows]
    (folder / "results.jsonl").write_text("".join(named))


def test_it_is_said_where_the_machine_was_not_quiet(folders):
    for folder, apart in zip(folders, (0.05, 0.31), strict=True):
        timed(folder, 10.0, apart=apart)

    found = commands.compare(folders[0], folders[1:])

    assert [row["kind"] for row in found.rows].count("time") == 1
    assert any(line.startswith("run: the same texts took up to 31 % longer") for line in found.says)


def test_times_of_two_machines_are_never_compared(folders):
    for folder, processor in zip(folders, ("fast", "slow"), strict=True):
        timed(folder, 10.0, processor)

    found = commands.compare(folders[0], folders[1:])

    assert not [row for row in found.rows if row["kind"] == "time"]
    (line,) = [line for line in found.says if "times" in line]
    assert line.startswith("run: times are not compared: these latency scores were not made alike")
    with pytest.raises(BadRun, match=r"processor=fast.*processor=slow"):
        commands.compare(folders[0], folders[1:], on="latency")


def test_a_time_names_its_machine_and_others_hang_on_nothing(tmp_path):
    pico.model().save_pretrained(tmp_path / "tiny")
    pico.tokenizer().save_pretrained(tmp_path / "tiny")
    words = commands.evaluate(
        str(tmp_path / "tiny"),
        on=["bits_per_byte", "latency"],
        languages="sw",
        documents=2,
        window=24,
        option={"repeats": 1, "batch": 2},
        out=tmp_path / "scores",
    )

    by_name = {row["evaluation"]: row for row in words.rows}
    assert by_name["bits_per_byte"]["made_with"] is by_name["bits_per_byte"]["parts"] is None
    assert by_name["latency"]["made_with"] == machine(torch.device("cpu"))
    assert by_name["latency"]["parts"]["alone: ms, median"] > 0
    lines = (tmp_path / "scores" / "results.jsonl").read_text()
    kept = [json.loads(line) for line in lines.splitlines()]
    assert kept[1]["made_with"]["threads"] == str(torch.get_num_threads())
    assert any(line.startswith("latency was measured with processor") for line in words.says)
    titles = [table.title for table in words.tables]
    assert titles == ["", "latency, alone", "latency, batched"]
    assert costs.of(tmp_path / "scores")["parameters"] > 0
