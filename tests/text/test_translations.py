"""Pairs for encoder-decoders, against the definition as a plain loop, and transformers' shifts."""

import hashlib
import json
import os
from typing import Any

import pico
import pytest
import torch
import translating
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right as m2m_shift
from transformers.models.marian.modeling_marian import shift_tokens_right as marian_shift
from transformers.models.mbart.modeling_mbart import shift_tokens_right as mbart_shift

from babelpress import commands
from babelpress.errors import BadCorpus, BadSetting
from babelpress.models.open import Opened
from babelpress.models.reading import decoder_ids
from babelpress.moments.calibrate import text_hash
from babelpress.text.draw import draw
from babelpress.text.settings import CalibrationSettings

DATA = os.environ.get("BABELPRESS_DATA")
needs_data = pytest.mark.skipif(
    DATA is None, reason="BABELPRESS_DATA is not set: no folder with text/<language>.jsonl.gz"
)
WAY, BACK = "eng_Latn>swh_Latn", "swh_Latn>eng_Latn"
NAMES = {"eng_Latn": "en", "swh_Latn": "sw", "hau_Latn": "ha"}


def drawn(folder, languages=("sw",), opened=None, **options):
    asked: dict[str, Any] = {"tokens": 5000, "length": 60, "seed": 3, **options}
    settings = CalibrationSettings(corpus=str(folder), languages=languages, **asked)
    return draw(opened or translating.opened(), settings)


def slow_pairs(way, tokens, seed=3, train=4):
    """The pairs of a direction from their definition, as (name, source ids, label ids)."""
    source, target = way.split(">")
    tokenizer = translating.tokenizer()
    names = [f"mine/s{n}" for n in range(train)]
    names.sort(key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).digest())
    found, have = [], 0
    for name in names:
        number = int(name.removeprefix("mine/s"))
        tokenizer.src_lang, tokenizer.tgt_lang = source, target
        texts = [translating.SENTENCES[NAMES[tag]][number] for tag in (source, target)]
        both = tokenizer(texts[0], text_target=texts[1])
        size = len(both["input_ids"]) + len(both["labels"])
        if have + size > tokens:
            break
        have += size
        found.append((name, both["input_ids"], both["labels"]))
    return sorted(found, key=lambda each: (len(each[2]), len(each[1]), each[0]))


@pytest.mark.parametrize("way", [WAY, BACK, "hau_Latn>swh_Latn"])
@pytest.mark.parametrize("tokens", [5000, 90])
def test_the_blocks_are_those_of_the_definition(tmp_path, way, tokens):
    folder = translating.written(tmp_path / "text")
    blocks = drawn(folder, (way,), tokens=tokens).blocks[way]
    expected = slow_pairs(way, tokens)

    assert len(blocks.ids_BT) == len(expected)
    assert (len(expected) == 4) == (tokens == 5000) and len(expected) > 1
    assert blocks.source is not None
    for row, (_, source, labels) in enumerate(expected):
        there_S = blocks.source.there_BS[row]
        assert blocks.source.ids_BS[row][there_S].tolist() == source
        assert there_S.sum() == len(source)
        # language, text, end: the text counts, and nothing else
        assert blocks.source.ids_BS[row][blocks.source.counted_BS[row]].tolist() == source[1:-1]
        assert blocks.ids_BT[row, : len(labels)].tolist() == [2, *labels[:-1]]
        assert blocks.ids_BT[row][blocks.counted_BT[row]].tolist() == labels[1:-1]


def test_special_tokens_count_when_asked_and_padding_never(tmp_path):
    folder = translating.written(tmp_path / "text")
    blocks = drawn(folder, (WAY,), count_special=True).blocks[WAY]

    assert blocks.source is not None
    assert blocks.source.counted_BS.equal(blocks.source.there_BS)
    for row, (_, _, labels) in enumerate(slow_pairs(WAY, 5000)):
        assert blocks.counted_BT[row].sum() == len(labels)


def test_a_language_stands_for_both_its_directions_and_the_same_sentences(tmp_path):
    found = drawn(translating.written(tmp_path / "text"), ("sw", "ha"))

    assert list(found.blocks) == [WAY, BACK, "eng_Latn>hau_Latn", "hau_Latn>eng_Latn"]
    rows = found.manifest["languages"]
    assert len({row["ids"] for row in rows.values()}) == 1
    assert all(row["pairs"] == row["blocks"] == 4 for row in rows.values())
    assert rows[WAY]["tokens"] == rows[BACK]["source_tokens"]
    assert list(drawn(tmp_path / "text", ()).blocks) == [
        "eng_Latn>hau_Latn",
        "hau_Latn>eng_Latn",
        WAY,
        BACK,
    ]


def test_only_train_text_is_read_and_test_text_is_dropped_with_its_pair(tmp_path):
    """The second English train sentence is a test sentence of Swahili's pair too."""
    same = [*translating.SENTENCES["en"][:-1], translating.SENTENCES["en"][1]]
    folder = translating.written(tmp_path / "text", en=same)

    found = drawn(folder, (WAY,))

    assert found.manifest["languages"][WAY]["pairs"] == 3
    words = [each["words"] for each in found.manifest["findings"]]
    assert any("lines of the train text that are in the test text too" in each for each in words)


def test_pairs_that_are_too_long_or_have_no_other_side_are_named(tmp_path):
    folder = translating.written(tmp_path / "text")
    with (folder / "sw.jsonl").open("a") as file:
        file.write(json.dumps(translating.record(9, "peke yake")) + "\n")

    found = drawn(folder, (WAY,), length=17)

    assert 0 < found.manifest["languages"][WAY]["pairs"] < 4
    told = {each["what"]: each["words"] for each in found.manifest["findings"]}
    assert "pairs have a side longer than 17 tokens, and are left out" in told["long pairs"]
    assert "1 of 5 train sentences have no eng_Latn of the same id" in told["unpaired"]


def test_text_without_pairs_is_one_error_that_says_what_is_needed(tmp_path):
    folder = translating.written(tmp_path / "text", test=0)
    rows = [translating.record(n + 50, f"moja {n}") for n in range(3)]
    (folder / "sw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(BadCorpus, match=r"have no pairs .* is calibrated on parallel text: give"):
        drawn(folder, (WAY,))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corpus": "self"}, "calibrated on parallel text: corpus self is for decoders"),
        ({"corpus": "translation:embedded"}, "corpus translation:embedded is for decoders"),
        ({"languages": ("yor_Latn",)}, "has no token for yor_Latn"),
    ],
)
def test_what_is_for_decoders_is_refused(options, words):
    asked: dict[str, Any] = {"languages": ("sw",), **options}
    with pytest.raises(BadSetting, match=words):
        draw(translating.opened(), CalibrationSettings(**asked))


def test_a_decoder_is_asked_for_no_direction():
    opened = Opened("llama", pico.model(), pico.tokenizer(), torch.float32)
    with pytest.raises(BadSetting, match=r"en>sw is a direction of translation, and llama reads"):
        draw(opened, CalibrationSettings(languages=("en>sw",)))


def test_another_source_is_another_text(tmp_path):
    one = drawn(translating.written(tmp_path / "a"), (WAY,))
    changed = ["wter is life", *translating.SENTENCES["en"][1:]]
    other = drawn(translating.written(tmp_path / "b", en=changed), (WAY,))

    assert text_hash(one.blocks) != text_hash(other.blocks)


LABELS = torch.tensor([[7, 8, 9, 1], [5, 1, -100, -100]])


@pytest.mark.parametrize(
    ("family", "shift"),
    [
        ("t5", lambda model, x: model._shift_right(x)),
        ("m2m_100", lambda _, x: m2m_shift(x, 2, 1)),
        ("marian", lambda _, x: marian_shift(x, 2, 1)),
        ("mbart", lambda _, x: mbart_shift(x, 2)),
    ],
)
def test_decoders_read_labels_as_transformers_shifts_them(family, shift):
    model = pico.model(family)

    found = decoder_ids(model, LABELS)

    assert torch.equal(found, shift(model, LABELS.clone()))
    assert not model.get_decoder()._forward_pre_hooks


@pytest.mark.parametrize("propagate", ["dense", "compressed"])
def test_a_run_is_told_by_direction_and_the_same_on_disk_as_in_memory(tmp_path, propagate):
    opened = translating.opened()
    opened.model.save_pretrained(tmp_path / "m")
    opened.tokenizer.save_pretrained(tmp_path / "m")
    model, folder = str(tmp_path / "m"), str(translating.written(tmp_path / "text"))
    common: dict[str, Any] = {"corpus": folder, "languages": "sw,ha", "tokens": 90, "length": 60}
    options: dict[str, Any] = {"method": "sparsegpt", "pattern": "0.5", "propagate": propagate}

    told = commands.prune(
        model, out=tmp_path / "a", mixture="only:sw>en", offload=True, **common, **options
    )

    rows = {row["language"]: row["share"] for row in told.rows}
    assert rows.keys() == {WAY, BACK, "eng_Latn>hau_Latn", "hau_Latn>eng_Latn"}
    assert rows[BACK] == 1
    again = commands.prune(model, out=tmp_path / "b", mixture="only:sw>en", **common, **options)
    weights = [(tmp_path / each / "model" / "model.safetensors").read_bytes() for each in "ab"]
    assert weights[0] == weights[1]
    assert [row["predicted_damage"] for row in again.rows] == [
        row["predicted_damage"] for row in told.rows
    ]
    loaded = type(opened.model).from_pretrained(tmp_path / "a" / "model")
    assert loaded.lm_head.weight is loaded.model.shared.weight  # tied as before
    assert torch.equal(loaded.lm_head.weight, opened.model.lm_head.weight)


@needs_data
def test_real_parallel_text_has_pairs_in_every_language():
    found = drawn(f"{DATA}/text?src!=wikipedia", ("sw", "ha"), length=400)

    assert all(row["pairs"] for row in found.manifest["languages"].values())
