"""Every kind of file gives its records, and says where it is broken."""

import bz2
import gzip
import json
import lzma

import pyarrow
import pytest

from babelpress.errors import BadCorpus
from babelpress.text.records import check, ending, read


def records(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return [(each.line, each.fields) for each in read(tmp_path / name)]


def texts(tmp_path, name, data):
    return [fields["text"] for _, fields in records(tmp_path, name, data)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sw.jsonl", ".jsonl"),
        ("am.JSONL", ".jsonl"),
        ("yo.Txt.GZ", ".txt.gz"),
        ("ta.jsonl.zst", ".jsonl.zst"),
        ("20231101.sw.csv", ".csv"),
        ("sw.parquet.gz", None),
        ("sw.gz", None),
        ("sw.docx", None),
        ("sw", None),
    ],
)
def test_an_ending_counts_in_any_case(name, found):
    assert ending(name) == found


@pytest.mark.parametrize(
    ("pack", "packed"),
    [
        (gzip.compress, ".gz"),
        (bz2.compress, ".bz2"),
        (lzma.compress, ".xz"),
        (lambda data: pyarrow.compress(data, codec="zstd", asbytes=True), ".zst"),
    ],
)
def test_a_packed_file_is_read_whole_and_cut_short_is_one_line(tmp_path, pack, packed):
    lines = "".join(f"mstari {n * n} wa {n}\n" for n in range(3000)).encode()
    data = pack(lines)

    assert len(texts(tmp_path, f"sw.txt{packed}", data)) == 3000
    for cut in (data[: len(data) // 2], data[:4], b"plain text"):
        with pytest.raises(BadCorpus, match=rf"sw\.txt\{packed} cannot be read after line \d+"):
            records(tmp_path, f"sw.txt{packed}", cut)


def test_the_beginning_of_a_file_shows_that_it_is_damaged(tmp_path):
    damaged = {"sw.jsonl.zst": b"\x28\xb5\x2f\xfd", "a.parquet": b"PAR1", "b.txt": b""}
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadCorpus, match=name):
            check(tmp_path / name)
    (tmp_path / "c.txt").write_bytes(b"maji")
    check(tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\nc\n", ["a", "b", "c"]),
        ("\n\na\r\nb\r\n\n \n", ["a", "b"]),
        ("a\n\nb\n", ["a", "b"]),
        ("a\nb\n\n\nc\n \nd\ne", ["a\nb", "c", "d\ne"]),
        ("only one", ["only one"]),
    ],
)
def test_a_line_is_a_record_unless_blank_lines_part_them(tmp_path, text, expected):
    assert texts(tmp_path, "sw.txt", text.encode()) == expected


def test_lines_are_counted_from_one(tmp_path):
    assert [line for line, _ in records(tmp_path, "sw.txt", b"\n\na\nb\n")] == [3, 4]
    assert [line for line, _ in records(tmp_path, "sw.txt", b"a\nb\n\n\nc")] == [1, 5]


ROWS = [{"text": "maji, moto", "id": 3}, {"text": 'mti "wa" mvua\nmbili', "id": 5}]


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(map(json.dumps, ROWS)),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"version": 1, "data": ROWS}),
        json.dumps({"data": ROWS}, indent=1),
    ],
)
def test_json_is_one_list_or_one_object_a_line(tmp_path, data):
    assert [fields for _, fields in records(tmp_path, "sw.json", data.encode())] == ROWS


def test_json_of_strings_or_of_one_object_is_text_too(tmp_path):
    assert texts(tmp_path, "sw.json", b'["maji", "moto"]') == ["maji", "moto"]
    assert texts(tmp_path, "sw.json", b'{"text": "maji"}\n') == ["maji"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("sw.csv", 'id,text\n3,"maji, moto"\n5,"mti ""wa"" mvua\nmbili"\n'),
        ("sw.csv", 'id;text\r\n3;maji, moto\r\n5;"mti ""wa"" mvua\nmbili"\r\n'),
        ("sw.CSV", '\ufeffid, text\n\n3,"maji, moto"\n5,"mti ""wa"" mvua\nmbili"'),
    ],
)
def test_a_table_has_its_fields_named_by_the_first_row(tmp_path, name, data):
    found = records(tmp_path, name, data.encode())

    assert [fields for _, fields in found] == [{**row, "id": str(row["id"])} for row in ROWS]


def test_nothing_is_quoted_between_tabs(tmp_path):
    found = records(tmp_path, "sw.tsv", b'id\tsentence\n1\t"Maji\n2\tmoto, "mti"\n')

    assert found == [
        (2, {"id": "1", "sentence": '"Maji'}),
        (3, {"id": "2", "sentence": 'moto, "mti"'}),
    ]


def test_a_field_may_be_longer_than_the_librarys_own_limit(tmp_path):
    assert [len(str(t)) for t in texts(tmp_path, "sw.csv", b"text\n" + b"maji " * 60_000)] == [
        300_000
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("sw.csv", b"text,id\na,b,c\n", r"line 2 has 3 fields, and the first line names 2"),
        ("sw.csv", b'text,id\n"a,b\n', r"sw\.csv cannot be read after line 1: unexpected end"),
        ("sw.csv", b"text\n", "is empty"),
        ("sw.json", b"[]", "is empty"),
        ("sw.json", b'[{"text": "a"}', r"sw\.json is not valid JSON"),
        ("sw.json", b'["a", 3]', r"item 2 is not a JSON object"),
        ("sw.json", b'{"text": "a"}\n{"text": "b"}\n{"te', r"line 3 is not valid JSON"),
        ("sw.json", b"[" * 100_000, r"is not valid JSON"),
        ("sw.tsv", b"text\n\xff\n", r"line 2 is not valid UTF-8"),
    ],
)
def test_what_is_broken_is_named_with_its_place(tmp_path, name, data, message):
    with pytest.raises(BadCorpus, match=message) as caught:
        records(tmp_path, name, data)

    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
