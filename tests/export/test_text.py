"""The calibration text: whole blocks, in proportion to the shares."""

import json

import pytest
from small import opened

from babelpress.errors import BadCorpus, BadSetting
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.export.text import apportion
from babelpress.moments.calibrate import calibrate
from babelpress.runs.manifest import Manifest
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import draw
from babelpress.text.settings import CalibrationSettings

LANGUAGES = ("swh_Latn", "hin_Deva", "fra_Latn")
ASKED = CalibrationSettings(languages=LANGUAGES, tokens=480, length=48, seed=1)
SHARES = {"swh_Latn": 0.1, "hin_Deva": 0.6, "fra_Latn": 0.3}


@pytest.fixture(scope="module")
def of():
    return opened()


@pytest.fixture(scope="module")
def manifest(of):
    """What a run notes about its text."""
    found = draw(of, ASKED).manifest
    return Manifest.model_validate(
        {
            "recipe": {"model": "small", "calibration": ASKED.model_dump(mode="json")},
            "steps": [{"model": {"name": "small"}, "calibration": json.loads(json.dumps(found))}],
        }
    )


def written(source, folder):
    lines = FORMATS.get("text")(source, folder)
    text = (folder / "calibration.txt").read_text(encoding="utf-8")
    return text, json.loads((folder / "calibration.json").read_text()), lines


@pytest.mark.parametrize(
    ("blocks", "shares", "expected"),
    [
        ({"a": 10, "b": 10}, {"a": 0.25, "b": 0.75}, {"a": 3, "b": 10}),  # 3.33 and 10
        ({"a": 8, "b": 8, "c": 8}, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 8, "b": 5, "c": 3}),
        ({"a": 10, "b": 2}, {"a": 0.5, "b": 0.5}, {"a": 2, "b": 2}),  # as many as b has
        ({"a": 4, "b": 4}, {"a": 0.96, "b": 0.04}, {"a": 4, "b": 0}),
        ({"a": 7}, {"a": 1.0}, {"a": 7}),
    ],
)
def test_blocks_are_in_proportion_as_many_as_there_are(blocks, shares, expected):
    assert apportion(blocks, shares) == expected


def test_what_is_left_goes_to_the_largest_remainder():
    # quotas 10, 4.7 and 2.4 are 17 together
    shares = {"a": 10 / 17.1, "b": 4.7 / 17.1, "c": 2.4 / 17.1}

    assert apportion({"a": 10, "b": 10, "c": 10}, shares) == {"a": 10, "b": 5, "c": 2}


def test_the_text_is_that_of_the_corpus_in_the_asked_proportion(of, manifest, tmp_path):
    text, facts, lines = written(Source("RUN", of, manifest, shares=SHARES), tmp_path)
    corpus = open_corpus("embedded")
    known = {tag: "\n".join(d.text for d in corpus.documents(tag, "train")) for tag in LANGUAGES}

    blocks = {tag: row["blocks"] for tag, row in facts["languages"].items()}
    assert blocks == {"swh_Latn": 2, "hin_Deva": 10, "fra_Latn": 5}
    assert (
        facts["languages"]["hin_Deva"]["tokens"] > 5 * facts["languages"]["swh_Latn"]["tokens"] - 48
    )
    assert sum(row["bytes"] for row in facts["languages"].values()) == len(text.encode())
    assert "<bos>" not in text and "<eos>" not in text
    for line in text.splitlines():
        assert any(line in each for each in known.values()), line
    total = sum(row["tokens"] for row in facts["languages"].values())
    assert lines == [f"{total} tokens of 3 languages"]


def test_moments_know_their_text_without_a_run(of, manifest, tmp_path):
    store = calibrate(of, ASKED, tmp_path / "moments", gram=False)
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()

    by_run, _, _ = written(Source("RUN", of, manifest, shares=SHARES), folders[0])
    by_moments, _, _ = written(Source("small", of, moments=store, shares=SHARES), folders[1])

    assert by_moments == by_run


def test_a_share_too_small_for_a_block_is_told(of, manifest, tmp_path):
    shares = {"swh_Latn": 0.01, "hin_Deva": 0.98, "fra_Latn": 0.01}

    _, facts, lines = written(Source("RUN", of, manifest, shares=shares), tmp_path)

    assert facts["languages"]["swh_Latn"]["blocks"] == 0
    assert lines[1] == "shares too small for one block of text: swh_Latn, fra_Latn"


def test_text_that_changed_since_is_refused(of, manifest, tmp_path):
    data = manifest.written()
    data["steps"][0]["calibration"]["fingerprint"] = "f00d"
    changed = Manifest.model_validate(data)

    with pytest.raises(BadCorpus, match="embedded does not give the text any more"):
        written(Source("RUN", of, changed, shares=SHARES), tmp_path)


def test_it_says_what_is_to_be_given(of, manifest, tmp_path):
    with pytest.raises(BadSetting, match="give --mixture"):
        written(Source("RUN", of, manifest), tmp_path)
    with pytest.raises(BadSetting, match="needs a run, or --moments FOLDER"):
        written(Source("small", of, shares=SHARES), tmp_path)


def test_a_language_without_text_is_named(of, manifest, tmp_path):
    with pytest.raises(BadCorpus, match="zul_Latn"):
        written(Source("RUN", of, manifest, shares={"zul_Latn": 1.0}), tmp_path)
