"""The recipe of babel-mini-mt: pairs, pieces, batches and training, on a small parallel corpus."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from babelpress import commands
from babelpress.text.marks import Marks
from babelpress.train.loop import Schedule
from benchmarks.reference.mt import blocks, pairs
from benchmarks.reference.mt.blocks import Batches, batches, drawn, shares, tokenised
from benchmarks.reference.mt.pairs import Pair, pairs_of
from benchmarks.reference.mt.pretrain import fresh, loss_of, train
from benchmarks.reference.mt.tokenizer import texts, trained

SWAHILI, HAUSA = "swh_Latn", "hau_Latn"
TINY: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "dropout": 0.0,
}
SWAHILI_WORDS = ["maji", "mtoto", "mvua", "mbwa", "nyumba", "kazi", "chakula", "rafiki"]
ENGLISH_WORDS = ["water", "child", "rain", "dog", "house", "work", "food", "friend"]


def record(name, text, src="mine", doc="d", split="train"):
    return {"id": name, "src": src, "doc": doc, "split": split, "text": text}


def sentences(words, number=40):
    rng = np.random.default_rng(0)
    return [f"{' '.join(rng.choice(words, 3))}." for _ in range(number)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty pairs in Swahili, ten in Hausa, some scripture, and test text that one line is of."""
    place = tmp_path_factory.mktemp("corpus")
    for language, words, number in (
        ("en", ENGLISH_WORDS, 40),
        ("sw", SWAHILI_WORDS, 40),
        ("ha", SWAHILI_WORDS[::-1], 10),
    ):
        rows = [record(f"s{n}", text) for n, text in enumerate(sentences(words, number))]
        rows += [
            record("bible/GEN.1.1", f"{language} old verse.", "bible", "GEN"),
            record("bible/MRK.1.1", f"{language} new verse.", "bible", "MRK"),
            record("f1", f"{language} said before.", "flores", "f", "test"),
            record("s90", f"{language} said before."),
            record("s91", "only here." if language == "sw" else f"{language} alone."),
        ]
        if language == "sw":
            rows[-1]["id"] = "s92"
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (place / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def found(folder):
    return pairs_of(str(folder), [SWAHILI, HAUSA])


@pytest.fixture(scope="module")
def tokenizer(found, tmp_path_factory):
    """As it is read from the folder that it was saved in."""
    place = tmp_path_factory.mktemp("tokenizer")
    trained(found, 200).save_pretrained(place)
    return AutoTokenizer.from_pretrained(place)


@pytest.fixture(scope="module")
def written(found, tokenizer, tmp_path_factory):
    place = tmp_path_factory.mktemp("blocks")
    blocks.write(tokenizer, found, place, 12)
    return place


# ---- pairs and pieces ----------------------------------------------------------------------


def test_pairs_have_equal_ids_and_neither_test_text_nor_the_old_testament(found):
    own = {each.own for each in found[SWAHILI]}

    assert len(found[SWAHILI]) == 41
    assert len(found[HAUSA]) == 12  # with `alone`, whose id Swahili lacks
    assert own == {*sentences(SWAHILI_WORDS), "sw new verse."}
    assert Pair("bible", "en new verse.", "sw new verse.") in found[SWAHILI]
    assert "ha old verse." not in {each.own for each in found[HAUSA]}


def test_what_a_language_has_is_told_by_source(folder, capsys):
    pairs.main(str(folder), "ha")

    assert capsys.readouterr().out == "hau_Latn: 12 pairs (mine 11, bible 1)\n"


def test_the_tokenizer_has_languages_and_pieces_that_join_no_letter_and_stop(tokenizer, found):
    marks = Marks.of(tokenizer, "m2m_100")
    way = f"eng_Latn>{SWAHILI}"
    vocabulary = tokenizer.get_vocab()

    assert len(tokenizer) <= 200
    assert set(marks.codes) == {"eng_Latn", SWAHILI, HAUSA}
    assert not [each for each in vocabulary if "." in each and each not in (".", "▁.")]
    ids = marks.source(way, ["water child."])[0]
    assert ids[0] == vocabulary["eng_Latn"]
    assert ids[-1] == tokenizer.eos_token_id
    for text in texts(found):
        (target,) = marks.target(way, [text])
        assert target[0] == vocabulary[SWAHILI]
        assert tokenizer.decode(target, skip_special_tokens=True) == text


# ---- batches -------------------------------------------------------------------------------


def test_pairs_are_read_back_as_the_marks_have_them(written, tokenizer, found):
    ids = tokenised(tokenizer, found)
    every = [each for some in ids.values() for each in some]
    read = Batches.load(written)

    ways = [f"eng_Latn>{SWAHILI}", f"{SWAHILI}>eng_Latn", f"eng_Latn>{HAUSA}", f"{HAUSA}>eng_Latn"]
    assert list(ids) == ways
    assert [read.pair(number) for number in range(len(every))] == [tuple(each) for each in every]
    batch = read.of(3, pad=1)
    numbers = read.order_M[read.ends_K[2] : read.ends_K[3]]
    for row, number in enumerate(numbers):
        source, label = every[number]
        assert batch.source_BS[row][batch.there_BS[row]].tolist() == source
        assert batch.label_BT[row][batch.label_BT[row] != -100].tolist() == label
    assert len(read) == 12


def test_a_pair_with_a_side_that_is_too_long_is_left_out(tokenizer):
    long = Pair("mine", "water " * 130, "maji")

    found = tokenised(tokenizer, {SWAHILI: [long, Pair("mine", "water", "maji")]})

    assert [len(some) for some in found.values()] == [1, 1]


def test_batches_hold_every_pair_once_within_the_tokens():
    rng = np.random.default_rng(1)
    length_P2 = rng.integers(1, 40, (300, 2))
    numbers = rng.permutation(300)[:200]

    found = batches(numbers, length_P2, 160)

    assert sorted(np.concatenate(found)) == sorted(numbers)
    widths = [length_P2[each].max(0).sum() * len(each) for each in found]
    assert max(widths) <= 160
    assert len(found) < 100  # and no batch of one pair each


def test_directions_are_drawn_by_the_root_of_their_pairs_in_whole_epochs():
    sizes = [400, 100]

    assert shares(sizes).tolist() == pytest.approx([2 / 3, 1 / 3])
    numbers = next(drawn(sizes, np.random.default_rng(0)))
    counts = np.bincount(numbers, minlength=500)
    assert len(numbers) == blocks.DRAWN
    assert counts[:400].max() - counts[:400].min() <= 1
    assert counts[400:].max() - counts[400:].min() <= 1
    assert counts[400:].mean() / counts[:400].mean() == pytest.approx(2, rel=0.05)


def test_what_was_read_is_told_by_direction(written, found):
    told = json.loads((written / blocks.TOLD).read_text(encoding="utf-8"))
    read = Batches.load(written)

    assert [each["pairs"] for each in told.values()] == [41, 41, 12, 12]
    readings = sum(each["pairs"] * each["readings"] for each in told.values())
    assert readings == pytest.approx(len(read.order_M), rel=0.01)
    assert sum(each["tokens"] for each in told.values()) == len(read.ids_N)


# ---- training ------------------------------------------------------------------------------


def test_the_loss_is_that_of_transformers(written):
    model = fresh(200, 0, **TINY).eval()
    batch = Batches.load(written).of(0, pad=1)

    expected = model(
        input_ids=batch.source_BS, attention_mask=batch.there_BS.long(), labels=batch.label_BT
    ).loss

    assert loss_of(model, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_training_learns_resumes_to_the_same_weights_and_is_read_by_eval(
    written, tokenizer, folder, tmp_path
):
    read = Batches.load(written)
    schedule = Schedule(steps=12, warmup=2, checkpoint=6, adam_rate=1e-2)
    whole, parted = (fresh(len(tokenizer), 0, **TINY) for _ in range(2))
    before = loss_of(whole, read.of(0, 1)).item()

    train(whole, read, tmp_path / "whole", schedule=schedule)
    train(parted, read, tmp_path / "parted", schedule=schedule)
    again = fresh(len(tokenizer), 1, **TINY)
    for each in (tmp_path / "parted" / "checkpoint-12").iterdir():
        each.unlink()
    train(again, read, tmp_path / "parted", schedule=schedule)

    assert loss_of(whole, read.of(0, 1)).item() < before - 0.3
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    whole.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert load_file(tmp_path / "model" / "model.safetensors")
    asked: dict[str, Any] = {"on": "translation_loss", "corpus": f"{folder}?src=flores"}
    told = commands.evaluate(str(tmp_path / "model"), languages="sw", **asked)
    assert {row["language"] for row in told.rows} == {f"eng_Latn>{SWAHILI}", f"{SWAHILI}>eng_Latn"}
