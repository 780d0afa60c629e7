"""A folder of text: all of it is read, or named with the reason."""

import gzip
import json

import pytest

from babelpress.errors import BadCorpus
from babelpress.text.corpus import open_corpus


def rows(word, count=40, **more):
    return "".join(
        json.dumps({"text": f"{word} {n}", **more}) + "\n" for n in range(count)
    ).encode()


def corpus(tmp_path, files):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return open_corpus(str(tmp_path))


def texts(found, tag, split):
    return [each.text for each in found.documents(tag, split)]


def everything(found, tag):
    return sorted(t for split in ("train", "valid", "test") for t in texts(found, tag, split))


def test_no_language_is_lost_for_its_ending_or_its_folder(tmp_path):
    found = corpus(
        tmp_path,
        {
            "sw.jsonl": rows("maji"),
            "fr.json": json.dumps([{"text": f"eau {n}"} for n in range(40)]).encode(),
            "am.JSONL": rows("wuha"),
            "de/train.jsonl": rows("wasser"),
            "th.csv": b"text\n" + b"".join(b"nam %d\n" % n for n in range(40)),
            "yo.txt.gz": gzip.compress(b"".join(b"omi %d\n" % n for n in range(40))),
            "train/ha.tsv": b"text\n" + b"".join(b"ruwa %d\n" % n for n in range(40)),
        },
    )

    assert found.left_out == ()
    assert found.languages() == sorted(
        ["swh_Latn", "fra_Latn", "amh_Ethi", "deu_Latn", "tha_Thai", "yor_Latn", "hau_Latn"]
    )
    assert all(len(everything(found, tag)) == 40 for tag in found.languages())


def test_the_split_is_that_of_the_file_unless_a_record_says_its_own(tmp_path):
    found = corpus(
        tmp_path,
        {
            "sw/train.jsonl": rows("a", 3) + rows("b", 1, split="test"),
            "sw/dev.jsonl": rows("c", 1),
            "test/sw.jsonl": rows("d", 2),
        },
    )

    assert texts(found, "swh_Latn", "train") == ["a 0", "a 1", "a 2"]
    assert texts(found, "swh_Latn", "valid") == ["c 0"]
    assert sorted(texts(found, "swh_Latn", "test")) == ["b 0", "d 0", "d 1"]
    assert everything(open_corpus(f"{tmp_path}?split=test"), "swh_Latn") == ["b 0", "d 0", "d 1"]


def test_train_files_alone_are_split_by_hash_so_that_there_is_something_to_score(tmp_path):
    found = corpus(tmp_path, {"sw/train.jsonl": rows("maji", 200)})

    assert 0 < len(texts(found, "swh_Latn", "test")) < 30


def test_the_fingerprint_of_one_file_is_that_of_its_bytes_wherever_it_lies(tmp_path):
    one = corpus(tmp_path / "a", {"sw.jsonl": rows("maji")})
    other = corpus(tmp_path / "b", {"x/sw.jsonl": rows("maji")})
    two = corpus(tmp_path / "c", {"sw/a.jsonl": rows("maji"), "sw/b.jsonl": rows("moto")})

    prints = {each.fingerprint(["swh_Latn"]) for each in (one, other)}
    assert len(prints) == 1
    assert two.fingerprint(["swh_Latn"]) not in prints


def test_whatever_is_left_out_is_named_with_the_reason(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere.jsonl")
    found = corpus(
        tmp_path,
        {
            "sw.jsonl": rows("maji"),
            "swahilli.jsonl": rows("maji"),
            "mn-Mong.txt": b"x",
            "yo.docx": b"x",
            "ha.tar.gz": b"x",
            "stats.json": b"{}",
            "a/b/c/d/e/yo.txt": b"x",
            "README.md": b"no text",
            "LICENSE": b"no text",
            ".cache/yo.txt": b"hidden",
        },
    )

    left = {each.path: each.reason() for each in found.left_out}
    assert found.languages() == ["swh_Latn"]
    assert set(left) == {
        "swahilli.jsonl",
        "mn-Mong.txt",
        "yo.docx",
        "ha.tar.gz",
        "stats.json",
        "a/b/c/d/e",
        "loop",
        "gone.jsonl",
    }
    assert "Did you mean 'Swahili'" in left["swahilli.jsonl"]
    assert "khk_Cyrl, not in Mong" in left["mn-Mong.txt"]
    assert left["yo.docx"] == "is not read: no reader of .docx"
    assert left["loop"] == "is a link to a folder that it lies in"
    (line,) = found.says()
    assert all(path in line for path in left)
    with pytest.raises(BadCorpus, match=r"no text in yor_Latn\..*left out: .*yo\.docx is not read"):
        found.require(["yor_Latn"])


def test_a_long_list_is_cut_and_quick(tmp_path):
    found = corpus(tmp_path, {"sw.txt": b"a", **{f"page{n:04}.txt": b"x" for n in range(400)}})

    assert len(found.left_out) == 400
    assert "; and 388 more." in found.says()[0]


def test_files_that_say_the_same_may_be_copies_and_are_refused(tmp_path):
    for number, names in enumerate(
        [
            ("sw.jsonl", "sw.jsonl.gz"),
            ("sw.jsonl", "swh_Latn.txt"),
            ("sw.jsonl", "old/sw.jsonl"),
            ("sw.jsonl", "sw/train.jsonl"),
            ("sw/train.jsonl", "sw/train.csv"),
            ("sw/train.jsonl", "train/sw.jsonl"),
        ]
    ):
        with pytest.raises(BadCorpus, match=r"are both swh_Latn\. Join them"):
            corpus(tmp_path / str(number), dict.fromkeys(names, rows("maji")))


def test_two_varieties_of_a_language_are_read_as_one_and_named(tmp_path):
    found = corpus(
        tmp_path,
        {
            "en-US.txt": b"color\n" * 9,
            "en-GB.txt": b"colour\n" * 9,
            "zh-TW.txt": b"a",
            "zh-CN.txt": b"b",
        },
    )

    assert found.languages() == ["eng_Latn", "zho_Hans", "zho_Hant"]
    assert everything(found, "eng_Latn") == ["color"] * 9 + ["colour"] * 9
    assert found.names_of("eng_Latn") == ("en-GB", "en-US")
    assert found.names_of("zho_Hans") == ()


def test_parts_and_shards_of_a_language_are_one(tmp_path):
    found = corpus(
        tmp_path,
        {
            "sw/news.txt": b"a\nb",
            "sw/wiki.txt": b"c",
            "yo-00000-of-00002.txt": b"d",
            "yo-00001-of-00002.txt": b"e",
        },
    )

    assert everything(found, "swh_Latn") == ["a", "b", "c"]
    assert everything(found, "yor_Latn") == ["d", "e"]


def test_a_damaged_file_stops_whoever_asks_for_it_and_nobody_else(tmp_path):
    found = corpus(
        tmp_path, {"sw.jsonl": rows("maji"), "ta.jsonl.zst": b"\x28\xb5\x2f\xfd", "yo.txt": b""}
    )

    assert len(everything(found, "swh_Latn")) == 40
    assert found.damage("swh_Latn") == ""
    assert "ta.jsonl.zst cannot be read after line 0" in found.damage("tam_Taml")
    with pytest.raises(BadCorpus, match=r"ta\.jsonl\.zst cannot be read"):
        found.documents("tam_Taml", "train")


def test_the_text_is_found_under_the_names_that_data_sets_have(tmp_path):
    found = corpus(
        tmp_path,
        {
            "sw.tsv": b"client_id\tsentence\n7\tmaji\n",
            "yo.jsonl": b'{"utt": "omi", "annot_utt": "x"}\n',
            "ha.csv": b"raw_transcription,transcription\nRuwa.,ruwa\n",
        },
    )

    assert [everything(found, tag) for tag in found.languages()] == [["Ruwa."], ["maji"], ["omi"]]
