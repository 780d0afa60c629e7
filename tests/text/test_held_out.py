"""Text held out: what a calibration has not read, in its order, and nothing of the test split."""

import hashlib
import json
from typing import Any

import pytest
import torch

from babelpress.errors import BadCorpus
from babelpress.models.open import open_model
from babelpress.text.draw import draw
from babelpress.text.held_out import hold_out
from babelpress.text.settings import CalibrationSettings

LENGTH = 16
BODY = LENGTH - 1  # of a block, after BOS
SEED = 3


@pytest.fixture(scope="module")
def opened(model):
    return open_model(str(model))


def write(folder, *, src="s", **languages: Any):
    """A corpus of (split, text) by language, a document each."""
    folder.mkdir(exist_ok=True)
    for tag, rows in languages.items():
        records = (
            {"doc": f"d{n}", "src": src, "split": split, "text": text}
            for n, (split, text) in enumerate(rows)
        )
        lines = "".join(f"{json.dumps(each)}\n" for each in records)
        (folder / f"{tag}.jsonl").write_text(lines)
    return str(folder)


def asked(corpus, tokens, **more):
    return CalibrationSettings(corpus=corpus, tokens=tokens, length=LENGTH, seed=SEED, **more)


def held(opened, settings, tokens):
    """What is held out, and the calibration set itself."""
    read = draw(opened, settings)
    found = hold_out(opened, settings, list(read.blocks), tokens, read=read.manifest)
    return found, read.blocks


def text_of(opened, blocks):
    return opened.tokenizer.decode(blocks.ids_BT[blocks.counted_BT].tolist())


def sentences(number, word="maji"):
    return [("train", f"{word} {n:03d} ni uhai.") for n in range(number)]


@pytest.mark.parametrize(("tokens", "more"), [(64, 48), (100, 80), (16, 200)])
def test_it_is_what_comes_behind_in_the_order_of_the_calibration(opened, tmp_path, tokens, more):
    rows = sentences(60)
    found, calibrated = held(opened, asked(write(tmp_path / "text", swh_Latn=rows), tokens), more)

    # Slow and plain: documents by their hash; those that the calibration begins are passed over.
    def order(n):
        return hashlib.sha256(f"{SEED}\ns/d{n}\n0".encode()).digest()

    def stream(texts):
        ids = []
        for place, text in enumerate(texts):
            ids += [None] * bool(place)
            ids += opened.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    texts = [rows[n][1] for n in sorted(range(60), key=order)]
    wanted = tokens // LENGTH * BODY
    used = 0
    while len(stream(texts[:used])) < wanted:
        used += 1
    rest = stream(texts[used:])[: more // LENGTH * BODY]
    own = found["swh_Latn"]
    assert own.split == "train"
    assert own.blocks.ids_BT[own.blocks.counted_BT].tolist() == [i for i in rest if i is not None]
    assert own.blocks.ids_BT.shape == (more // LENGTH, LENGTH)
    assert own.tokens == sum(each is not None for each in rest)
    cut = stream(texts[:used])[:wanted]
    ids = calibrated["swh_Latn"].ids_BT[calibrated["swh_Latn"].counted_BT].tolist()
    assert ids == [each for each in cut if each is not None]


def test_a_line_that_was_read_or_is_tested_is_left_out_wherever_it_stands_again(opened, tmp_path):
    lines = ["moja mbili", "tatu nne", "tano sita", "saba nane"]
    rows = [("train", f"{lines[n % 4]}\n{n:04d} ya pekee") for n in range(24)]
    corpus = write(tmp_path / "text", swh_Latn=[*rows, ("test", "tatu nne\n0003 ya pekee")])

    found, calibrated = held(opened, asked(corpus, 256), 4096)

    read = text_of(opened, calibrated["swh_Latn"])
    assert all(line in read for line in lines if line != "tatu nne")  # and they stand again
    text = text_of(opened, found["swh_Latn"].blocks)
    assert not any(line in text for line in lines)
    assert "0003" not in text
    assert text.count("ya pekee") > 10


def test_the_valid_split_stands_in_where_it_has_more(opened, tmp_path):
    valid = [("valid", f"bahari {n} kubwa") for n in range(3)]
    many = write(tmp_path / "many", swh_Latn=[*sentences(40), *valid])
    few = write(tmp_path / "few", swh_Latn=[*sentences(4), *valid])

    of_train, _ = held(opened, asked(many, 64), 64)
    of_valid, _ = held(opened, asked(few, 4096), 64)

    assert of_train["swh_Latn"].split == "train"
    assert of_valid["swh_Latn"].split == "valid"
    assert "bahari" in text_of(opened, of_valid["swh_Latn"].blocks)
    assert "maji" not in text_of(opened, of_valid["swh_Latn"].blocks)


def test_blocks_are_as_long_as_those_of_the_calibration_or_as_what_is_asked_for(opened, tmp_path):
    corpus = write(tmp_path / "text", swh_Latn=sentences(60))

    found, _ = held(opened, asked(corpus, 64), 10)

    assert found["swh_Latn"].blocks.ids_BT.shape == (1, 10)


def test_a_language_hangs_on_no_other(opened, tmp_path):
    rows = {"swh_Latn": sentences(40), "hin_Deva": sentences(50, "पानी")}
    both, _ = held(opened, asked(write(tmp_path / "both", **rows), 64), 64)
    rows.pop("hin_Deva")
    one, _ = held(opened, asked(write(tmp_path / "one", **rows), 64), 64)

    assert torch.equal(both["swh_Latn"].blocks.ids_BT, one["swh_Latn"].blocks.ids_BT)


def test_text_of_another_corpus_that_scores_are_taken_on_is_left_out(opened, tmp_path):
    other = write(
        tmp_path / "other", src="t", swh_Latn=[("test", text) for _, text in sentences(25)]
    )
    corpus = write(tmp_path / "text", swh_Latn=sentences(60))

    found, _ = held(opened, asked(corpus, 64, evaluation=other), 4096)

    text = text_of(opened, found["swh_Latn"].blocks)
    numbers = {n for n in range(60) if f"{n:03d}" in text}
    assert numbers and min(numbers) >= 25


def test_languages_without_any_are_named_at_once(opened, tmp_path):
    rows = {"swh_Latn": sentences(3), "hin_Deva": sentences(60), "amh_Ethi": sentences(3)}

    with pytest.raises(BadCorpus, match=r"no text of amh_Ethi, swh_Latn .*--tokens") as caught:
        held(opened, asked(write(tmp_path / "text", **rows), 1024), 64)

    assert "\n" not in str(caught.value) and "hin_Deva" not in str(caught.value)


def test_a_corpus_that_is_another_now_is_refused(opened, tmp_path):
    settings = asked(write(tmp_path / "text", swh_Latn=sentences(40)), 64)
    read = draw(opened, settings)
    write(tmp_path / "text", swh_Latn=sentences(41))

    with pytest.raises(BadCorpus, match="not what it was when it was calibrated on"):
        hold_out(opened, settings, ["swh_Latn"], 64, read=read.manifest)
