"""Choices against one choice at a time, and tasks in the layouts that they are published in."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pico
import pyarrow
import pytest
import torch
from huggingface_hub.hf_api import DatasetInfo
from pyarrow import parquet
from transformers import PreTrainedTokenizerFast

from babelpress import evals
from babelpress.cli import main
from babelpress.errors import BadCorpus, BadModel, BadSetting, NotFinite, UnknownName
from babelpress.evals._choices import Said, first, said
from babelpress.evals._items import Item, Option, open_items
from babelpress.evals._prompts import COLUMNS, OURS
from babelpress.evals._tasks import TASKS
from babelpress.evals.choice import baselines, measure, texts
from babelpress.judge import scores, verdicts
from babelpress.models.open import open_model
from babelpress.report.data import rows
from babelpress.report.finding import finding
from babelpress.report.gather import report_input
from babelpress.system.progress import silent
from babelpress.text import readers
from babelpress.text.languages import find

XCOPA = [
    ("The ground was wet.", "It had rained.", "The sun was out.", "cause", 0),
    ("She dropped the cup.", "It sang.", "It broke.", "effect", 1),
    ("The goats ran off!", "Somebody had left the gate open.", "They slept.", "cause", 0),
    ("He ate nothing all day.", "He grew hungry.", "He grew a beard.", "effect", 0),
    ("The boat stood still.", "There was a wind.", "There was no wind.", "cause", 1),
]
SWAHILI = [
    ("Ardhi ilikuwa na maji.", "Mvua ilikuwa imenyesha.", "Jua liliwaka.", "cause", 0),
    ("Alidondosha kikombe.", "Kiliimba.", "Kilivunjika.", "effect", 1),
]


def written(path, rows):
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def xcopa(rows):
    names = ("premise", "choice1", "choice2", "question", "label")
    return [
        {**dict(zip(names, row, strict=True)), "idx": place, "changed": False}
        for place, row in enumerate(rows)
    ]


@pytest.fixture
def folder(tmp_path):
    """XCOPA as in its repository: a folder a language, a file a split, its code in both names."""
    place = tmp_path / "xcopa"
    written(place / "it" / "test.it.jsonl", xcopa(XCOPA))
    written(place / "it" / "val.it.jsonl", xcopa(XCOPA[::-1]))
    written(place / "sw" / "test.sw.jsonl", xcopa(SWAHILI))
    return place


@pytest.fixture(scope="module")
def tokenizer():
    return pico.tokenizer()


@pytest.fixture(scope="module")
def llama():
    model = pico.model()
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def mini():
    """The embedded model, whose tokens are parts of words: 80 MB that many tests can share.

    In float32, where the same tokens alone and among others give the same numbers.
    """
    return open_model("babel-mini", dtype="float32")


def item(name, before, choices, answer=0):
    befores = [before] * len(choices) if isinstance(before, str) else before
    options = tuple(
        Option(one, each, each.strip()) for one, each in zip(befores, choices, strict=True)
    )
    return Item(name, options, answer)


ITEMS = [
    item("a", "The sky is", [" blue", " a table for two", " e"]),
    item("b", "A", ["n apple", " pear tree"], 1),
    item("c", "two words and a longer beginning than the others have,", [" x", " yz"]),
    item("d", ["the cat ", "a dog and "], ["ran away", "ran away"], 1),
]


def slow(model, tokenizer, option, start):
    """Log-likelihood of the tokens from `start`, one token and one forward pass at a time."""
    text = option.before + option.scored
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = 0.0
    for place in range(start, len(ids)):
        with torch.no_grad():
            piece = torch.tensor([[tokenizer.bos_token_id, *ids[:place]]])
            found += torch.log_softmax(model(piece).logits[0, -1].double(), -1)[ids[place]].item()
    return found, len(ids) - start


def told(model, tokenizer, items, window=128, kept=None):
    return said(
        model,
        tokenizer,
        "eng_Latn",
        items,
        window=window,
        memory_mb=64,
        kept=kept,
        what="choice",
        progress=silent,
    )


# ---- scores --------------------------------------------------------------------------------


def test_every_choice_is_scored_as_one_token_after_another(llama, tokenizer):
    found = told(llama, tokenizer, ITEMS)

    for each, one in zip(found, ITEMS, strict=True):
        expected = [
            slow(llama, tokenizer, option, len(option.before.encode())) for option in one.options
        ]
        assert each.likelihoods == pytest.approx([value for value, _ in expected], abs=1e-4)
        assert each.tokens == tuple(size for _, size in expected)


def test_of_words_that_share_a_token_with_what_is_before_the_whole_token_is_scored(mini):
    """Differences are those of whole texts; a border inside a token would score something else."""
    model, tokenizer = mini.model, mini.tokenizer
    items = [
        item("m", "Ninapenda ki", [" nzuri", "tabu", "ti", "swahili na kiingereza"]),
        item("n", "Leo ni siku", [" njema", " mbaya sana"]),
    ]
    (begun,) = tokenizer(["Ninapenda ki"], add_special_tokens=False)["input_ids"]
    (whole,) = tokenizer(["Ninapenda kitabu"], add_special_tokens=False)["input_ids"]
    assert whole[: len(begun)] != begun  # else nothing is shared, and nothing is shown

    found = told(model, tokenizer, items)

    for each, one in zip(found, items, strict=True):
        whole = [slow(model, tokenizer, option, 0)[0] for option in one.options]
        for value, other in zip(each.likelihoods[1:], whole[1:], strict=True):
            assert value - each.likelihoods[0] == pytest.approx(other - whole[0], abs=1e-3)


@pytest.mark.parametrize("normalise", ["none", "tokens", "bytes"])
def test_hits_are_those_of_the_likeliest_choice_by_its_length(mini, folder, normalise):
    items = texts(str(folder)).documents("ita_Latn", "test")[:3]
    expected = []
    for each in items:
        (before,) = {option.before for option in each.options}
        befores = mini.tokenizer(before, add_special_tokens=False)["input_ids"]
        values = []
        for option in each.options:
            value, tokens = slow(mini.model, mini.tokenizer, option, len(befores))
            size = {"none": 1, "tokens": tokens, "bytes": len(option.choice.encode())}[normalise]
            values.append(value / size)
        expected.append(float(values.index(max(values)) == each.answer))

    tally = measure(
        mini.model, mini.tokenizer, {"ita_Latn": items}, window=256, normalise=normalise
    )["ita_Latn"]

    assert tally.numerator_D.tolist() == expected
    assert tally.denominator_D.tolist() == [1.0] * 3
    assert tally.documents == tuple(each.id for each in items)


def test_lengths_weigh_by_tokens_and_by_bytes_of_the_choice():
    one = Said(item("x", "é", [" ab", " dé"]), (-6.0, -4.5), (3, 1))

    assert one.scores("none") == [-6.0, -4.5]
    assert one.scores("tokens") == [-2.0, -4.5]
    assert one.scores("bytes") == [-3.0, -1.5]
    assert first([-2.0, -1.0, -1.0]) == 1


def test_what_is_longer_than_a_window_loses_the_same_beginning_in_every_choice(llama, tokenizer):
    before, choices = "0123456789", ["ab", "abcdef"]

    (found,) = told(llama, tokenizer, [item("x", before, choices)], window=9)

    short = [Option(before[7:], each, each) for each in choices]  # 16 tokens less 9
    expected = [slow(llama, tokenizer, option, 3) for option in short]
    assert found.likelihoods == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert found.tokens == (2, 6)
    with pytest.raises(BadSetting, match=r"choice 2 of x .* 6 tokens, more than a window of 5"):
        told(llama, tokenizer, [item("x", before, choices)], window=5)


def test_without_bos_and_eos_a_choice_needs_something_before_it(llama, tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)

    (found,) = told(llama, bare, [item("x", "ab", ["cd", "e"])], window=3)

    ids = torch.tensor([bare("abcd", add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logs = torch.log_softmax(llama(ids).logits[0].double(), -1)
    expected = logs[1, ids[0, 2]] + logs[2, ids[0, 3]]
    assert found.likelihoods[0] == pytest.approx(expected.item(), abs=1e-4)
    with pytest.raises(BadModel, match="x begins with a choice"):
        told(llama, bare, [item("x", "", ["a", "b"])])


def test_a_choice_without_a_token_is_an_error(llama, tokenizer):
    with pytest.raises(BadCorpus, match="choice 2 of x in eng_Latn has no token"):
        told(llama, tokenizer, [item("x", "ab", ["c", ""])])
    with pytest.raises(BadSetting, match="room for no choice"):
        told(llama, tokenizer, ITEMS, window=0)
    with pytest.raises(BadSetting, match="normalise is 'chars'"):
        measure(llama, tokenizer, {"eng_Latn": ITEMS}, window=9, normalise="chars")


def test_a_score_that_is_no_number_names_the_item(tokenizer):
    model: Any = pico.model()
    model.get_input_embeddings().weight.data[tokenizer("q")["input_ids"][-1]] = float("nan")

    with pytest.raises(NotFinite, match="'c, choice 2' in eng_Latn"):
        told(model, tokenizer, [ITEMS[0], item("c", "x", [" fine", " quite"])])


# ---- tasks ---------------------------------------------------------------------------------


def only(place, task, tag, **options):
    return open_items(
        task, str(place), **{"prompts": "english", "templates": ""} | options
    ).documents(tag, "test")


def shown(one):
    return [each.before + "|" + each.scored for each in one.options]


def test_xcopa_is_read_from_its_test_split_with_connectives(folder):
    items = {each.id: each for each in only(folder, "xcopa", "ita_Latn")}

    assert len(items) == 5
    assert shown(items["xcopa/0"]) == [
        "The ground was wet because| it had rained.",
        "The ground was wet because| the sun was out.",
    ]
    assert shown(items["xcopa/1"])[0] == "She dropped the cup so| it sang."
    assert [items[f"xcopa/{place}"].answer for place in range(5)] == [0, 1, 0, 0, 1]
    own = {each.id: each for each in only(folder, "xcopa", "swh_Latn", prompts="own")}
    assert shown(own["xcopa/0"])[0] == "Ardhi ilikuwa na maji kwa sababu| mvua ilikuwa imenyesha."


def test_the_first_items_are_the_same_ones_in_every_language_and_not_of_one_label(tmp_path):
    """SIB-200's files are sorted by label: the first forty would all be about science."""
    for code in ("eng_Latn", "swh_Latn"):
        rows = [(n, TASKS["sib200"].labels[n // 30], f"{code} {n}") for n in range(210)]
        sib200(tmp_path / code, rows if code == "eng_Latn" else rows[::-1])

    english, swahili = (only(tmp_path, "sib200", tag)[:40] for tag in ("eng_Latn", "swh_Latn"))

    assert [each.id for each in english] == [each.id for each in swahili]
    assert len({each.answer for each in english}) == 7


def sib200(place, rows):
    place.mkdir(parents=True, exist_ok=True)
    lines = ["index_id\tcategory\ttext", *("\t".join(map(str, row)) for row in rows)]
    (place / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (place / "train.tsv").write_text("\n".join([*lines[:1], "9\tsports\tno"]) + "\n")


def test_topics_and_feelings_are_words_of_the_template(tmp_path):
    sib200(tmp_path / "sib" / "yor_Latn", [(7, "sports", 'He said "goal"'), (8, "travel", "Go")])
    (tmp_path / "afri" / "hau").mkdir(parents=True)
    (tmp_path / "afri" / "hau" / "test.tsv").write_text(
        "tweet\tlabel\nna gode\tpositive\nA'a\tneutral\n"
    )

    items = {each.id: each for each in only(tmp_path / "sib", "sib200", "yor_Latn")}
    feelings = {each.id: each for each in only(tmp_path / "afri", "afrisenti", "hau_Latn")}

    assert len(items["sib200/7"].options) == 7
    assert items["sib200/7"].options[3].choice == "sports" and items["sib200/7"].answer == 3
    assert shown(items["sib200/7"])[0] == 'He said "goal" The topic is| science and technology'
    assert items["sib200/8"].answer == 1
    assert [each.choice for each in feelings["afrisenti/hau_Latn/1"].options] == [
        *("positive", "neutral", "negative")
    ]
    assert [feelings[f"afrisenti/hau_Latn/{n}"].answer for n in (1, 2)] == [0, 1]


def winograd(language, sentence, tokens, pronoun, at, candidates, right):
    spans = [[each, [0, 1], [each], place == right] for place, each in enumerate(candidates)]
    parts = (tokens, [pronoun, [at, at + 1], [pronoun]], spans)
    return "\t".join([language, "original", "?", sentence, *map(json.dumps, parts)])


def test_the_one_table_of_xwinograd_puts_candidates_where_its_pronoun_was(tmp_path):
    quoted = 'Ann said "no" to Eve as she left.'
    twice = "She said that that was lost."
    lines = [
        winograd("en", twice, twice[:-1].split(), "that", 3, ["Ann", "a bag"], 1),
        winograd(
            "en",
            quoted,
            ["Ann", "said", "``", "no", "''", "to", "Eve", "as", "she"],
            "she",
            8,
            ["Ann", "Eve"],
            1,
        ),
        winograd("ru", "Она увидела их.", ["Она", "увидела", "их."], "их.", 2, ["а", "б"], 1),
        winograd("jp", "彼は彼女を見た。", ["彼", "は", "彼女"], "彼女", 2, ["犬", "猫"], 0),
    ]
    (tmp_path / "dataset.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert texts(str(tmp_path)).task == "xwinograd"

    found = {each.id: each for each in only(tmp_path, "xwinograd", "eng_Latn", prompts="own")}
    english = found["xwinograd/eng_Latn/2"]
    (japanese,) = only(tmp_path, "xwinograd", "jpn_Jpan")

    assert shown(found["xwinograd/eng_Latn/1"])[1] == "She said that a bag| was lost."
    assert shown(english) == [
        'Ann said "no" to Eve as Ann| left.',
        'Ann said "no" to Eve as Eve| left.',
    ]
    assert english.answer == 1
    assert shown(japanese) == ["彼は犬|を見た。", "彼は猫|を見た。"]
    assert japanese.id == "xwinograd/jpn_Jpan/1"
    (russian,) = only(tmp_path, "xwinograd", "rus_Cyrl")  # nothing follows that could be scored
    assert [each.replace("| ", " |") for each in shown(russian)] == [
        "Она увидела |а",
        "Она увидела |б",
    ]


def test_a_line_that_is_not_of_xwinograd_is_named(tmp_path):
    (tmp_path / "dataset.tsv").write_text("en\ttoo\tshort\n")

    with pytest.raises(BadCorpus, match=r"dataset.tsv, line 1 is no line of XWinograd"):
        texts(str(tmp_path), task="xwinograd")


BELEBELE = {
    "link": "https://x.org/1",
    "question_number": 2,
    "flores_passage": "Goats eat grass. ",
    "question": "What do goats eat?",
    **{f"mc_answer{n}": each for n, each in enumerate(["Tin", "Grass", "Cake", "Air"], 1)},
    "correct_answer_num": "2",
    "dialect": "eng_Latn",
    "ds": "2023-05-03",
}
STORY = {
    "story_id": "s-1",
    **{f"input_sentence_{n}": f"Sentence {n}." for n in range(1, 5)},
    "sentence_quiz1": "It ended.",
    "sentence_quiz2": "It went on.",
    "answer_right_ending": 2,
}
XNLI = {"premise": "All goats sleep.", "hypothesis": "Some sleep.", "label": 0}
WINOGRAD = {
    "sentence": "Ann saw Eve as _ left.",
    "option1": "Ann",
    "option2": "Eve",
    "answer": "2",
}
# As the hub's own parquet of each is laid out: refs/convert/parquet for those in other formats.
HUB = {
    "xcopa": ("et/test-00000-of-00001.parquet", "est_Latn", xcopa(XCOPA)[0]),
    "xwinograd": ("jp/test/0000.parquet", "jpn_Jpan", WINOGRAD),
    "sib200": (
        "swh_Latn/test/0000.parquet",
        "swh_Latn",
        {"index_id": 3, "category": "health", "text": "Kula."},
    ),
    "afrisenti": ("hau/test/0000.parquet", "hau_Latn", {"tweet": "na gode", "label": "negative"}),
    "belebele": ("eng_Latn/test/0000.parquet", "eng_Latn", BELEBELE),
    "xstorycloze": ("sw/eval/0000.parquet", "swh_Latn", STORY),
    "xnli": ("sw/test-00000-of-00001.parquet", "swh_Latn", XNLI),
}
WRITTEN = {
    "xcopa": ("The ground was wet because| it had rained.", 0),
    "xwinograd": ("Ann saw Eve as Ann| left.", 1),
    "sib200": ("Kula. The topic is| science and technology", 4),
    "afrisenti": ("na gode The feeling is| positive", 2),
    "belebele": ("Goats eat grass. Question: What do goats eat? Answer:| Tin", 1),
    "xstorycloze": ("Sentence 1. Sentence 2. Sentence 3. Sentence 4.| It ended.", 1),
    "xnli": ("All goats sleep., right?| Yes, Some sleep.", 0),
}
every_task = pytest.mark.parametrize("task", TASKS)


def stored(root, task):
    """A task as its data set lies on the hub, with a train split that is never read."""
    path, tag, row = HUB[task]
    train = {"test": "train", "eval": "train"}
    other = path.replace("test", "train").replace("eval", "train")
    assert other != path and train
    for each, value in ((path, row), (other, {key: [] for key in row})):
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        columns = {key: [one] if each == path else value[key] for key, one in row.items()}
        parquet.write_table(pyarrow.table(columns), root / each)
    return path, other, tag


@every_task
def test_a_task_is_read_from_a_folder_of_the_hubs_layout(tmp_path, task):
    _, _, tag = stored(tmp_path, task)

    (one,) = only(tmp_path, task, tag)

    assert (shown(one)[0], one.answer) == WRITTEN[task]


@every_task
def test_a_task_is_read_from_the_hub_by_its_columns(tmp_path, monkeypatch, task):
    path, other, tag = stored(tmp_path, task)
    read = []

    class Hub:
        def dataset_info(self, name, revision=None):
            read.append((name, revision))
            siblings = [{"rfilename": each} for each in (path, other, "README.md")]
            return DatasetInfo(id=name, sha="c0ffee", siblings=siblings, tags=[])

    def address(_dataset, _revision, each):
        read.append(each)
        return str(tmp_path / each)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(readers, "_address", address)
    name, _, revision = TASKS[task].hub.partition("@")

    items = open_items(task, f"hub:{TASKS[task].hub}", prompts="english", templates="")
    (one,) = items.documents(tag, "test")

    assert (shown(one)[0], one.answer) == WRITTEN[task]
    assert items.name == f"hub:{name}@c0ffee"
    assert read == [(name, revision or None), path]  # and not the other split


def test_what_is_no_item_is_named_with_its_line(tmp_path):
    def fault(task, row):
        path, tag, whole = HUB[task]
        written(tmp_path / task / f"{path.partition('/')[0]}.jsonl", [{**whole, **row}])
        with pytest.raises(BadCorpus) as caught:
            only(tmp_path / task, task, tag)
        return str(caught.value)

    assert "line 1 has no column 'premise' with a text or a number" in fault(
        "xcopa", {"premise": None}
    )
    assert "line 1: its label is 'x', which is no whole number" in fault("xcopa", {"label": "x"})
    assert "line 1: its right answer is none of its 2 choices" in fault("xcopa", {"label": 2})
    assert "its category is 'war', which is none of science/tech" in fault(
        "sib200", {"category": "war"}
    )
    assert "no _ where the pronoun was" in fault("xwinograd", {"sentence": "she left"})
    assert "right answer is none of its 4" in fault("belebele", {"correct_answer_num": "0"})


def test_two_items_of_one_name_are_an_error(tmp_path):
    rows = [*xcopa(XCOPA[:1]), *xcopa(XCOPA[:1])]
    written(tmp_path / "it.jsonl", rows)

    with pytest.raises(BadCorpus, match="line 2: xcopa/0 is there twice in ita_Latn"):
        only(tmp_path, "xcopa", "ita_Latn")


@every_task
def test_which_task_it_is_is_seen_by_its_columns(tmp_path, task):
    _, _, tag = stored(tmp_path, task)

    items = open_items("", str(tmp_path), prompts="english", templates="")

    assert items.task == task
    assert items.found() == {"task": task}
    assert items.documents(tag, "test") == only(tmp_path, task, tag)


def test_a_data_set_of_the_hub_is_known_by_its_name_and_others_by_their_columns(
    tmp_path, monkeypatch
):
    path, other, tag = stored(tmp_path, "belebele")
    read = []

    class Hub:
        def dataset_info(self, name, revision=None):
            siblings = [{"rfilename": each} for each in (path, other)]
            return DatasetInfo(id=name, sha="c0ffee", siblings=siblings, tags=[str(revision)])

    def address(_dataset, _revision, each):
        read.append(each)
        return str(tmp_path / each)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(readers, "_address", address)

    known = open_items("", "hub:facebook/belebele@main", prompts="english", templates="")
    assert (known.task, read) == ("belebele", [])
    copied = open_items("", "hub:someone/read-and-answer", prompts="english", templates="")
    assert (copied.task, read) == ("belebele", [path])
    assert copied.documents(tag, "test") == known.documents(tag, "test")


def test_columns_of_no_task_or_of_two_are_said_with_the_nearest(tmp_path):
    written(tmp_path / "none" / "sw.jsonl", [{"premise": "a", "hypothesis": "b", "gold": 1}])
    written(tmp_path / "two" / "sw.jsonl", [{**XNLI, **xcopa(XCOPA)[0]}])
    written(tmp_path / "train" / "sw" / "train.jsonl", [XNLI])

    with pytest.raises(BadCorpus) as caught:
        texts(str(tmp_path / "none"))
    assert str(caught.value) == (
        f"{tmp_path}/none/sw.jsonl, line 1 has the columns of no task: premise, hypothesis, gold. "
        f"xnli, which is nearest, has label too. Name the data set of one of {', '.join(TASKS)} "
        "with --corpus."
    )
    with pytest.raises(BadCorpus, match=r"columns of xcopa and xnli\. Say .* task=xcopa"):
        texts(str(tmp_path / "two"))
    assert texts(str(tmp_path / "two"), task="xnli").task == "xnli"
    with pytest.raises(BadCorpus, match="train has no test item"):
        texts(str(tmp_path / "train"))


def test_what_there_is_not_is_said_with_what_there_is(folder, tmp_path):
    with pytest.raises(UnknownName, match=r"no task is called 'xcop'\. Did you mean 'xcopa'"):
        texts(str(folder), task="xcop")
    with pytest.raises(BadCorpus, match=r"no task with choices is inside the .*hub:camb.*/xcopa"):
        texts("embedded")
    with pytest.raises(BadCorpus, match=r"no xnli is a folder nowhere.*hub:facebook/xnli"):
        texts("nowhere", task="xnli")
    with pytest.raises(BadCorpus, match=r"has no xcopa in yor_Latn\. It has ita_Latn, swh_Latn"):
        texts(str(folder)).require(["yor_Latn"])
    (folder / "notes.jsonl").write_text("{}\n")
    assert "notes.jsonl is not named after a language" in texts(str(folder)).says()[0]


# ---- templates -----------------------------------------------------------------------------


def table(path, *rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return str(path)


def test_our_templates_are_whole_and_every_task_has_one_in_english():
    with OURS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    for row in rows:
        assert None not in row and None not in row.values()
        assert row["task"] in TASKS
        assert row["language"] == "*" or find(row["language"]).tag == row["language"]
    keys = [(row["task"], row["language"], row["kind"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {row["task"] for row in rows if row["language"] in ("eng_Latn", "*")} == set(TASKS)
    for task in TASKS:
        texts_of = open_items(
            task, str(OURS.parent.parent / "embedded" / "everyday"), prompts="english", templates=""
        )
        assert texts_of.languages()


def test_templates_of_a_table_come_before_ours(folder, tmp_path):
    path = table(
        tmp_path / "t.csv", ["xcopa", "sw", "cause", "{premise}. Kwa nini?", "\n{choice}", ""]
    )

    items = {x.id: x for x in only(folder, "xcopa", "swh_Latn", prompts="own", templates=path)}

    assert (
        shown(items["xcopa/0"])[0] == "Ardhi ilikuwa na maji. Kwa nini?|\nmvua ilikuwa imenyesha."
    )
    assert "kwa hiyo" in shown(items["xcopa/1"])[0]


def test_a_language_without_a_template_says_where_one_goes(tmp_path):
    written(tmp_path / "qu.jsonl", xcopa(XCOPA))

    assert len(only(tmp_path, "xcopa", "quy_Latn")) == 5
    with pytest.raises(
        BadSetting, match=r"no template of xcopa in quy_Latn for (cause|effect)\. Add"
    ):
        only(tmp_path, "xcopa", "quy_Latn", prompts="own")
    with pytest.raises(BadSetting, match=r"prompts is 'native'\. It is english or own"):
        only(tmp_path, "xcopa", "quy_Latn", prompts="native")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["xcopa", "en", "cause", "{premis} x", "{choice}", ""], r"row 2 has \{premis\}, which a"),
        (["xcopa", "en", "cause", "{premise!r}", "{choice}", ""], r"has \{premise\}, which"),
        (["xcopa", "en", "cause", "{premise", "{choice}", ""], "row 2 is no template"),
        (["xcopa", "en", "cause", "{premise}", "{choice}", "a|b"], "2 labels. xcopa needs none"),
        (
            ["xcopa", "nowhere", "cause", "{premise}", "{choice}", ""],
            "row 2: no language is called",
        ),
        (["xcopa", "en", "cause"], "row 2 is no template. Its columns must be"),
    ],
)
def test_a_template_that_is_none_is_refused(folder, tmp_path, row, words):
    with pytest.raises(BadSetting, match=words):
        only(folder, "xcopa", "ita_Latn", templates=table(tmp_path / "t.csv", row))


def test_labels_are_one_for_each_answer(tmp_path):
    sib200(tmp_path / "en", [(1, "sports", "x")])
    few = table(tmp_path / "t.csv", ["sib200", "en", "", "{text}", " {choice}", "a|b"])

    with pytest.raises(BadSetting, match=r"2 labels\. sib200 needs one for each of science/tech"):
        only(tmp_path, "sib200", "eng_Latn", templates=few)
    with pytest.raises(BadSetting, match=r"none.csv is no table of templates"):
        only(tmp_path, "sib200", "eng_Latn", templates=str(tmp_path / "none.csv"))


# ---- as an evaluation ----------------------------------------------------------------------


def test_guessing_and_the_answer_that_is_right_most_often():
    items = [item("a", "x", ["1", "2", "3", "4"], 2), item("b", "x", ["1", "2"], 1)]

    assert baselines([*items, item("c", "x", ["1", "2"], 1)]) == {
        "chance": pytest.approx((0.25 + 0.5 + 0.5) / 3),
        "majority": pytest.approx(2 / 3),
    }


def test_what_it_declares():
    assert evals.facts("choice") == ("accuracy", "accuracy of choices", False, False)
    assert evals.is_binary("choice") and not evals.is_binary("bits_per_byte")
    assert evals.options("choice") == {
        "normalise": "none",
        "task": "",
        "prompts": "english",
        "templates": "",
    }


def test_the_command_line_scores_compares_and_says_what_guessing_finds(
    folder, model, tmp_path, capsys
):
    out, other = tmp_path / "out", tmp_path / "other"
    written(folder / "it" / "test.it.jsonl", xcopa(XCOPA * 8))
    asked = ["eval", str(model), "--on", "choice", "--corpus", str(folder), "--languages", "it"]

    assert main([*asked, "--out", str(out), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert main([*asked, "--out", str(other)]) == 0
    table_shown = capsys.readouterr().out

    assert (row["chance"], row["majority"], row["documents"]) == (0.5, 0.6, 40)
    assert row["value"] == row["numerator"] / 40
    assert "chance" in table_shown and "majority" in table_shown and "0.600" in table_shown
    assert scores.baselines(out, "choice") == {"ita_Latn": {"chance": 0.5, "majority": 0.6}}
    assert verdicts.floors(out, "choice", str(folder)) == {"ita_Latn": 0.6}
    (kept,) = (out / "tallies" / "likelihoods").glob("*.json")
    assert len(json.loads(kept.read_text())["likelihoods"]) == 40
    # a model that was never trained does no better than guessing
    assert main(["compare", str(out), str(other), "--on", "choice", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    (language,) = [row for row in found if row["verdict"]]
    assert (language["at_chance"], language["verdict"]) == (True, "at chance")
    assert main(["gate", str(other), "--against", str(out), "--on", "choice"]) == 2
    err = capsys.readouterr().err
    assert "no language can be judged. the dense model does no better than chance" in err
    assert "in 1 of 1 languages" in err
    report = report_input(out, [other], on="choice")
    assert "by language: Italian 0.500 and 0.600." in report.notes[0]
    assert "no better than chance, or one answer always, in 1 of 1" in report.notes[1]
    assert "no better than chance in any language" in finding(report.pressed, rows(report))


def test_an_option_that_is_given_as_it_is_anyway_is_no_other_one(folder, model, tmp_path, capsys):
    asked = ["eval", str(model), "--on", "choice", "--corpus", str(folder), "--languages", "it"]
    asked += ["--documents", "4", "--out", str(tmp_path / "o")]
    assert main(asked) == 0
    capsys.readouterr()

    assert main([*asked, "--option", "task=xcopa", "--option", "normalise=none"]) == 0

    assert "set aside" not in capsys.readouterr().err
    assert not (tmp_path / "o" / "tallies" / "aside").exists()


def test_a_prompt_that_changes_is_scored_anew(folder, model, tmp_path, capsys):
    path = table(tmp_path / "t.csv", ["xcopa", "it", "cause", "{premise} (1)", " {choice}", ""])
    asked = ["eval", str(model), "--on", "choice", "--corpus", str(folder), "--languages", "it"]
    asked += [
        "--out",
        str(tmp_path / "o"),
        "--option",
        "prompts=own",
        "--option",
        f"templates={path}",
    ]
    assert main(asked) == 0
    table(Path(path), ["xcopa", "it", "cause", "{premise} (2)", " {choice}", ""])

    assert main(asked) == 0

    assert len(list((tmp_path / "o" / "tallies" / "likelihoods").glob("*.json"))) == 2
    capsys.readouterr()


# ---- real data -----------------------------------------------------------------------------

REAL = {"xcopa": 11, "xwinograd": 6, "sib200": 48, "afrisenti": 13}


@pytest.mark.parametrize("task", REAL)
def test_the_published_data_is_read_whole(task):
    data = os.environ.get("BABELPRESS_DATA")
    if not data:
        pytest.skip("BABELPRESS_DATA names no folder with the published tasks")
    items = open_items("", f"{data}/tasks/{task}", prompts="english", templates="")

    assert items.task == task

    assert len(items.languages()) == REAL[task]
    assert items.says() == ()
    wanted = {
        "xcopa": {"swh_Latn": 500},
        "xwinograd": {"eng_Latn": 2325, "jpn_Jpan": 959, "zho_Hans": 16},
        "sib200": {"yor_Latn": 204},
        "afrisenti": {"swh_Latn": 748, "tir_Ethi": 2000},
    }[task]
    found = {tag: items.documents(tag, "test") for tag in wanted}
    assert {tag: len(each) for tag, each in found.items()} == wanted
    assert all(0 < baselines(each)["majority"] < 1 for each in found.values())
    assert np.mean([len(each.options) for each in found[next(iter(wanted))]]) >= 2
