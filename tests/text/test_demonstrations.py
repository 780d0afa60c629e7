"""Demonstrations of translation as calibration text, against the definition as a plain loop."""

import hashlib
import json
import os
from itertools import chain

import pico
import pytest
import torch

from babelpress.commands import checks
from babelpress.errors import BadCorpus, BadSetting
from babelpress.models.open import Opened
from babelpress.moments.calibrate import calibrate
from babelpress.moments.store import Store
from babelpress.sweeps.merge import merge
from babelpress.text import records as records_room
from babelpress.text.corpus import open_corpus, open_source
from babelpress.text.demonstrations import build
from babelpress.text.draw import draw
from babelpress.text.settings import CalibrationSettings
from babelpress.text.shots import CONDITIONS, Shots, shots_of

DATA = os.environ.get("BABELPRESS_DATA")
needs_data = pytest.mark.skipif(
    DATA is None, reason="BABELPRESS_DATA is not set: no folder with text/<language>.jsonl.gz"
)
BOS, EOS, PAD = range(3)
SIZE = {"tokens": 700, "length": 200, "seed": 3}
EXAMPLES = {
    "en": [f"Number {n} is a good one." for n in range(30)],
    "sw": [f"Namba {n} ni nzuri{'!' * (n % 3)}" for n in range(30)],
}


def record(number, text, split="train"):
    return {"id": number, "src": "s", "doc": f"d{number // 3}", "split": split, "text": text}


def records(texts):
    return [record(n, text) for n, text in enumerate(texts)]


def write(folder, **by_language):
    folder.mkdir(exist_ok=True)
    for name, rows in by_language.items():
        lines = "".join(f"{json.dumps(each)}\n" for each in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "text", **{name: records(each) for name, each in EXAMPLES.items()})


def built(folder, condition, number=3, tags=("swh_Latn",), **options):
    asked = shots_of(f"{condition}:{folder}?shots={number}")
    assert asked is not None
    corpus = open_source(str(folder))
    return build(asked, corpus, pico.tokenizer(), tags, **{**SIZE, **options})


def rows_of(blocks):
    """The ids of every block without BOS and padding."""
    assert (blocks.ids_BT[:, 0] == BOS).all()
    return [[each for each in row[1:] if each != PAD] for row in blocks.ids_BT.tolist()]


def said(ids):
    """The halves of shots that a block shows."""
    text = str(pico.tokenizer().decode(ids))
    assert text.endswith("<eos>")
    return text.removesuffix("<eos>").split("<eos>")


def slow_samples(condition, *, number, tokens, length, seed):
    """The definition for Swahili, one character a token, in plain loops."""
    order = sorted(range(30), key=lambda n: hashlib.sha256(f"{seed}\ns/{n}".encode()).digest())
    own = {n: f"Swahili: {EXAMPLES['sw'][n]}\n" for n in order}
    english = {n: f"English: {EXAMPLES['en'][n]}\n" for n in order}
    chosen, have = [], 0
    while len(order) >= number:
        group, order = order[:number], order[number:]
        have += 1 + min(sum(len(own[n] + english[n]) for n in group), length - 1)
        if have > tokens:
            break
        chosen.append(group)
    samples = []
    for place, group in enumerate(chosen):
        other = group if condition == "translation" else chosen[(place + 1) % len(chosen)]
        sample = ""
        for n, m in zip(group, other, strict=True):
            if condition == "monolingual":
                sample += own[n]
            elif place % 2 == 0:
                sample += own[n] + english[m]
            else:
                sample += english[m] + own[n]
        samples.append(sample[: length - 1])
    return samples


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("length", [60, 150])
def test_the_blocks_are_those_of_the_definition(folder, condition, number, length):
    result = built(folder, condition, number, length=length)

    blocks = result.blocks["swh_Latn"]
    expected = slow_samples(condition, number=number, tokens=700, length=length, seed=3)
    found = [str(pico.tokenizer().decode(ids)).replace("<eos>", "\n") for ids in rows_of(blocks)]
    assert found == expected
    assert blocks.ids_BT.shape == (len(expected), 1 + max(map(len, expected)))
    assert torch.equal(blocks.counted_BT, blocks.ids_BT > PAD)
    row = result.manifest["languages"]["swh_Latn"]
    assert row["pairs"] == number * len(expected)
    assert row["tokens"] == sum(len(each.replace("\n", "")) for each in expected)


@pytest.mark.parametrize("evaluation", [False, True])
def test_every_file_is_read_once(folder, tmp_path, monkeypatch, evaluation):
    other = write(tmp_path / "test", sw=[record(90, "Kitu kingine.", "test")])
    apart = open_corpus(str(other)) if evaluation else None
    read = []

    def reading(path):
        read.append(path.relative_to(tmp_path).as_posix())
        return once(path)

    once = records_room.read
    monkeypatch.setattr(records_room, "read", reading)

    built(folder, "translation", tags=("swh_Latn", "eng_Latn"), evaluation=apart)

    assert sorted(read) == [
        *(["test/sw.jsonl"] if evaluation else []),
        *(
            "text/en.jsonl",
            "text/sw.jsonl",
        ),
    ]


def test_all_conditions_show_the_same_sentences_in_the_same_order(folder):
    shown = {}
    for condition in CONDITIONS:
        result = built(folder, condition)
        halves = [each for ids in rows_of(result.blocks["swh_Latn"]) for each in said(ids)]
        shown[condition] = [each for each in halves if each.startswith("Swahili: ")]
        ids = result.manifest["languages"]["swh_Latn"]["ids"]
        assert ids == built(folder, "translation").manifest["languages"]["swh_Latn"]["ids"]

    assert len(shown["translation"]) == 9
    assert shown["translation"] == shown["monolingual"] == shown["shuffled"]
    assert built(folder, "translation", seed=4).blocks["swh_Latn"].ids_BT.tolist() != (
        built(folder, "translation").blocks["swh_Latn"].ids_BT.tolist()
    )


def test_shuffled_pairs_have_the_same_english_and_none_in_a_sample_of_its_sentence(folder):
    def english(condition):
        samples = [said(ids) for ids in rows_of(built(folder, condition).blocks["swh_Latn"])]
        return [[half for half in each if half.startswith("English: ")] for each in samples]

    paired, torn = english("translation"), english("shuffled")

    assert sorted(chain(*paired)) == sorted(chain(*torn))
    assert all(not {*one} & {*other} for one, other in zip(paired, torn, strict=True))


def test_both_directions_come_in_turn_and_english_is_shown_alone(folder):
    blocks = built(folder, "translation", tags=("swh_Latn", "eng_Latn")).blocks

    first, second = (said(ids) for ids in rows_of(blocks["swh_Latn"])[:2])
    assert [half.partition(":")[0] for half in first] == ["Swahili", "English"] * 3
    assert [half.partition(":")[0] for half in second] == ["English", "Swahili"] * 3
    of_english = [half for ids in rows_of(blocks["eng_Latn"]) for half in said(ids)]
    assert {half.partition(":")[0] for half in of_english} == {"English"}
    assert len(of_english) > len(rows_of(blocks["eng_Latn"]))


def test_what_a_language_shows_hangs_on_no_other_language(folder):
    write(folder, yo=records(EXAMPLES["sw"][:20]))
    alone = built(folder, "translation").blocks["swh_Latn"]

    together = built(folder, "translation", tags=("yor_Latn", "eng_Latn", "swh_Latn")).blocks

    assert torch.equal(alone.ids_BT, together["swh_Latn"].ids_BT)


def test_text_that_spells_a_mark_is_text(tmp_path):
    marked = [f"neno <eos> na <pad> {n}" for n in range(8)]
    folder = write(tmp_path, sw=records(marked), en=records([f"word {n}" for n in range(8)]))

    blocks = built(folder, "translation", 2).blocks["swh_Latn"]

    assert (blocks.ids_BT == EOS).sum(1).tolist() == [4] * len(blocks.ids_BT)
    assert pico.tokenizer().decode(blocks.ids_BT[0][blocks.counted_BT[0]]).count("<eos>") == 2


def test_special_tokens_count_when_asked_and_padding_never(folder):
    blocks = built(folder, "translation", count_special=True).blocks["swh_Latn"]

    assert torch.equal(blocks.counted_BT, blocks.ids_BT != PAD)
    assert not blocks.counted_BT.all()


def test_a_tokenizer_without_an_end_of_text_ends_a_half_with_a_new_line(folder):
    tokenizer = pico.tokenizer()
    tokenizer.eos_token = None
    asked = Shots("translation", "", 2)

    result = build(
        asked, open_source(str(folder)), tokenizer, ["swh_Latn"], tokens=700, length=200, seed=3
    )

    halves = str(tokenizer.decode(rows_of(result.blocks["swh_Latn"])[0])).split("\n")
    assert [half.partition(":")[0] for half in halves] == ["Swahili", "English"] * 2 + [""]


# ---- what is paired, and what is kept apart -------------------------------------------------


def everything(result, tag="swh_Latn"):
    return " ".join(half for ids in rows_of(result.blocks[tag]) for half in said(ids))


def found(result, what, tag="swh_Latn"):
    """How many of what the audit found in a language; 0 where it found nothing."""
    rows = result.manifest["findings"]
    counts = [each["count"] for each in rows if (each["what"], each["language"]) == (what, tag)]
    return sum(counts)


def test_only_train_text_is_shown_and_test_text_is_dropped_with_its_pair(tmp_path):
    rows = {name: records(each[:9]) for name, each in EXAMPLES.items()}
    rows["sw"][0]["split"] = rows["en"][1]["split"] = "test"
    # the same as test text: of Swahili in its own language, of English in English
    rows["sw"][3]["text"] = f"{EXAMPLES['sw'][0]}  "
    rows["en"][4]["text"] = EXAMPLES["en"][1]
    folder = write(tmp_path, **rows)

    for condition in CONDITIONS:
        result = built(folder, condition, 1)

        shown = everything(result)
        assert [n for n in range(9) if f"Namba {n} " in shown] == [2, 5, 6, 7, 8]
        assert result.manifest["languages"]["swh_Latn"]["pairs"] == 5
        assert found(result, "text in both") == 1
        assert found(result, "text in both", "eng_Latn") == 1
        assert found(result, "unpaired") == 2  # of 7: no English but test text


def test_another_evaluation_is_kept_apart_too_and_a_shared_document_is_an_error(tmp_path, folder):
    judge = write(tmp_path / "judge", en=[record(7, EXAMPLES["en"][7], "test") | {"doc": "x"}])

    result = built(folder, "translation", 1, evaluation=open_corpus(str(judge)), tokens=4000)

    assert "Namba 7 " not in everything(result) and "Namba 8 " in everything(result)
    write(judge, en=[record(7, "Something else.", "test")])
    with pytest.raises(BadCorpus, match="eng_Latn: documents in both calibration"):
        built(folder, "translation", evaluation=open_corpus(str(judge)))


def test_sentences_without_an_id_or_english_are_left_out_and_counted(tmp_path):
    rows = {name: records(each[:8]) for name, each in EXAMPLES.items()}
    del rows["sw"][0]["id"]
    rows["sw"][1]["id"] = 99
    rows["en"] += [record(2, "Said twice.")]
    folder = write(tmp_path, **rows)

    result = built(folder, "translation", 2, tags=("swh_Latn", "eng_Latn"))

    assert result.manifest["languages"]["swh_Latn"]["pairs"] == 6
    assert found(result, "unpaired") == 2
    assert found(result, "unpaired", "eng_Latn") == 1
    assert "Said twice" not in everything(result)


def test_too_little_text_is_told_and_samples_that_are_cut_are_counted(tmp_path, folder):
    result = built(folder, "translation", 4, tokens=4000, length=1000)

    assert 0 < found(result, "short") < 4000
    assert result.manifest["languages"]["swh_Latn"]["pairs"] == 28  # of 30, in whole samples
    assert found(result, "cut") == 0
    assert found(built(folder, "translation"), "short") == 0
    assert found(built(folder, "translation", length=100), "cut") == 7
    assert found(built(folder, "monolingual", length=100), "cut") == 0


def test_a_language_without_train_text_is_one_error(tmp_path):
    rows = [record(n, text, "test") for n, text in enumerate(EXAMPLES["sw"][:9])]
    folder = write(tmp_path, sw=rows, en=records(EXAMPLES["en"][:9]))

    with pytest.raises(BadCorpus, match=r"has no train text in swh_Latn; it has [^.]*\.$"):
        built(folder, "translation")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_language_without_pairs_is_an_error(tmp_path, condition):
    rows = records(EXAMPLES["sw"][:9])
    folder = write(tmp_path, sw=rows, en=[{**each, "id": each["id"] + 100} for each in rows])

    with pytest.raises(BadCorpus) as error:
        built(folder, condition)

    assert str(error.value).startswith("swh_Latn has 0 pairs with eng_Latn")
    assert "the same id" in str(error.value)


def test_a_single_sample_cannot_be_shuffled(folder):
    with pytest.raises(BadCorpus, match="swh_Latn has one sample only"):
        built(folder, "shuffled", 1, tokens=60, length=60)

    assert built(folder, "translation", 1, tokens=60, length=60).blocks


def test_a_corpus_without_english_is_refused_before_anything_is_read(tmp_path):
    folder = write(tmp_path, sw=records(EXAMPLES["sw"]))

    for refusing in (
        lambda: built(folder, "monolingual"),
        lambda: checks.calibration(CalibrationSettings(corpus=f"monolingual:{folder}")),
    ):
        with pytest.raises(BadCorpus, match=r"has no eng_Latn, which demonstrations show"):
            refusing()


# ---- how it is asked for --------------------------------------------------------------------


def test_what_is_asked_for_is_read_off_the_name():
    assert shots_of("translation:embedded") == Shots("translation", "embedded", 4)
    asked = shots_of("shuffled:hub:org/set@main?src=flores&shots=2&lang!=en")
    assert asked == Shots("shuffled", "hub:org/set@main?src=flores&lang!=en", 2)
    assert asked is not None
    assert asked.of("hub:org/set@abc?src=flores") == ("shuffled:hub:org/set@abc?src=flores&shots=2")
    assert shots_of(asked.of("dir")) == Shots("shuffled", "dir", 2)
    assert [shots_of(each) for each in ("embedded", "hub:a/b", "self", "dir?shots=2")] == [None] * 4


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("translation:", "names no corpus of parallel sentences"),
        ("translation:self", "names no corpus of parallel sentences"),
        ("shuffled:translation:embedded", "names no corpus of parallel sentences"),
        ("translation:embedded?shots=0", "is no number of shots"),
        ("translation:embedded?shots=two", "is no number of shots"),
        ("translation:embedded?shots=2&shots=3", "is no number of shots"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_with_an_example(corpus, words):
    with pytest.raises(BadSetting, match=words) as error:
        CalibrationSettings(corpus=corpus)

    assert "for example" in str(error.value) and "\n" not in str(error.value)


def test_demonstrations_are_text_to_calibrate_on_and_nothing_else():
    for refusing in (open_corpus, checks.text):
        with pytest.raises(BadCorpus, match="Name the corpus itself: embedded"):
            refusing("translation:embedded?shots=2")
    apart = CalibrationSettings(corpus="translation:embedded", evaluation="shuffled:embedded")
    with pytest.raises(BadCorpus, match="Name the corpus itself"):
        checks.calibration(apart)

    tags = checks.calibration(CalibrationSettings(corpus="translation:embedded"))

    assert "swh_Latn" in tags and "eng_Latn" in tags
    assert open_source("translation:embedded").languages() == tags


# ---- moments --------------------------------------------------------------------------------


def opened():
    return Opened("pico", pico.model(), pico.tokenizer(), torch.float32)


def asked(folder, condition, **options):
    size = {"languages": ("swh_Latn", "eng_Latn"), "tokens": 700, "length": 128, "seed": 3}
    return CalibrationSettings(corpus=f"{condition}:{folder}?shots=2", **{**size, **options})


def test_moments_know_condition_shots_and_pairs(tmp_path, folder):
    stores = {
        condition: calibrate(opened(), asked(folder, condition), tmp_path / condition, gram=False)
        for condition in CONDITIONS
    }

    identities = [store.identity for store in stores.values()]
    assert [each["condition"] for each in identities] == [*CONDITIONS]
    assert {each["shots"] for each in identities} == {2}
    assert len({each["pairs"] for each in identities}) == 1
    assert len({each["text"] for each in identities}) == 3
    for condition, store in stores.items():
        row = store.manifest["calibration"]["languages"]["swh_Latn"]
        assert store.manifest["calibration"]["corpus"] == f"{condition}:{folder}?shots=2"
        seen = next(iter(store.load(0).values()))["swh_Latn"]
        assert seen.n == row["tokens"]
    with pytest.raises(Exception, match=r"differ in .*condition \(translation there, shuffled now"):
        calibrate(opened(), asked(folder, "shuffled"), tmp_path / "translation", gram=False)


def test_what_pads_a_block_leaves_moments_as_they_are(folder):
    """Other ids in place of the padding: the sums are, bit for bit, the same."""
    from babelpress.models.walk import Walk
    from babelpress.moments.gather import gather_dense
    from babelpress.text.token_blocks import TokenBlocks

    blocks = draw(opened(), asked(folder, "translation")).blocks["swh_Latn"]
    other_BT = blocks.ids_BT.masked_fill(blocks.ids_BT == PAD, 77)
    assert not torch.equal(other_BT, blocks.ids_BT)

    def moments(ids_BT):
        text = {"swh_Latn": TokenBlocks("swh_Latn", ids_BT, blocks.counted_BT)}
        return [each for _, each in gather_dense(Walk(opened().model), text, gram=True)]

    for one, other in zip(moments(blocks.ids_BT), moments(other_BT), strict=True):
        for site, seen in one.items():
            for name, tensor in seen["swh_Latn"].tensors().items():
                assert torch.equal(tensor, other[site]["swh_Latn"].tensors()[name]), name


@pytest.mark.parametrize("other", ["eng_Latn", "yor_Latn"])
def test_parts_of_one_language_each_make_what_all_make_together(tmp_path, folder, other):
    write(folder, yo=records(EXAMPLES["sw"][:20]))
    whole = asked(folder, "shuffled", languages=("swh_Latn", other))
    together = calibrate(opened(), whole, tmp_path / "whole", gram=False)
    parts = []
    for tag in whole.languages:
        one = whole.model_copy(update={"languages": (tag,)})
        parts.append(calibrate(opened(), one, tmp_path / tag, gram=False).folder)

    merged = merge(whole, parts, tmp_path / "merged", gram=False)

    for key in ("condition", "shots", "pairs", "languages"):
        assert merged.identity[key] == together.identity[key]
    assert merged.manifest["calibration"] == together.manifest["calibration"]
    assert Store.open(tmp_path / "merged").manifest["files"] == together.manifest["files"]


def test_another_english_is_another_text(folder):
    before = built(folder, "monolingual").manifest
    write(folder, en=records([f"{text}." for text in EXAMPLES["en"]]))

    after = built(folder, "monolingual").manifest

    assert before["fingerprint"] != after["fingerprint"]
    assert before["languages"]["swh_Latn"]["ids"] == after["languages"]["swh_Latn"]["ids"]


@needs_data
def test_real_parallel_text_gives_whole_samples_in_every_language():
    corpus = f"{DATA}/text?src=ntrex,tico19"
    asked = shots_of(f"translation:{corpus}")
    assert asked is not None
    tags = ["swh_Latn", "hin_Deva"]

    result = build(
        asked, open_source(corpus), pico.tokenizer(), tags, tokens=8000, length=4000, seed=0
    )

    for tag in tags:
        row = result.manifest["languages"][tag]
        assert row["pairs"] >= 4 and row["pairs"] % 4 == 0
        assert all(len(said(ids)) == 8 for ids in rows_of(result.blocks[tag]))
    first = [said(rows_of(result.blocks[tag])[0])[1::2] for tag in tags]
    assert first[0] == first[1]  # the English of the same ids in both
