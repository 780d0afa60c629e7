import json
import os
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.text import audit as audit_of
from babelpress.text import calibration
from babelpress.text.calibration import audit, build, from_ids
from babelpress.text.corpus import open_corpus
from babelpress.text.token_blocks import PIECE_CHARACTERS, layout_for, pieces

DATA = os.environ.get("BABELPRESS_DATA")
needs_data = pytest.mark.skipif(
    DATA is None, reason="BABELPRESS_DATA is not set: no folder with text/<language>.jsonl.gz"
)
MARKS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
BOS, EOS, PAD = 256, 257, 258


def byte_tokenizer(**marks):
    """One token for every byte; the marks come after the 256 bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {letter: place for place, letter in enumerate(alphabet)}
    words |= {mark: 256 + place for place, mark in enumerate(MARKS.values())}
    backend = Tokenizer(models.BPE(vocab=words, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **marks)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer(**MARKS)


def write(folder, name, records):
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"split": "train", "src": "s", **each}) for each in records)
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return open_corpus(str(folder))


def articles(number, words="maji ni uhai ", count=5):
    return [
        {"doc": f"d{n}", "text": f"{words * count}{n}", "split": "train"} for n in range(number)
    ]


def text_ids(blocks):
    return blocks.ids_BT[blocks.counted_BT].tolist()


def same(one, other):
    return torch.equal(one.ids_BT, other.ids_BT) and torch.equal(one.counted_BT, other.counted_BT)


def finding(result, what):
    return next(each for each in result.manifest["findings"] if each["what"] == what)


TEXTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).filter(str.strip),
    min_size=1,
    max_size=12,
)


@given(texts=TEXTS, length=st.integers(2, 40), count=st.integers(1, 9), marked=st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_token_comes_once_and_in_order(tmp_path, texts, length, count, marked):
    tokenizer = byte_tokenizer(**MARKS) if marked else byte_tokenizer()
    corpus = write(tmp_path, "sw.jsonl", [{"doc": f"d{n}", "text": t} for n, t in enumerate(texts)])

    result = build(corpus, tokenizer, ["swh_Latn"], tokens=length * count, length=length, seed=5)

    blocks = result.blocks["swh_Latn"]
    # Slow and plain: the pieces in their order, a mark between them, then a cut every few ids.
    chosen = [piece for n, t in enumerate(texts) for piece in pieces(f"s/d{n}", [t])]
    chosen.sort(key=lambda piece: calibration._order(piece, 5))
    stream = []
    for place, piece in enumerate(chosen):
        if place and marked:
            stream.append(None)
        stream += tokenizer(piece.text, add_special_tokens=False)["input_ids"]
    body = length - 1 if marked else length
    expected = stream[: count * body]
    assert text_ids(blocks) == [each for each in expected if each is not None]
    assert blocks.ids_BT.shape == (-(-len(expected) // body), length)
    flat = (blocks.ids_BT[:, 1:] if marked else blocks.ids_BT).flatten().tolist()
    assert flat[: len(expected)] == [EOS if each is None else each for each in expected]
    assert set(flat[len(expected) :]) <= {PAD if marked else 0}
    assert result.manifest["languages"]["swh_Latn"]["tokens"] == blocks.counted_BT.sum()


def test_as_many_blocks_as_fit_into_the_tokens_asked_for(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", articles(50))

    blocks = build(corpus, tokenizer, ["swh_Latn"], tokens=1000, length=48, seed=0).blocks

    assert blocks["swh_Latn"].ids_BT.shape == (20, 48)
    assert (blocks["swh_Latn"].ids_BT[:, 0] == BOS).all()
    assert not blocks["swh_Latn"].counted_BT[:, 0].any()
    assert (blocks["swh_Latn"].counted_BT == (blocks["swh_Latn"].ids_BT < 256)).all()


def test_special_tokens_count_when_asked_and_padding_never(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", articles(3))

    blocks = build(
        corpus, tokenizer, ["swh_Latn"], tokens=4800, length=48, seed=0, count_special=True
    ).blocks["swh_Latn"]

    assert (blocks.counted_BT == (blocks.ids_BT != PAD)).all()
    assert blocks.counted_BT[:, 0].all()
    assert (blocks.ids_BT == EOS).sum() == 2
    assert (blocks.ids_BT == PAD).any()


def test_a_mark_written_in_the_text_is_text(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", [{"doc": "a", "text": "ab</s>cd"}])

    result = build(corpus, tokenizer, ["swh_Latn"], tokens=10, length=10, seed=0)

    blocks = result.blocks["swh_Latn"]
    assert EOS not in blocks.ids_BT
    assert tokenizer.decode(text_ids(blocks)) == "ab</s>cd"
    assert blocks.counted_BT.tolist() == [[False, *[True] * 8, False]]


def test_a_language_with_less_text_gives_all_it_has_and_is_named(tmp_path, tokenizer):
    write(tmp_path, "sw.jsonl", articles(50))
    corpus = write(
        tmp_path, "yo.jsonl", [{"doc": "a", "text": "omi"}, {"doc": "b", "text": "ina!"}]
    )

    result = build(corpus, tokenizer, ["swh_Latn", "yor_Latn"], tokens=480, length=48, seed=0)

    assert result.blocks["swh_Latn"].ids_BT.shape == (10, 48)
    assert result.blocks["yor_Latn"].ids_BT.shape == (1, 48)
    short = finding(result, "short")
    assert (short["level"], short["language"], short["count"]) == ("warning", "yor_Latn", 8)
    assert [each["language"] for each in result.manifest["findings"]] == ["yor_Latn"]


def test_a_further_language_changes_no_other(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", articles(50))
    alone = build(corpus, tokenizer, ["swh_Latn"], tokens=960, length=48, seed=1)
    corpus = write(tmp_path, "am.jsonl", articles(7, "omi "))

    both = build(corpus, tokenizer, ["amh_Ethi", "swh_Latn"], tokens=960, length=48, seed=1)

    assert same(alone.blocks["swh_Latn"], both.blocks["swh_Latn"])


def test_the_seed_decides_and_nothing_else(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", articles(50))

    one, again, other = (
        build(open_corpus(corpus.name), tokenizer, ["swh_Latn"], tokens=960, length=48, seed=seed)
        for seed in (1, 1, 2)
    )

    assert same(one.blocks["swh_Latn"], again.blocks["swh_Latn"])
    assert one.manifest == again.manifest
    assert not same(one.blocks["swh_Latn"], other.blocks["swh_Latn"])


def test_documents_of_equal_ids_come_in_the_same_order_in_every_language(tmp_path, tokenizer):
    write(tmp_path, "sw.jsonl", [{"doc": f"d{n}", "text": f"maji<{n}>"} for n in range(40)])
    corpus = write(tmp_path, "yo.jsonl", [{"doc": f"d{n}", "text": f"omi<{n}>"} for n in range(40)])

    blocks = build(corpus, tokenizer, corpus.languages(), tokens=120, length=60, seed=3).blocks

    orders = [
        [part.partition(">")[0] for part in tokenizer.decode(text_ids(each)).split("<")[1:10]]
        for each in blocks.values()
    ]
    assert orders[0] == orders[1] != sorted(orders[0])


def test_the_pieces_of_a_book_lie_among_the_other_documents(tmp_path, tokenizer):
    book = [{"doc": "book", "text": "kitabu " * 20} for _ in range(400)]
    corpus = write(tmp_path, "sw.jsonl", book + articles(60, count=30))

    result = build(corpus, tokenizer, ["swh_Latn"], tokens=48_000, length=96, seed=0)

    text = tokenizer.decode(text_ids(result.blocks["swh_Latn"]))
    inside = text[text.index("kitabu") : text.rindex("kitabu")]
    assert inside.count("maji") > 200
    assert result.manifest["languages"]["swh_Latn"]["documents"] > 20


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), min_size=1))
@settings(max_examples=80, deadline=None)
def test_pieces_keep_all_text_in_order(lines):
    found = pieces("d", lines)

    assert (
        "".join(each.text for each in found).split()
        == "".join(line if n == 0 else f"\n{line}" for n, line in enumerate(lines)).split()
    )


@pytest.mark.parametrize(
    "line",
    ["neno " * 1500, "น้ำ" * 2500, "字" * 7001, "a" * 1200 + " " + "b" * 5000, "\u0301" * 5000],
)
def test_a_long_line_is_cut_without_loss_and_not_before_a_mark(line):
    found = [each.text for each in pieces("d", [line])]

    assert "".join(found) == line
    assert all(0 < len(each) <= PIECE_CHARACTERS for each in found)
    if "น" in line:
        assert all(each[0] != "้" for each in found)
    if " " in line[:PIECE_CHARACTERS]:
        assert found[0].endswith(" ")


@pytest.mark.parametrize(
    "lines",
    [
        [str(n) * (n % 700) for n in range(300)],
        ["x"] * 3000,
        ["a" * 100, "b " * 3000, "c" * 50, "d" * 4500, "e"],
    ],
)
def test_lines_are_joined_in_order_and_never_over_the_stated_size(lines):
    found = pieces("d", lines)

    assert "".join(each.text for each in found).replace("\n", "") == "".join(lines)
    assert all(len(each.text) <= PIECE_CHARACTERS for each in found)
    assert [each.place for each in found] == list(range(len(found)))


def test_no_more_is_tokenised_than_is_needed(tmp_path, tokenizer):
    class Counting:
        seen = 0

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, texts, **options):
            self.seen += len(texts)
            return tokenizer(texts, **options)

    counting = Counting()
    corpus = write(tmp_path, "sw.jsonl", articles(5000))

    result = build(corpus, counting, ["swh_Latn"], tokens=960, length=48, seed=0)

    assert counting.seen < result.manifest["languages"]["swh_Latn"]["pieces"] + 16


def test_the_manifest_counts_documents_characters_and_bytes(tmp_path, tokenizer):
    corpus = write(
        tmp_path, "am.jsonl", [{"doc": "a", "text": "ውሃ"}, {"doc": "b", "text": "እሳት x"}]
    )

    result = build(corpus, tokenizer, ["amh_Ethi"], tokens=64, length=32, seed=0)
    cut = build(corpus, tokenizer, ["amh_Ethi"], tokens=8, length=8, seed=0)

    row = result.manifest["languages"]["amh_Ethi"]
    assert row["documents"] == row["pieces"] == 2
    assert (row["characters"], row["bytes"], row["tokens"]) == (7, 17, 17)
    assert row["script_share"] == pytest.approx(5 / 6)
    assert row["unknown_share"] == 0
    assert cut.manifest["languages"]["amh_Ethi"]["tokens"] <= 7
    assert cut.manifest["languages"]["amh_Ethi"]["characters"] <= 3
    assert result.manifest["corpus"] == str(tmp_path)
    assert result.manifest["fingerprint"] == corpus.fingerprint(["amh_Ethi"])
    assert result.manifest["tokenizer"] == tokenizer_hash(tokenizer)
    assert (result.manifest["seed"], result.manifest["length"]) == (0, 32)


def test_a_document_in_calibration_and_evaluation_is_an_error(tmp_path, tokenizer):
    corpus = write(tmp_path / "a", "sw.jsonl", articles(9))
    clean = write(tmp_path / "b", "sw.jsonl", [{"doc": "x", "text": "mvua", "split": "test"}])
    leak = write(tmp_path / "c", "sw.jsonl", [{"doc": "d4", "text": "mvua", "split": "test"}])

    build(corpus, tokenizer, ["swh_Latn"], tokens=48, length=48, seed=0, evaluation=clean)
    with pytest.raises(BadCorpus, match=r"swh_Latn: documents in both .*: 1, namely s/d4\. Give"):
        build(corpus, tokenizer, ["swh_Latn"], tokens=48, length=48, seed=0, evaluation=leak)
    found = audit(corpus, tokenizer, ["swh_Latn"], tokens=48, length=48, seed=0, evaluation=leak)
    assert [(each.level, each.what) for each in found] == [("error", "shared documents")]


def test_without_an_evaluation_a_document_cut_between_the_splits_is_a_warning(tmp_path, tokenizer):
    records = [*articles(9), {"doc": "d4", "text": "mvua", "split": "test"}]
    corpus = write(tmp_path, "sw.jsonl", records)

    result = build(corpus, tokenizer, ["swh_Latn"], tokens=48, length=48, seed=0)

    assert finding(result, "shared documents")["level"] == "warning"
    with pytest.raises(BadCorpus, match="s/d4"):
        build(corpus, tokenizer, ["swh_Latn"], tokens=48, length=48, seed=0, evaluation=corpus)


def test_a_text_in_both_is_dropped_from_calibration_and_named(tmp_path, tokenizer):
    records = [
        {"doc": "a", "text": "siri"},
        {"doc": "a", "text": "moto"},
        {"doc": "b", "text": "mti"},
    ]
    corpus = write(tmp_path / "a", "sw.jsonl", records)
    tested = write(tmp_path / "b", "sw.jsonl", [{"doc": "x", "text": " siri ", "split": "test"}])

    result = build(corpus, tokenizer, ["swh_Latn"], tokens=48, length=48, seed=0, evaluation=tested)

    text = tokenizer.decode(text_ids(result.blocks["swh_Latn"]))
    assert "siri" not in text and "moto" in text and "mti" in text
    dropped = finding(result, "text in both")
    assert dropped["count"] == 1 and "s/a" in dropped["words"] and dropped["level"] == "warning"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: text.replace(" ", "\u00a0"),
        lambda text: text.replace(" ", " \u200b"),
        lambda text: f"\ufeff{text}\u202c",
    ],
)
def test_a_test_text_in_other_code_points_is_in_both_and_the_rest_stays(
    tmp_path, tokenizer, change
):
    secret, other = "Ọmọ náà ń kà ìwé", "Ọmọ náà ń ta ìwé"
    records = [{"doc": "a", "text": change(secret)}, {"doc": "Bàbá", "text": change(other)}]
    corpus = write(tmp_path / "a", "yo.jsonl", records)
    tested = write(tmp_path / "b", "yo.jsonl", [{"doc": "x", "text": secret, "split": "test"}])

    result = build(corpus, tokenizer, ["yor_Latn"], tokens=96, length=48, seed=0, evaluation=tested)

    assert tokenizer.decode(text_ids(result.blocks["yor_Latn"])) == change(other)
    assert finding(result, "text in both")["count"] == 1


def test_a_document_whose_name_is_in_another_normalization_is_in_both(tmp_path, tokenizer):
    name = "Bàbá"
    corpus = write(tmp_path / "a", "yo.jsonl", [{"doc": name, "text": "omi"}])
    other = unicodedata.normalize("NFD", unicodedata.normalize("NFC", name))
    leak = write(tmp_path / "b", "yo.jsonl", [{"doc": other, "text": "ina", "split": "test"}])

    with pytest.raises(BadCorpus, match="documents in both"):
        build(corpus, tokenizer, ["yor_Latn"], tokens=9, length=9, seed=0, evaluation=leak)


def test_repeated_lines_are_the_same_in_any_normalization(tmp_path, tokenizer):
    texts = [unicodedata.normalize(form, "Ọmọ náà") for form in ("NFC", "NFD")]
    corpus = write(tmp_path, "yo.jsonl", [{"doc": text, "text": text} for text in texts])

    result = build(corpus, tokenizer, ["yor_Latn"], tokens=9, length=9, seed=0)

    assert finding(result, "duplicates")["count"] == 1


def test_what_is_left_out_of_a_corpus_is_in_audit_and_manifest(tmp_path, tokenizer):
    (tmp_path / "yo.docx").write_bytes(b"x")
    (tmp_path / "ta.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    write(tmp_path, "en-GB.jsonl", articles(2))
    corpus = write(
        tmp_path, "en-US.jsonl", [{**each, "doc": each["doc"] + "b"} for each in articles(3)]
    )

    result = build(corpus, tokenizer, ["eng_Latn"], tokens=48, length=48, seed=0)
    found = audit(corpus, tokenizer, ["eng_Latn"], tokens=48, length=48, seed=0)

    assert result.manifest["left_out"] == [
        {"path": "yo.docx", "why": "is not read: no reader of .docx"}
    ]
    left = finding(result, "left out")
    assert (left["level"], left["language"], left["count"]) == ("warning", "", 1)
    assert "yo.docx is not read" in left["words"]
    damaged = finding(result, "damaged")
    assert damaged["language"] == "tam_Taml" and "ta.jsonl.zst cannot be read" in damaged["words"]
    assert "en-GB, en-US" in finding(result, "several names")["words"]
    assert [each.what for each in found] == [each["what"] for each in result.manifest["findings"]]
    with pytest.raises(BadCorpus, match=r"ta\.jsonl\.zst cannot be read"):
        build(corpus, tokenizer, corpus.languages(), tokens=48, length=48, seed=0)


def test_a_text_without_a_name_in_both_is_a_text_and_no_document(tmp_path, tokenizer):
    (tmp_path / "a").mkdir()
    text = {"text": "siri", "split": "train"}
    (tmp_path / "a" / "sw.jsonl").write_text(f"{json.dumps(text)}\n" + '{"text": "a"}\n' * 40)
    tested = write(tmp_path / "b", "sw.jsonl", [{"text": "siri", "split": "test", "src": ""}])

    result = build(
        open_corpus(str(tmp_path / "a")),
        tokenizer,
        ["swh_Latn"],
        tokens=48,
        length=48,
        seed=0,
        evaluation=tested,
    )

    assert finding(result, "text in both")["count"] == 1


def test_all_missing_languages_are_named_at_once(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", articles(9))

    with pytest.raises(BadCorpus, match=r"no text in yor_Latn, hau_Latn\. It has swh_Latn"):
        build(corpus, tokenizer, ["yor_Latn", "swh_Latn", "hau_Latn"], tokens=9, length=9, seed=0)
    found = audit(corpus, tokenizer, ["yor_Latn", "swh_Latn"], tokens=9, length=9, seed=0)
    assert [(each.level, each.language, each.what) for each in found] == [
        ("error", "yor_Latn", "missing")
    ]


def test_a_language_of_which_a_filter_leaves_nothing_is_missing(tmp_path, tokenizer):
    write(tmp_path, "sw.jsonl", articles(9))
    corpus = open_corpus(f"{tmp_path}?src=other")

    with pytest.raises(BadCorpus, match=r"\?src=other has no train text in swh_Latn"):
        build(corpus, tokenizer, ["swh_Latn"], tokens=48, length=48, seed=0)


def test_text_in_another_script_than_its_language_is_named(tmp_path, tokenizer):
    corpus = write(tmp_path, "ru.jsonl", [{"doc": "a", "text": "privet мир " * 9}])

    result = build(corpus, tokenizer, ["rus_Cyrl"], tokens=48, length=48, seed=0)

    script = finding(result, "script")
    assert script["level"] == "warning" and "Cyrl" in script["words"]
    assert result.manifest["languages"]["rus_Cyrl"]["script_share"] < 0.5


def test_exact_duplicates_are_noted_and_kept(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", [{"doc": f"d{n}", "text": "maji"} for n in range(5)])

    result = build(corpus, tokenizer, ["swh_Latn"], tokens=26, length=26, seed=0)

    assert finding(result, "duplicates")["count"] == 4
    assert finding(result, "duplicates")["level"] == "note"
    assert result.manifest["languages"]["swh_Latn"]["tokens"] == 20


@pytest.mark.parametrize(("unknown", "level"), [(1, "note"), (30, "warning")])
def test_unknown_tokens_are_counted_as_text_and_named(tmp_path, unknown, level):
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "maji": 1, "</s>": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )
    text = "maji " * (300 - unknown) + "mvua " * unknown
    corpus = write(tmp_path, "sw.jsonl", [{"doc": "a", "text": text}])

    result = build(corpus, words, ["swh_Latn"], tokens=300, length=100, seed=0)

    found = finding(result, "unknown tokens")
    assert (found["level"], found["count"]) == (level, unknown)
    assert result.blocks["swh_Latn"].counted_BT.all()
    share = result.manifest["languages"]["swh_Latn"]["unknown_share"]
    assert share == pytest.approx(unknown / 300)


@pytest.mark.parametrize(("tokens", "length"), [(47, 48), (48, 1), (0, 0)])
def test_a_length_that_gives_no_block_is_refused(tmp_path, tokenizer, tokens, length):
    corpus = write(tmp_path, "sw.jsonl", articles(2))

    with pytest.raises(BadSetting, match=r"do not fill one block|is too short"):
        build(corpus, tokenizer, ["swh_Latn"], tokens=tokens, length=length, seed=0)


def test_token_ids_of_the_model_itself_become_blocks(tokenizer):
    ids = {"swh_Latn": [[1, 2, 3], [4, 5]], "yor_Latn": [[7] * 20]}

    result = from_ids(ids, tokenizer, tokens=10, length=5, seed=4)

    assert result.blocks["swh_Latn"].ids_BT.tolist() == [[BOS, 1, 2, 3, EOS], [BOS, 4, 5, PAD, PAD]]
    assert result.blocks["yor_Latn"].ids_BT.tolist() == [[BOS, 7, 7, 7, 7]] * 2
    assert result.manifest["corpus"] == "self"
    assert result.manifest["languages"]["swh_Latn"]["documents"] == 2
    assert finding(result, "short")["language"] == "swh_Latn"


def test_the_hash_of_a_tokenizer_is_of_its_rules_and_not_of_its_last_call(tokenizer):
    before = tokenizer_hash(tokenizer)
    other = byte_tokenizer(**MARKS)
    other.add_tokens(["maji"])

    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)

    assert tokenizer_hash(tokenizer) == before == tokenizer_hash(byte_tokenizer(**MARKS))
    assert tokenizer_hash(other) != before


@pytest.mark.parametrize(
    ("marks", "known", "padding"),
    [
        (MARKS, PAD + 1, PAD),
        (MARKS, PAD, EOS),  # the row for padding was never made
        ({"pad_token": "[PAD]"}, 259, 0),
        ({"pad_token": "[PAD]"}, None, 259),
    ],
)
def test_padding_needs_no_embedding_of_its_own(marks, known, padding):
    ids = {"swh_Latn": [[1, 2, 3]]}

    result = from_ids(ids, byte_tokenizer(**marks), tokens=12, length=6, seed=0, known=known)

    blocks = result.blocks["swh_Latn"]
    begin = [BOS] if "bos_token" in marks else []
    assert blocks.ids_BT.tolist() == [begin + [1, 2, 3] + [padding] * (3 - len(begin))]
    assert text_ids(blocks) == [1, 2, 3]


def test_a_token_that_the_model_has_no_embedding_for_is_one_line(tmp_path, tokenizer):
    corpus = write(tmp_path, "sw.jsonl", [*articles(3), {"doc": "x", "text": "ÿ" * 9}])

    def built(known):
        return build(corpus, tokenizer, ["swh_Latn"], tokens=400, length=40, seed=0, known=known)

    highest = max(*tokenizer("ÿ").input_ids, EOS)

    assert built(highest + 1)
    for known in (highest, BOS, 200):
        words = rf"^swh_Latn: the tokenizer gave token \d+, but the model knows {known} tokens"
        with pytest.raises(BadModel, match=words):
            built(known)


@needs_data
def test_real_text_of_a_language_without_much_of_it_is_packed(tokenizer):
    folder = Path(str(DATA)) / "text"
    corpus = open_corpus(str(folder))
    flores = open_corpus(f"{folder}?src=flores")
    tags = ["ibo_Latn", "tha_Thai"]

    result = build(corpus, tokenizer, tags, tokens=8192, length=256, seed=0, evaluation=flores)

    for tag in tags:
        assert result.blocks[tag].ids_BT.shape == (32, 256)
        assert result.manifest["languages"][tag]["script_share"] > 0.9
    assert {each["level"] for each in result.manifest["findings"]} <= {"note"}


# ---- what a user reads of it ---------------------------------------------------------------


def found(what: str, counts: dict[str, int], level: audit_of.Level = "warning"):
    """Findings of one kind, as the audit makes them."""
    return [
        audit_of.Finding(level, tag, what, count, f"{tag}: {what} {count}.")
        for tag, count in counts.items()
    ]


def test_many_languages_with_the_same_finding_are_one_line():
    counts = {f"l{number:02d}_Latn": 900 - number for number in range(25)}

    assert audit_of.told(found("short", counts)) == [
        (
            "warning",
            "25 languages have less text than was asked for, and all of it is used; tokens: "
            "l24_Latn 876, l23_Latn 877, l22_Latn 878, l21_Latn 879, l20_Latn 880 and 20 more.",
        )
    ]


def test_findings_of_other_kinds_and_levels_stay_apart_and_one_alone_keeps_its_words():
    several = [
        *found("script", {"tha_Thai": 71, "hin_Deva": 9}),
        *found("duplicates", {"eng_Latn": 3, "swh_Latn": 8}, "note"),
        *found("unknown tokens", {"yor_Latn": 2}),
        *found("a newer kind", {"eng_Latn": 1, "swh_Latn": 2, "yor_Latn": 3}),
    ]

    assert audit_of.told(several) == [
        (
            "warning",
            "2 languages have calibration text that is not in their own script; in it are: "
            "hin_Deva 9 %, tha_Thai 71 %.",
        ),
        (
            "note",
            "2 languages have lines of train text that repeat an earlier one exactly; lines: "
            "swh_Latn 8, eng_Latn 3.",
        ),
        ("warning", "yor_Latn: unknown tokens 2."),
        ("warning", "eng_Latn: a newer kind 1. The same is true of swh_Latn, yor_Latn."),
    ]


def test_every_kind_that_is_told_together_is_one_that_the_audit_finds():
    source = Path(audit_of.__file__).read_text(encoding="utf-8")

    assert all(f'tag, "{what}", ' in source for what in audit_of.SEVERAL)


@pytest.mark.parametrize(
    ("tokens", "length", "said"),
    [
        (512, 2048, "512 tokens of a language do not fill one block of 2,048. Use shorter blocks "),
        (512, 2048, "with --length 512, or at least --tokens 2048."),
        (512, 1, "--length 1 is too short"),
    ],
)
def test_too_few_tokens_for_a_block_say_which_option_mends_it(tokens, length, said):
    with pytest.raises(BadSetting) as caught:
        layout_for(byte_tokenizer(**MARKS), tokens, length, False)

    assert said in str(caught.value)
