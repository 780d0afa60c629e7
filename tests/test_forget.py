"""The tables of What compressed MT forgets: levels, losers and winners, and what a sweep says."""

import json

import numpy as np
import pytest

from babelpress.numerics.tally import Tally
from benchmarks.papers.forget import sentences, table
from benchmarks.papers.forget.table import Pressed, by_level, levels, named, pairs_of

PAIRS = {"spa_Latn": 900, "ita_Latn": 800, "swh_Latn": 300, "hau_Latn": 100}


def tally(values, counts):
    names = tuple(f"s{place}" for place in range(len(values)))
    return Tally(names, np.array(values) * np.array(counts), np.array(counts, dtype=float))


@pytest.fixture
def pressed(monkeypatch, tmp_path):
    """Four sentences before and after; the third is none, for it was not scored as one alone."""
    dense = {"swh_Latn": tally([30.0, 20.0, 5.0, 40.0], [1, 1, 1, 1])}
    after = {"swh_Latn": tally([20.0, 10.1, 15.0, 39.0], [1, 1, 1, 1])}
    both = type("Scored", (), {"dense": dense, "pressed": after})
    monkeypatch.setattr(table.verdicts, "scored", lambda *_, **__: both)
    return Pressed("wanda 0.5", tmp_path, tmp_path)


def test_losers_and_winners_move_ten_points(pressed):
    assert pressed.moved("translate") == {"swh_Latn": (0.25, 0.25)}
    assert pressed.values("translate")["swh_Latn"] == pytest.approx((95 / 4, 84.1 / 4))


def test_levels_are_thirds_by_pairs_where_they_are_known():
    found = levels([*PAIRS][::-1], PAIRS)

    assert found == {
        "most pairs": ["ita_Latn", "spa_Latn"],
        "fewer pairs": ["swh_Latn"],
        "fewest pairs": ["hau_Latn"],
    }


def test_a_direction_is_of_the_level_of_its_language_that_is_not_english():
    ways = ["eng_Latn>hau_Latn", "hau_Latn>eng_Latn", "eng_Latn>spa_Latn"]

    assert levels(ways, {"spa_Latn": 5, "hau_Latn": 1}) == {
        "most pairs": ways[2:],
        "fewer pairs": ways[:2],
    }


def test_without_pairs_levels_are_those_of_the_table_of_languages():
    assert levels(["hau_Latn", "spa_Latn"], {}) == {"high": ["spa_Latn"], "low": ["hau_Latn"]}


def test_a_row_begins_with_all_languages():
    groups = {"a": ["x", "y"], "b": ["z"]}

    assert by_level(groups, "".join) == ["xyz", "xy", "z"]
    assert named("eng_Latn>swh_Latn") == "en>sw"


def test_pairs_are_those_into_english(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(
        json.dumps({"eng_Latn>swh_Latn": {"pairs": 3}, "swh_Latn>eng_Latn": {"pairs": 4}})
    )

    assert pairs_of(path) == {"swh_Latn": 4}
    assert pairs_of(None) == {}


def test_every_sentence_of_flores_is_a_document(tmp_path, capsys):
    (text := tmp_path / "text").mkdir()
    for tag in ("en", "sw"):
        rows = [
            {"id": "flores/1", "src": "flores", "doc": "d", "split": "test", "text": f"{tag} one"},
            {"id": "flores/2", "src": "flores", "doc": "d", "split": "test", "text": f"{tag} two"},
            {"id": "n", "src": "ntrex", "doc": "e", "split": "train", "text": "no"},
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (text / f"{tag}.jsonl").write_text(lines, encoding="utf-8")

    sentences.main(str(text), str(tmp_path / "out"), "sw")

    corpus = sentences.open_corpus(str(tmp_path / "out"))
    assert [each.id for each in corpus.documents("swh_Latn", "test")] == ["flores/1", "flores/2"]
    english, own = (corpus.sentences(tag) for tag in ("eng_Latn", "swh_Latn"))
    assert [each.id for each in english] == [each.id for each in own]
    assert "swh_Latn 2 sentences" in capsys.readouterr().out
