import json
import subprocess
import sys

import pytest

from babelpress.errors import BadRun
from babelpress.insight import _kept
from babelpress.insight._kept import Kept
from babelpress.insight._pictures import Picture, Point, listed, mean_by, read, spoken

PICTURE = Picture(
    "languages",
    "Which?",
    "This one.",
    (Point("a", "0", "Swahili", 0.25), Point("a", "1", "Swahili", None)),
    across="block",
    down="language",
    value="share",
    bad="high",
)
ROWS = [{"run": "a", "language": "swh_Latn", "value": 0.25}, {"run": "a", "value": None}]


def written(folder):
    kept = Kept("damage", "f00", "Damage", "babel-mini; a", {"inputs": "f00"}, (PICTURE,), {})
    return _kept.write(folder, kept, ROWS, {"more.yaml": "neurons: {}\n"})


def test_what_was_kept_is_read_again(tmp_path):
    kept = written(tmp_path)

    assert _kept.read_one(tmp_path, "damage") == kept
    assert _kept.read_all(tmp_path) == ([kept], [])
    assert _kept.read_rows(tmp_path, "damage") == ROWS
    assert set(kept.files) == {"damage.jsonl", "more.yaml"}
    lines = (tmp_path / "damage.jsonl").read_text().splitlines()
    assert len(lines) == 2 and all("seal" in json.loads(line) for line in lines)


def test_where_nothing_was_done_there_is_nothing(tmp_path):
    assert _kept.read_one(tmp_path, "damage") is None
    assert _kept.read_all(tmp_path / "nowhere") == ([], [])
    with pytest.raises(BadRun, match=r"Make it: babelpress insight --on damage"):
        _kept.read_rows(tmp_path, "damage")


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_a_disk_spoils_is_seen(tmp_path):
    written(tmp_path)
    changed(tmp_path / "damage.jsonl", "0.25", "0.26")

    with pytest.raises(BadRun, match=r"damage\.jsonl is missing or not the file"):
        _kept.read_one(tmp_path, "damage")
    with pytest.raises(BadRun, match=r"damage\.jsonl line 1 is damaged"):
        _kept.read_rows(tmp_path, "damage")

    written(tmp_path)
    changed(tmp_path / "damage.json", "This one.", "That one.")
    with pytest.raises(BadRun, match=r"damage\.json is damaged"):
        _kept.read_one(tmp_path, "damage")


@pytest.mark.parametrize("wrong", [{"format": 2}, {"format": 1}, {"format": 1, "pictures": [{}]}])
def test_other_json_is_no_analysis(tmp_path, wrong):
    (tmp_path / "damage.json").write_text(json.dumps(wrong))

    with pytest.raises(BadRun, match=r"damage\.json holds no|damage\.json is no"):
        _kept.read_one(tmp_path, "damage")


def test_a_picture_of_an_unknown_kind_is_refused():
    value = json.loads(json.dumps(PICTURE.written()))

    assert read(value, "here") == PICTURE
    with pytest.raises(BadRun, match="kind 'pie'"):
        read({**value, "kind": "pie"}, "here")
    with pytest.raises(BadRun, match="here holds no picture"):
        read({**value, "points": [["a", "b"]]}, "here")


def test_words_and_means():
    rows = [{"a": 1, "b": 2, "value": 3.0}, {"a": 1, "b": 3, "value": 5.0}]

    assert listed(["one"]) == "one" and listed("abc") == "a, b and c"
    assert spoken("swh_Latn") == "Swahili" and spoken("qqq_Latn") == "qqq_Latn"
    assert mean_by([*rows, {"a": 1, "b": 2, "value": None}], "a") == {1: 4.0}
    assert mean_by(rows, "a", "b") == {(1, 2): 3.0, (1, 3): 5.0}


def test_reading_results_loads_nothing_heavy():
    heavy = "{'torch', 'transformers', 'scipy', 'numpy'}"
    code = f"import sys, babelpress.insight._kept; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
