"""Tables to download: what a page shows, unrounded, and no formula."""

import csv
import io
from dataclasses import replace
from urllib.parse import unquote

import pytest

from babelpress.report import data, tables


def read(address: str) -> list[dict[str, str]]:
    head, _, body = address.partition(",")
    assert head == "data:text/csv;charset=utf-8"
    text = unquote(body)
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text[1:])))


def test_every_number_is_there_to_the_last_digit(sample):
    rows = data.rows(sample)

    found = read(tables.numbers(rows, dict.fromkeys(data.labels(sample.pressed), "wanda 0.5")))

    assert len(found) == len(rows) == 93
    for line, row in zip(found, rows, strict=True):
        assert (line["language"], line["calibration"]) == (row.tongue.tag, row.label)
        for key in ("dense", "pressed", "change", "low", "high", "p_holm"):
            assert float(line[key]) == getattr(row, key)
        assert (line["documents"], line["finding"]) == ("", row.verdict)


def test_summaries_have_size_time_and_memory(quantized):
    models = [replace(quantized.pressed[0], seconds=12.25, memory_mib=371.0)]

    found = read(tables.summaries(models, ["english"]))

    assert [line["summary"] for line in found] == ["mean", "worst", "low_resource", "spread"]
    assert {line["bytes_stored"] for line in found} == {"5998336"}
    assert {(line["seconds"], line["memory_mib"]) for line in found} == {("12.25", "371.0")}
    assert found[1]["language"] == models[0].comparison.summaries[1].language


def test_ranges_and_ledgers_have_their_tables(quantized):
    labels = data.labels(quantized.pressed)

    assert len(read(tables.beyond(quantized.pressed, labels))) == 93
    assert [line["part"] for line in read(tables.ledger(quantized.pressed[:1], labels[:1]))] == [
        "blocks", "embedding", "other"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(1)", "\t=1", "\r=1"])
def test_a_name_that_is_a_formula_is_text(name):
    (row,) = list(csv.DictReader(io.StringIO(tables.as_csv([{"name": name, "n": -1.5}]))))

    assert row["name"].startswith(("'", "\ufffd"))
    assert row["n"] == "-1.5"


def test_quotes_commas_and_lines_stay_in_their_field():
    (row,) = list(csv.DictReader(io.StringIO(tables.as_csv([{"a,b": 'x",\n"y', "c": None}]))))

    assert row == {"a,b": 'x",\n"y', "c": ""}
