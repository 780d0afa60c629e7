import gzip
import json
import os
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pyarrow
import pytest
from huggingface_hub.errors import HFValidationError
from pyarrow import parquet

from babelpress.errors import BadCorpus
from babelpress.text import readers
from babelpress.text.corpus import EMBEDDED, open_corpus

DATA = os.environ.get("BABELPRESS_DATA")
needs_data = pytest.mark.skipif(
    DATA is None, reason="BABELPRESS_DATA is not set: no folder with text/<language>.jsonl.gz"
)


def record(number, doc, split, text, src="news"):
    return {"id": f"{src}/{number}", "src": src, "doc": doc, "split": split, "text": text}


THREE = [
    record(1, "a", "train", "one"),
    record(2, "b", "test", "two"),
    record(3, "a", "train", "three"),
    record(4, "a", "train", "four", src="bible"),
]


def jsonl(records):
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records).encode()


def folder(tmp_path, **files):
    for name, data in files.items():
        (tmp_path / name.replace("__", ".")).write_bytes(data)
    return open_corpus(str(tmp_path))


def test_a_document_is_all_records_of_equal_source_and_doc_in_order(tmp_path):
    corpus = folder(tmp_path, sw__jsonl=jsonl(THREE))

    train = corpus.documents("swh_Latn", "train")

    assert [(each.id, each.text) for each in train] == [
        ("news/a", "one\nthree"),
        ("bible/a", "four"),
    ]
    assert train[0].language == "swh_Latn" and train[0].src == "news" and train[0].split == "train"
    assert [each.text for each in corpus.documents("swh_Latn", "test")] == ["two"]
    assert corpus.documents("swh_Latn", "valid") == []


def test_sentences_are_records_and_name_their_document(tmp_path):
    """An id is of its source, so two sources may number alike; without one a record has none."""
    rows = [
        {"id": "7", "src": "news", "doc": "b", "split": "test", "text": "two"},
        {"id": "7", "split": "test", "text": "four"},
        {"src": "news", "doc": "c", "split": "test", "text": "one"},
        {"id": "8", "src": "news", "doc": "b", "split": "train", "text": "three"},
    ]
    corpus = folder(tmp_path, sw__jsonl=jsonl(rows))

    found = corpus.sentences("swh_Latn", "test")

    assert [(each.id, each.document, each.text) for each in found] == [
        ("news/7", "news/b", "two"),
        ("7", "7", "four"),
        ("", "news/c", "one"),
    ]


def test_every_kind_of_file_gives_the_same_documents(tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist(THREE), tmp_path / "swahili.parquet")
    texts = {}
    for tag, name, data in [
        ("yor_Latn", "yo.jsonl", jsonl(THREE)),
        ("hau_Latn", "hau_Latn.jsonl.gz", gzip.compress(jsonl(THREE), mtime=0)),
        ("amh_Ethi", "amh.jsonl", b"\xef\xbb\xbf" + jsonl(THREE).replace(b"\n", b"\r\n\r\n")),
    ]:
        (tmp_path / name).write_bytes(data)
        texts[tag] = None
    corpus = open_corpus(str(tmp_path))

    for tag in [*texts, "swh_Latn"]:
        texts[tag] = [(each.id, each.split, each.text) for each in corpus.documents(tag, "train")]

    assert corpus.languages() == ["amh_Ethi", "hau_Latn", "swh_Latn", "yor_Latn"]
    assert len(texts["swh_Latn"]) == 2
    assert all(each == texts["swh_Latn"] for each in texts.values())


def test_a_text_file_is_split_at_blank_lines_and_by_hash(tmp_path):
    blocks = [f"block {n}\nits second line" for n in range(2000)]
    corpus = folder(tmp_path, sw__txt=("\n\n \n".join(blocks) + "\n").encode())

    found = {split: corpus.documents("swh_Latn", split) for split in ("train", "valid", "test")}

    together = [document.text for documents in found.values() for document in documents]
    assert sorted(together) == sorted(blocks)
    assert 0.88 < len(found["train"]) / 2000 < 0.92
    assert 0.035 < len(found["valid"]) / 2000 < 0.065
    assert len({each.id for documents in found.values() for each in documents}) == 2000


def test_the_split_of_a_document_is_the_same_in_every_language(tmp_path):
    records = [{"doc": f"d{n}", "text": f"text {n}"} for n in range(300)]
    translated = [{"doc": f"d{n}", "text": f"maandishi {n}"} for n in reversed(range(300))]
    corpus = folder(tmp_path, en__jsonl=jsonl(records), sw__jsonl=jsonl(translated))

    for split in ("train", "valid", "test"):
        english = {each.id for each in corpus.documents("eng_Latn", split)}
        assert english == {each.id for each in corpus.documents("swh_Latn", split)}
        assert english


def test_equal_texts_without_a_name_stay_apart_and_in_one_split(tmp_path):
    corpus = folder(tmp_path, sw__jsonl=jsonl([{"text": f"text {n % 50}"} for n in range(100)]))

    found = [
        each for split in ("train", "valid", "test") for each in corpus.documents("swh_Latn", split)
    ]

    assert len({each.id for each in found}) == 100
    assert set(Counter((each.text, each.split) for each in found).values()) == {2}


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("?src=bible", ["four"]),
        ("?src=bible,news", ["one\nthree", "four"]),
        ("?src!=bible", ["one\nthree"]),
        ("?src=news&id=news/3", ["three"]),
        ("?split=test", []),
    ],
)
def test_a_filter_keeps_records_by_any_field(tmp_path, query, texts):
    (tmp_path / "sw.jsonl").write_bytes(jsonl(THREE))

    corpus = open_corpus(f"{tmp_path}{query}")

    assert [each.text for each in corpus.documents("swh_Latn", "train")] == texts
    assert corpus.name == f"{tmp_path}{query}"


@pytest.mark.parametrize("query", ["?source=bible", "?source!=bible", "?src=bible&source=x"])
def test_a_filter_on_a_field_that_no_record_has_names_those_that_there_are(tmp_path, query):
    (tmp_path / "sw.jsonl").write_bytes(jsonl(THREE))

    with pytest.raises(BadCorpus, match=r"a field 'source' .* They have id, src, doc, split, text"):
        open_corpus(f"{tmp_path}{query}").documents("swh_Latn", "train")


@pytest.mark.parametrize("query", ["?src", "?src=", "?=bible", "?!=bible", "?src=a&"])
def test_a_filter_that_is_none_is_refused(tmp_path, query):
    with pytest.raises(BadCorpus, match=r"is no filter\. Write FIELD=VALUE"):
        open_corpus(f"{tmp_path}{query}")


def test_the_fingerprint_is_of_the_bytes_of_the_languages_used(tmp_path):
    corpus = folder(tmp_path, sw__jsonl=jsonl(THREE), yo__jsonl=jsonl(THREE))
    before, both = corpus.fingerprint(["swh_Latn"]), corpus.fingerprint(["yor_Latn", "swh_Latn"])
    (tmp_path / "yo.jsonl").write_bytes(jsonl(THREE[:2]))

    again = open_corpus(str(tmp_path))

    assert again.fingerprint(["swh_Latn"]) == before
    assert again.fingerprint(["swh_Latn", "yor_Latn"]) != both
    assert corpus.fingerprint(["swh_Latn", "yor_Latn"]) == both
    assert open_corpus(f"{tmp_path}?src=news").fingerprint(["swh_Latn"]) != before


def test_a_file_is_not_read_before_its_language_is_asked_for(tmp_path):
    corpus = folder(tmp_path, sw__jsonl=jsonl(THREE), yo__jsonl=b"broken")

    assert len(corpus.documents("swh_Latn", "train")) == 2
    with pytest.raises(BadCorpus, match=r"yo\.jsonl, line 1 is not valid JSON"):
        corpus.documents("yor_Latn", "train")


GOOD = b'{"text": "good"}\n'


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("sw.jsonl", b"", r"sw\.jsonl is empty"),
        ("sw.txt", b"\n \n", r"sw\.txt is empty"),
        ("sw.jsonl.gz", gzip.compress(b"\n", mtime=0), r"sw\.jsonl\.gz is empty"),
        ("sw.jsonl", GOOD + b'{"text": "\xff"}\n', r"line 2 is not valid UTF-8 \(byte 11 of"),
        ("sw.txt", b"one\ntwo \xe1\x88", r"sw\.txt, line 2 is not valid UTF-8"),
        ("sw.jsonl", GOOD * 2 + b'{"text": ', r"sw\.jsonl, line 3 is not valid JSON"),
        ("sw.jsonl", b"[" * 100_000, r"line 1 is not valid JSON"),
        ("sw.jsonl", GOOD + b'["text"]', r"line 2 is not a JSON object"),
        ("sw.jsonl", GOOD + b'{"id": 1}', r"line 2 has no field 'text' .* It has id"),
        ("sw.jsonl", b'{"text": 7}', r"line 1 has no field 'text' that is a string"),
        ("sw.jsonl", b'{"text": "\\ud800"}', r"line 1 is not valid UTF-8: half a surrogate"),
        ("sw.jsonl", b'{"text": "x", "split": "dev2"}', r"line 1 has the split 'dev2'. Known: tra"),
        ("sw.jsonl.gz", gzip.compress(GOOD * 99, mtime=0)[:-9], r"sw\.jsonl\.gz cannot be read"),
        ("sw.jsonl.gz", GOOD, r"sw\.jsonl\.gz cannot be read after line 0: Not a gzipped"),
        ("sw.parquet", b"PAR1 no", r"sw\.parquet cannot be read as parquet after row 0"),
    ],
)
def test_a_broken_file_costs_one_line_with_its_place(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)

    with pytest.raises(BadCorpus, match=message) as caught:
        open_corpus(str(tmp_path)).documents("swh_Latn", "train")

    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_parquet_file_without_text_names_what_it_has(tmp_path):
    parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "sw.parquet")

    with pytest.raises(BadCorpus, match=r"sw\.parquet, line 1 has no field 'text' .* It has body"):
        open_corpus(str(tmp_path)).documents("swh_Latn", "train")


def test_two_files_of_one_language_are_refused(tmp_path):
    with pytest.raises(BadCorpus, match=r"sw\.jsonl and swh_Latn\.txt are both swh_Latn"):
        folder(tmp_path, sw__jsonl=GOOD, swh_Latn__txt=b"x")


def test_a_file_that_is_not_named_after_a_language_is_refused(tmp_path):
    with pytest.raises(BadCorpus, match=r"swahilli\.jsonl is not named after a language: .*Swahil"):
        folder(tmp_path, swahilli__jsonl=GOOD)


def test_a_folder_without_text_or_none_at_all_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("no text")

    with pytest.raises(BadCorpus, match=r"holds no text\. It needs files named <language>"):
        open_corpus(str(tmp_path))
    with pytest.raises(BadCorpus, match=r"there is no folder .*nowhere"):
        open_corpus(str(tmp_path / "nowhere"))


def test_a_missing_language_is_named_with_what_there_is(tmp_path):
    corpus = folder(tmp_path, sw__jsonl=GOOD, yo__jsonl=GOOD)

    with pytest.raises(
        BadCorpus, match=r"no text in hau_Latn, amh_Ethi\. It has swh_Latn, yor_Latn"
    ):
        corpus.require(["hau_Latn", "swh_Latn", "amh_Ethi"])


@pytest.mark.parametrize("name", ["sw.jsonl", "sw.jsonl.gz", "sw.txt"])
def test_a_line_of_fifty_megabytes_is_read_in_linear_time(tmp_path, name):
    text = "maji " * 10_000_000
    data = text.encode() if name == "sw.txt" else jsonl([{"text": text, "split": "train"}])
    data = gzip.compress(data, 1) if name.endswith(".gz") else data
    (tmp_path / name).write_bytes(data)

    start = time.process_time()
    corpus = open_corpus(str(tmp_path))
    found = [
        each for split in ("train", "valid", "test") for each in corpus.documents("swh_Latn", split)
    ]

    assert [len(each.text) for each in found] == [50_000_000]
    assert time.process_time() - start < 15


class FakeHub:
    """Answers as HfApi does, about a data set whose files lie in a local folder."""

    asked: tuple[str, str | None] | None = None

    def __init__(self, paths):
        self.paths = paths

    def dataset_info(self, dataset, revision=None):
        type(self).asked = (dataset, revision)
        if dataset == "no body":
            raise HFValidationError("Repo id must not have blanks.\nMore lines.")
        siblings = [SimpleNamespace(rfilename=path) for path in self.paths]
        return SimpleNamespace(sha="0123abcd", siblings=siblings)


HUB = {
    "README.md": None,
    "data/swh_Latn/train/0.parquet": ["maji", "moto", ""],
    "data/swh_Latn/train/1.parquet": ["mti"],
    "data/swh_Latn/test/0.parquet": ["mvua"],
    "20231101.yo/train-00000-of-00001.parquet": [f"omi {n}" for n in range(200)],
    "ha.parquet": ["ruwa"],
    "raw/train-00000-of-00001.parquet": ["nothing"],
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for path, texts in HUB.items():
        if texts is not None:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(pyarrow.table({"text": texts}), tmp_path / path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeHub(HUB))
    monkeypatch.setattr(readers, "_address", lambda _id, _commit, path: str(tmp_path / path))
    return tmp_path


def test_a_hub_data_set_is_pinned_to_the_commit_that_was_found(hub):
    corpus = open_corpus("hub:owner/texts@v2?src!=x")

    assert FakeHub.asked == ("owner/texts", "v2")
    assert corpus.name == "hub:owner/texts@0123abcd?src!=x"
    open_corpus("hub:owner/texts")
    assert FakeHub.asked == ("owner/texts", None)


def test_languages_and_splits_of_a_hub_data_set_come_from_its_paths(hub):
    corpus = open_corpus("hub:owner/texts")

    assert corpus.languages() == ["hau_Latn", "swh_Latn", "yor_Latn"]
    train = [each.text for each in corpus.documents("swh_Latn", "train")]
    assert train == ["maji", "moto", "mti"]
    assert [each.text for each in corpus.documents("swh_Latn", "test")] == ["mvua"]
    # Files that are all train are split by hash, so that there is something to evaluate on.
    assert 0 < len(corpus.documents("yor_Latn", "test")) < 30


def test_what_is_left_out_of_a_hub_data_set_is_named(hub, monkeypatch):
    paths = [*HUB, "en-GB/0.parquet", "en-US/0.parquet", "mn-Mong/a.parquet", "ig/train.csv"]
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeHub(paths))

    corpus = open_corpus("hub:owner/texts")

    assert {each.path: each.why for each in corpus.left_out} == {
        "raw": "is not named after a language",
        "mn-Mong": "is not named after a language",
        "ig": "is no parquet, which alone is read of the hub",
    }
    assert "left out: ig is no parquet" in corpus.says()[0]
    assert corpus.names_of("eng_Latn") == ("en-GB", "en-US")


def test_configurations_named_as_locales_are_languages(hub, monkeypatch):
    configs = "am_et cmn_hans_cn es_419 sw_ke yue_hant_hk zh-TW"
    paths = [f"{name}/test-00000-of-00001.parquet" for name in configs.split()]
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeHub(paths))

    corpus = open_corpus("hub:owner/texts")

    assert corpus.left_out == ()
    assert corpus.languages() == [
        *("amh_Ethi", "spa_Latn", "swh_Latn", "yue_Hant", "zho_Hans", "zho_Hant")
    ]


def test_reading_from_the_hub_stops_at_the_stated_size(hub, monkeypatch):
    monkeypatch.setattr(readers, "HUB_CHARACTERS", 6)

    corpus = open_corpus("hub:owner/texts")

    assert [each.text for each in corpus.documents("swh_Latn", "train")] == ["maji", "moto"]


def test_the_fingerprint_of_a_hub_data_set_is_that_of_its_commit_and_files(hub):
    corpus = open_corpus("hub:owner/texts")

    assert corpus.fingerprint(["swh_Latn"]) == open_corpus("hub:owner/texts").fingerprint(
        ["swh_Latn"]
    )
    assert corpus.fingerprint(["swh_Latn"]) != corpus.fingerprint(["hau_Latn"])


def test_what_the_hub_refuses_is_one_line(hub):
    with pytest.raises(
        BadCorpus, match=r"the hub has not given hub:no body: Repo id .* blanks\. Ch"
    ):
        open_corpus("hub:no body")


def test_a_file_that_is_gone_from_the_hub_is_one_line(hub):
    (hub / "ha.parquet").unlink()

    with pytest.raises(BadCorpus, match="hub:owner/texts@0123abcd cannot be read"):
        open_corpus("hub:owner/texts").documents("hau_Latn", "train")


def test_a_hub_data_set_without_a_language_in_its_paths_is_refused(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeHub(["data/train-0.parquet", "a.py"]))

    with pytest.raises(BadCorpus, match=r"names a language \(parquet files: data/train-0.parquet"):
        open_corpus("hub:owner/texts")


@pytest.mark.skipif(not EMBEDDED.is_dir(), reason="the embedded sentences are not there")
def test_the_embedded_corpus_is_parallel():
    corpus = open_corpus("embedded")

    assert len(corpus.languages()) >= 20
    for split in ("train", "test"):
        ids = {
            tag: {each.id for each in corpus.documents(tag, split)} for tag in corpus.languages()
        }
        assert all(each == ids["eng_Latn"] for each in ids.values())
        assert ids["eng_Latn"]


@needs_data
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_flores_has_its_articles_and_sentences_in_all_languages(every):
    corpus = open_corpus(f"{Path(str(DATA)) / 'text'}?src=flores")

    assert len(corpus.languages()) == 31
    articles = None
    for tag in sorted(corpus.languages())[::every]:
        documents = corpus.documents(tag, "test")
        names = [each.id for each in documents]
        articles = articles or sorted(names)
        assert len(names) == 281
        assert sorted(names) == articles
        assert sum(each.text.count("\n") + 1 for each in documents) == 1012
        assert corpus.documents(tag, "train") == []
