"""Labelled text of tasks: formats of words and of tables, splits, hub data sets, what is wrong."""

import os
from pathlib import Path

import huggingface_hub
import pyarrow
import pytest
from datasets import ClassLabel, Features, Sequence, Value
from huggingface_hub.hf_api import DatasetInfo
from pyarrow import parquet

from babelpress.errors import BadCorpus, UnknownName
from babelpress.text import conll, readers
from babelpress.text.labelled import AFRISENTI, MASAKHANER, SIB200, TASKS, in_order, open_labelled

DATA = os.environ.get("BABELPRESS_DATA", "")
SPACED = "Amina B-PER\nalifika O\nDar B-LOC\nes I-LOC\n\n# O\n#habari O\n"
NUMBERED = (
    "# newdoc id = a\n# sent_id = a-1\n# text = Ann O\n1\tAnn\tB-PER\t-\t-\n2\t#\tO\t-\t-\n\n"
    "# sent_id = a-2\n1\tOslo\tB-LOC\t-\t-\n"
)
TOPICS = 'index_id\tcategory\ttext\n7\thealth\tKula "vizuri".\n3\ttravel\tTwende.\n'
TWEETS = "tweet\tlabel\nna gode\tpositive\nba dadi\tnegative\nto\tneutral\n"


def written(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


def refusal(function, *given) -> str:
    with pytest.raises(BadCorpus) as caught:
        function(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sentences(tmp_path, text, name="sw.txt"):
    (tmp_path / name).write_text(text)
    return list(conll.read(tmp_path / name))


def test_words_and_labels_are_read_with_a_space_or_with_tabs_between(tmp_path):
    first, second = sentences(tmp_path, SPACED)

    assert first == (1, "", ("Amina", "alifika", "Dar", "es"), ("B-PER", "O", "B-LOC", "I-LOC"))
    assert second == (6, "", ("#", "#habari"), ("O", "O"))
    assert [each[1:] for each in sentences(tmp_path, NUMBERED, "en.iob2")] == [
        ("a-1", ("Ann", "#"), ("B-PER", "O")),
        ("a-2", ("Oslo",), ("B-LOC",)),
    ]
    older = "-DOCSTART- -X- O O\n\nU.N. NNP I-NP I-ORG\nhere RB O O\n"
    assert sentences(tmp_path, older, "en.conll")[0][2:] == (("U.N.", "here"), ("I-ORG", "O"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a O\nb\n", r"line 2 has 1 columns\. A word and its label have 2"),
        ("a O\n\nb\tx\tO\t-\t-\n", r"line 3 has 5 columns, and the lines before it have 2"),
        ("a O\nb PER\n", r"line 2: the label of 'b' is 'PER'\. It is O, or B- or I-"),
    ],
)
def test_a_line_with_another_number_of_columns_or_no_label_is_named(tmp_path, text, says):
    with pytest.raises(BadCorpus, match=says):
        sentences(tmp_path, text)


def test_names_come_from_folders_of_languages_by_any_alias(tmp_path):
    place = written(
        tmp_path,
        {
            "swa/train.txt": SPACED,
            "swa/dev.txt": SPACED,
            "en/en_pud-ud-test.iob2": NUMBERED,
            "en/LICENSE.txt": "free",
        },
    )

    found = open_labelled("ner", place)

    assert found.languages("train") == ["swh_Latn"]
    assert found.languages() == ["eng_Latn"]
    assert found.says() == ()
    assert {each.id for each in found.documents("eng_Latn", "test")} == {
        "ner/eng_Latn/a-1",
        "ner/eng_Latn/a-2",
    }
    train = {each.id: each for each in found.documents("swh_Latn", "train")}
    assert train["ner/swh_Latn/train-1"].words == ("Amina", "alifika", "Dar", "es")
    assert train["ner/swh_Latn/train-2"].text == "#\tO\n#habari\tO"


def test_tables_are_read_by_the_columns_of_their_data_sets(tmp_path):
    place = written(tmp_path / "topics", {"sw/train.tsv": TOPICS, "sw/dev.tsv": TOPICS})
    topics = open_labelled("topic", place).documents("swh_Latn", "train")

    assert sorted((each.id, each.words, each.labels) for each in topics) == [
        ("topic/3", ("Twende.",), ("travel",)),
        ("topic/7", ('Kula "vizuri".',), ("health",)),
    ]
    place = written(tmp_path / "tweets", {"hau/test.tsv": TWEETS})
    found = open_labelled("", place, ("topic", "sentiment"))
    assert found.found() == {"task": "sentiment"}
    assert sorted(each.labels[0] for each in found.documents("hau_Latn", "test")) == [
        "negative",
        "neutral",
        "positive",
    ]


def test_a_language_without_a_dev_file_keeps_a_tenth_of_its_train_texts_apart(tmp_path):
    rows = "".join(f"{n}\thealth\ttext {n}\n" for n in range(400))
    place = written(tmp_path, {"sw/train.tsv": f"index_id\tcategory\ttext\n{rows}"})
    found = open_labelled("topic", place)

    train, valid = (
        {each.id for each in found.documents("swh_Latn", split)} for split in ("train", "valid")
    )

    assert found.held_out("swh_Latn")
    assert not train & valid
    assert len(train | valid) == 400
    assert len(valid) == 40


def test_train_rows_are_never_scored_and_a_language_without_any_is_named(tmp_path):
    place = written(
        tmp_path,
        {
            "sw/train.tsv": TWEETS,
            "ha/test.tsv": TWEETS,
            "ha/train.tsv": "tweet\tlabel\n",
            "yo.tsv": TWEETS,
        },
    )
    found = open_labelled("sentiment", place)

    assert found.languages() == ["hau_Latn", "yor_Latn"]  # what says no split is not train
    assert refusal(found.require, ["hau_Latn", "swh_Latn", "yor_Latn"], "train") == (
        f"{place} has no train rows of sentiment in hau_Latn, yor_Latn. It has swh_Latn. Leave the "
        "others out of --languages."
    )
    assert "no test rows" in refusal(found.documents, "swh_Latn", "test")


CLASSES = ClassLabel(names=["O", "B-X", "I-X"])
NER = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(CLASSES)})


def stored(path: Path, columns, features=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns)
    if features is not None:
        table = table.cast(features.arrow_schema)
    parquet.write_table(table, path)


def hub(monkeypatch, root, *names):
    class Hub:
        def dataset_info(self, name, **_):
            siblings = [{"rfilename": each} for each in (*names, "README.md")]
            return DatasetInfo(id=name, sha="c0ffee", siblings=siblings, tags=[])

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(readers, "_address", lambda _dataset, _revision, each: str(root / each))


@pytest.mark.parametrize("says", [True, False])
def test_numbers_of_a_hub_data_set_are_labels_by_the_names_that_it_gives_them(
    tmp_path, monkeypatch, says
):
    paths = ["yor/train/0000.parquet", "yor/validation/0000.parquet"]
    columns = {"tokens": [["Ade", "wa"], ["o"]], "ner_tags": [[1, 0], [2]]}
    for path in paths:
        stored(tmp_path / path, columns, NER if says else None)
    hub(monkeypatch, tmp_path, *paths)
    local = open_labelled("ner", str(tmp_path)).documents("yor_Latn", "train")

    found = open_labelled("ner", f"hub:{TASKS['ner'].hub}")

    assert found.name == "hub:masakhane/masakhaner2@c0ffee"
    by_words = {each.words: each.labels for each in found.documents("yor_Latn", "train")}
    names = ("B-X", "I-X") if says else ("B-PER", "I-PER")  # else those of MasakhaNER 2.0
    assert by_words == {("Ade", "wa"): (names[0], "O"), ("o",): (names[1],)}
    assert {each.words: each.labels for each in local} == by_words
    if says:
        assert found.says() == ()
        return
    (line,) = found.says()
    assert line.startswith(
        "hub:masakhane/masakhaner2@c0ffee has numbers for labels and no names of them: they were "
        "taken as masakhane/masakhaner2 has them, 0 O, 1 B-PER, 2 I-PER,"
    )
    assert open_labelled("ner", f"hub:{TASKS['ner'].hub}").says() == ()  # none was read yet


def test_topics_and_sentiments_are_read_from_the_hub(tmp_path, monkeypatch):
    topic, sentiment = "swh_Latn/test/0000.parquet", "hau/test/0000.parquet"
    stored(tmp_path / topic, {"index_id": [3], "category": ["health"], "text": ["Kula."]})
    label = Features({"tweet": Value("string"), "label": ClassLabel(names=list(AFRISENTI))})
    stored(tmp_path / sentiment, {"tweet": ["na gode"], "label": [2]}, label)
    hub(monkeypatch, tmp_path, topic)
    (one,) = open_labelled("topic", "hub:Davlan/sib200").documents("swh_Latn", "test")
    assert (one.id, one.words, one.labels) == ("topic/3", ("Kula.",), ("health",))

    hub(monkeypatch, tmp_path, sentiment)
    place = "hub:shmuhammad/AfriSenti-twitter-sentiment"
    (one,) = open_labelled("sentiment", place).documents("hau_Latn", "test")
    assert (one.words, one.labels) == (("na gode",), ("negative",))


def test_what_is_no_row_is_named_with_its_line(tmp_path):
    def fault(task, text):
        place = written(tmp_path, {"sw/test.jsonl": text})
        return refusal(open_labelled(task, place).documents, "swh_Latn", "test")

    words = '{"tokens": ["a", "b"], "ner_tags": ["O"]}\n'
    assert "line 1 has 2 tokens and 1 ner_tags. Give every" in fault("ner", words)
    assert "line 1: its label is 9, which names none." in fault(
        "ner", '{"tokens": ["a"], "ner_tags": [9]}\n'
    )
    assert "has the columns tweet, and topic needs text and category. Name the data set" in fault(
        "topic", '{"tweet": "a"}\n'
    )
    assert "line 2: its tweet is no text" in fault(
        "sentiment", '{"tweet": "a", "label": "x"}\n{"tweet": 3, "label": "x"}\n'
    )
    assert "line 1 has no text" in fault("sentiment", '{"tweet": " ", "label": "x"}\n')
    twice = '{"index_id": 1, "category": "x", "text": "a"}\n'
    assert "line 2: topic/1 is there twice" in fault("topic", twice * 2)


def test_what_is_no_labelled_text_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(UnknownName, match="no task is called 'pos'"):
        open_labelled("pos", str(tmp_path))
    with pytest.raises(BadCorpus, match=r"no labelled text is inside the package.*hub:masakhane/"):
        open_labelled("ner", "embedded")
    place = written(tmp_path, {"sw/test.tsv": "a\tb\n1\t2\n"})
    with pytest.raises(BadCorpus, match=r"has the columns a, b, which are those of no task: topic"):
        open_labelled("", place, ("topic", "sentiment"))


def test_labels_are_in_the_order_of_their_data_set_or_sorted():
    assert in_order("topic", ["travel", "health"]) == SIB200
    assert in_order("sentiment", ["sad", "glad"]) == ("glad", "sad")
    assert in_order("ner", ["O", "I-PER"]) == MASAKHANER
    assert in_order("ner", ["B-MISC", "I-ANY", "O"]) == ("O", "B-ANY", "I-ANY", "B-MISC", "I-MISC")


@pytest.mark.skipif(not DATA, reason="BABELPRESS_DATA names no folder of data sets")
def test_the_real_data_sets_are_read():
    root = Path(DATA) / "tasks"
    topics = open_labelled("topic", str(root / "sib200"))
    tweets = open_labelled("sentiment", str(root / "afrisenti"))
    names = open_labelled("ner", str(root / "uner_pud"))

    counts = [len(topics.documents("hau_Latn", split)) for split in ("train", "valid", "test")]
    assert counts == [701, 99, 204]
    assert len(tweets.documents("tso_Latn", "train")) == 804
    assert "gaz_Latn" not in tweets.languages("train")  # its train file has no row
    assert len(names.documents("eng_Latn", "test")) == 1000
