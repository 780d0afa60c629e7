"""A store: written by a decoder, sifted, labelled as the teacher labels, read as any text is."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from labelling import NAMES, OF_TEXTS, OF_WORDS, TOPICS, folder, head
from running import refusal

from babelpress import commands
from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals import _spoken
from babelpress.models.open import open_model
from babelpress.runs import synthetic
from babelpress.runs.synthetic import Asked, write
from babelpress.system.files import check_hashes, read_json
from babelpress.text import self_written
from babelpress.text.corpus import open_corpus
from babelpress.text.labelled import open_labelled

pytestmark = pytest.mark.usefixtures("one_thread")
LINES = [
    "the rain falls on the town",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "children play in the yard",
    "the rain falls on the town",
    "no",
    "the market opens at dawn today",
    "a tall tree fell on the road",
]
ASKED = Asked(("en",), 64, 32, 0, 0.95, 8, 0.0)


@pytest.fixture
def says(monkeypatch, model):
    """What the writer writes, in bytes as the pico tokenizer has them."""
    tokenizer = open_model(str(model)).tokenizer

    def write_lines(_model, _tokenizer, tags, **_):
        return {tag: tokenizer(LINES, add_special_tokens=False)["input_ids"] for tag in tags}

    monkeypatch.setattr(self_written, "write", write_lines)
    monkeypatch.setattr(_spoken, "instead", lambda *_: "")
    return str(model)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "topics"
    return folder(place, head(OF_TEXTS, "xlm_roberta", TOPICS))


def test_a_store_is_a_corpus_with_a_manifest_of_what_was_dropped(says, tmp_path):
    found = write(says, tmp_path / "store", ASKED)

    corpus = open_corpus(str(tmp_path / "store"))
    assert [each.text for each in corpus.documents("eng_Latn", "train")] == [
        LINES[place] for place in (0, 2, 5, 6)
    ]
    assert corpus.says() == ()
    assert found["languages"]["eng_Latn"] == {
        "written": 7,
        "kept": 4,
        "dropped": {"short": 1, "repeats": 1, "foreign": 0, "duplicate": 1, "known": 0},
    }
    written = read_json(tmp_path / "store" / "manifest.json")
    assert written == found
    check_hashes(tmp_path / "store", written["files"])
    assert set(written["files"]) == {"eng_Latn/train.parquet"}


def test_labels_and_their_probabilities_are_what_the_teacher_says(says, teacher, tmp_path):
    write(says, tmp_path / "store", ASKED, teacher=teacher, task="topic")

    opened = open_model(teacher)
    table = pq.read_table(tmp_path / "store" / "eng_Latn" / "train.parquet").to_pylist()
    assert len(table) == 4
    # An id in two languages would be a translation.
    assert [row["index_id"] for row in table] == [f"written/eng_Latn/{n}" for n in range(4)]
    for row in table:
        ids = opened.tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            expected = opened.model(torch.tensor([[0, *ids, 1]])).logits[0].softmax(0)
        assert row["probabilities"] == pytest.approx(expected.tolist(), rel=1e-4)
        assert row["category"] == TOPICS[int(expected.argmax())]
    read = open_labelled("topic", str(tmp_path / "store")).documents("eng_Latn", "train")
    assert {(each.words[0], each.labels[0]) for each in read} <= {
        (row["text"], row["category"]) for row in table
    }


def test_words_get_a_label_each(says, tmp_path):
    model = folder(tmp_path / "names", head(OF_WORDS, "bert", NAMES))

    write(says, tmp_path / "store", ASKED, teacher=model, task="ner")

    table = pq.read_table(tmp_path / "store" / "eng_Latn" / "train.parquet").to_pylist()
    for row in table:
        assert len(row["tokens"]) == len(row["ner_tags"]) == len(row["probabilities"])
        for label, soft in zip(row["ner_tags"], row["probabilities"], strict=True):
            assert label == NAMES[int(np.argmax(soft))]
            assert sum(soft) == pytest.approx(1, abs=1e-5)
    assert table[0]["tokens"] == LINES[0].split()


def test_what_the_teacher_is_unsure_of_is_dropped(says, teacher, tmp_path):
    everything = write(says, tmp_path / "all", ASKED, teacher=teacher, task="topic")
    table = pq.read_table(tmp_path / "all" / "eng_Latn" / "train.parquet").to_pylist()
    best = sorted(max(row["probabilities"]) for row in table)
    middle = (best[1] + best[2]) / 2

    asked = Asked(("en",), 64, 32, 0, 0.95, 8, middle)
    found = write(says, tmp_path / "sure", asked, teacher=teacher, task="topic")

    row = found["languages"]["eng_Latn"]
    assert (row["kept"], row["dropped"]["unsure"]) == (2, 2)
    assert row["confidence"] == pytest.approx(np.mean(best[2:]), abs=1e-3)
    assert everything["languages"]["eng_Latn"]["dropped"]["unsure"] == 0


def test_text_of_tests_is_kept_apart(says, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    (text / "en.jsonl").write_text(
        f'{{"text": "{LINES[2]}", "split": "test"}}\n{{"text": "{LINES[5]}", "split": "train"}}\n',
        encoding="utf-8",
    )
    asked = Asked(("en",), 64, 32, 0, 0.95, 8, 0.0, evaluation=str(text))

    found = write(says, tmp_path / "store", asked)

    assert found["languages"]["eng_Latn"]["dropped"]["known"] == 1
    assert LINES[2] not in str(pq.read_table(tmp_path / "store" / "eng_Latn" / "train.parquet"))


def test_a_store_is_written_alike_by_the_same_seed(model, tmp_path):
    """With the real writer, which says nothing that makes sense."""
    asked = Asked(("sw",), 96, 24, 3, 0.95, 1, 0.0)
    for name in ("one", "two"):
        found = write(str(model), tmp_path / name, asked)

    one, two = (
        (tmp_path / name / "swh_Latn" / "train.parquet").read_bytes() for name in ("one", "two")
    )
    assert one == two
    row = found["languages"]["swh_Latn"]
    assert row["written"] == row["kept"] + sum(row["dropped"].values())


def test_the_command_shows_what_was_kept_and_how_to_go_on(says, teacher, tmp_path):
    outcome = commands.COMMANDS["write"](
        says, out=tmp_path / "store", languages="en", teacher=teacher, task="topic", confidence=0,
        least=8,
    )  # fmt: skip

    (row,) = outcome.rows
    assert (row["written"], row["kept"], row["duplicate"], row["unsure"]) == (7, 4, 1, 0)
    assert outcome.says[-1] == (
        "next: babelpress distill MODEL --layers N --task topic --corpus DATA --store "
        f"{tmp_path / 'store'} --out run"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"teacher": "x"}, "name both with --teacher and --task, or neither"),
        ({"task": "topic"}, "name both with --teacher and --task, or neither"),
        ({"confidence": 0.9}, "--confidence 0.9 is that of labels, which a teacher gives"),
    ],
)
def test_a_label_has_a_teacher_and_a_task_before_anything_is_opened(tmp_path, given, words):
    asked = {"out": tmp_path / "store", "languages": "sw", **given}

    assert words in refusal(BadSetting, commands.COMMANDS["write"], "no-such-model", **asked)


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(says, teacher, tmp_path):
    bert = folder(tmp_path / "bert", head(OF_WORDS, "bert", NAMES))
    out = tmp_path / "store"
    strict = Asked(("en",), 64, 32, 0, 0.95, 400, 0.0)
    cases = [
        ((says, out, ASKED), {"teacher": teacher}, BadSetting, "name both with --teacher and"),
        ((says, out, ASKED), {"teacher": bert, "task": "topic"}, BadModel, "labels whole texts"),
        ((bert, out, ASKED), {}, BadSetting, "reads text on both sides and cannot write any"),
        ((says, out, strict), {}, BadCorpus, "nothing is left of 7 texts in eng_Latn: short 7."),
    ]
    for given, more, kind, words in cases:
        assert words in refusal(kind, synthetic.write, *given, **more)
        assert not out.exists()
