"""A tokenizer does what its file says, its files go along byte for byte, and no text is a mark."""

import json
import unicodedata
from pathlib import Path

import pico
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from babelpress.errors import BadModel
from babelpress.evals.bits_per_byte import prepare
from babelpress.export._write import write as export
from babelpress.models import probes, tokenizers
from babelpress.models.names import EMBEDDED
from babelpress.models.open import Opened, open_model
from babelpress.models.save import save_model
from babelpress.models.tokenizers import encode, read_tokenizer, tokenizer_hash
from babelpress.runs.manifest import read as read_manifest
from babelpress.runs.open import open_any
from babelpress.runs.run import do
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import draw
from babelpress.text.fertility import measure
from babelpress.text.settings import CalibrationSettings

MARKS = ("<unk>", "<s>", "</s>")
SMALL = {"languages": ["swh_Latn", "yor_Latn"], "tokens": 128, "length": 64}
LOCAL = {"revision": "main", "local_files_only": True, "trust_remote_code": False}


def rules(*normalizers, cuts=None):
    """A tokenizer.json of single letters, by rules of its own."""
    letters = [chr(code) for code in range(33, 127)] + list("▁áàọẹńéèíỌ\u0300\u0301\u0323\n")
    vocabulary = {token: n for n, token in enumerate(dict.fromkeys([*MARKS, *letters]))}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": n, "content": token, "special": True, **plain} for n, token in enumerate(MARKS)
        ],
        "normalizer": {"type": "Sequence", "normalizers": list(normalizers)},
        "pre_tokenizer": cuts,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
FIRST = {"type": "Prepend", "prepend": "▁"}


def metaspace(scheme):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}


OWN = {
    "composed first": rules({"type": "NFC"}, FIRST, SPACE),
    "no space in front": rules(SPACE),
    "never a space": rules(cuts=metaspace("never")),
    "folded": rules({"type": "NFKC"}, {"type": "Lowercase"}, cuts=metaspace("first")),
}


def llama(folder, said, **config):
    """A model folder as transformers 4 writes it for Llama, with more files than transformers 5."""
    pico.model().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(said))
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    about = {"tokenizer_class": "LlamaTokenizer", "model_max_length": 4096, **marks, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=3))
    (folder / "special_tokens_map.json").write_text(json.dumps(marks, indent=5))
    for name in ("tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json"):
        (folder / name).write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}\n\n")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool.jinja").write_text("{{ tools }}")
    (folder / "preprocessor_config.json").write_text('{"size":   224}')
    (folder / "generation_config.json").write_text('{"eos_token_id": [1,   2]}')
    return folder


def companions(folder):
    """Every file but weights and config, and what a run or an export writes of its own."""
    own = ("config.json", "model.safetensors", "babelpress.json", "README.md")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in own
    }


def by_file(folder, texts):
    """What the library that owns the format makes of texts."""
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [own.encode(text, add_special_tokens=False).ids for text in texts]


TEXTS = [
    unicodedata.normalize("NFD", "ọmọ náà"),
    "ọmọ náà",
    " ilé",
    "  ilé  ",
    "ilé\n\nilé",
    "ILÉ",
    "",
]


@pytest.mark.parametrize("name", OWN)
def test_ids_are_those_of_the_file_where_a_class_has_rules_of_its_own(tmp_path, name):
    folder = llama(tmp_path / "m", OWN[name])
    expected = by_file(folder, TEXTS)
    made = AutoTokenizer.from_pretrained(folder)
    assert encode(made, TEXTS)["input_ids"] != expected  # else nothing is tested here

    opened = open_model(str(folder))

    assert encode(opened.tokenizer, TEXTS)["input_ids"] == expected
    assert opened.replaced == type(made).__name__
    marks = ("bos_token_id", "eos_token_id", "unk_token_id")
    for word in (*marks, "model_max_length", "chat_template", "padding_side"):
        assert getattr(opened.tokenizer, word) == getattr(made, word)


def test_marks_that_only_the_class_knows_are_kept(tmp_path):
    folder = llama(tmp_path / "m", OWN["composed first"])
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (folder / "special_tokens_map.json").unlink()

    tokenizer = open_model(str(folder)).tokenizer

    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)


def test_a_class_that_follows_the_file_is_kept_with_its_hash(tmp_path):
    plain = llama(tmp_path / "m", rules(cuts=metaspace("first")))
    made = AutoTokenizer.from_pretrained(plain)
    # as transformers makes it: nothing is left to disagree about
    (plain / "tokenizer.json").write_text(made.backend_tokenizer.to_str())

    read = read_tokenizer(str(plain), LOCAL)

    assert type(read.tokenizer) is type(made) and read.replaced == ""
    assert tokenizer_hash(read.tokenizer) == tokenizer_hash(AutoTokenizer.from_pretrained(plain))


@pytest.mark.parametrize("normalizers", [[], [{"type": "NFC"}]])
def test_a_vocabulary_is_read_once_where_a_file_asks_for_the_model_of_the_class(
    tmp_path, normalizers
):
    """By that short way the same is found as by reading all of the file again."""
    said = rules(*normalizers, cuts=metaspace("first"))
    said["model"] |= {"byte_fallback": True, "unk_token": None}  # as the class has it
    size = len(said["model"]["vocab"])
    said["added_tokens"].append(
        {**said["added_tokens"][0], "id": size, "content": "ilé", "special": False}
    )
    folder = llama(tmp_path / "m", said)
    made = AutoTokenizer.from_pretrained(folder)
    content = (folder / "tokenizer.json").read_bytes()
    short = tokenizers._with_vocabulary_of(made, content)
    texts = [*TEXTS, *probes.texts()]

    assert short is not None
    whole = Tokenizer.from_buffer(content)
    assert tokenizers._ids(short, texts) == tokenizers._ids(whole, texts)
    assert encode(open_model(str(folder)).tokenizer, TEXTS)["input_ids"] == by_file(folder, TEXTS)
    for other in (b'"byte_fallback": false', b'"type": "Unigram"'):
        key = other.partition(b":")[0]
        changed = content.replace(key + b": true", other).replace(key + b': "BPE"', other)
        assert changed != content and tokenizers._with_vocabulary_of(made, changed) is None
    trap = content.replace(json.dumps("ilé").encode(), b'"vocab"')
    assert trap != content and tokenizers._with_vocabulary_of(made, trap) is None


def test_a_file_that_cannot_be_followed_is_refused(tmp_path, monkeypatch):
    folder = llama(tmp_path / "m", OWN["composed first"])

    monkeypatch.setattr(tokenizers, "FOLLOWS", "LlamaTokenizer")

    with pytest.raises(BadModel, match=r"m: LlamaTokenizer reads .* other tokens than its token"):
        open_model(str(folder))


def test_what_is_read_by_the_file_alone_is_not_compared(monkeypatch):
    monkeypatch.setattr(probes, "texts", lambda: pytest.fail("there is nothing to compare"))

    assert open_model(EMBEDDED).replaced == ""


def test_text_that_tells_tokenizers_apart_is_of_every_script():
    names = {unicodedata.name(each, "").split(" ")[0] for text in probes.texts() for each in text}

    scripts = "LATIN CYRILLIC GREEK ARMENIAN HEBREW ARABIC DEVANAGARI BENGALI TAMIL TELUGU THAI LAO"
    more = "KHMER MYANMAR TIBETAN GEORGIAN ETHIOPIC CHEROKEE TIFINAGH NKO VAI CJK HANGUL HIRAGANA"
    assert {*scripts.split(), *more.split(), "ADLAM", "COMBINING", "FULLWIDTH"} <= names
    assert sum(map(len, probes.texts())) < 20_000  # it is read whenever a model is opened


# ---- files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A model with rules of its own, a run on it, a run on that, and an export of each."""
    from babelpress.runs.recipe import Recipe

    place = tmp_path_factory.mktemp("chain")
    folder = llama(place / "m", OWN["composed first"])
    said = {}
    for model, step, out in (("m", "prune", "one"), ("one", "quantize", "two")):
        work = {step: {"group": 16} if step == "quantize" else {}}
        plan = {"model": str(place / model), "calibration": SMALL, "steps": [work]}
        do(Recipe.model_validate(plan), place / out)
    for model, form in (
        ("m", "safetensors"),
        ("one", "safetensors"),
        ("two", "compressed-tensors"),
    ):
        said[model], _ = export(str(place / model), place / f"{model}-out", form)
    return folder, place, said


@pytest.mark.parametrize("where", ["m-out", "one/model", "one-out", "two/model", "two-out"])
def test_files_go_along_byte_for_byte(chain, where):
    folder, place, _ = chain

    made = companions(place / where)

    expected = companions(folder)
    assert len(expected) == 11
    settings = json.loads(expected.pop("tokenizer_config.json"))
    assert {name: made.get(name) for name in expected} == expected
    found = json.loads(made["tokenizer_config.json"])
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    assert {name: found.get(name) for name in settings} == settings


def test_files_of_a_class_that_follows_them_go_along_to_the_last_byte(tmp_path):
    folder = llama(tmp_path / "m", rules(cuts=metaspace("first")))
    made = AutoTokenizer.from_pretrained(folder)
    (folder / "tokenizer.json").write_text(made.backend_tokenizer.to_str())

    says, _ = export(str(folder), tmp_path / "out", "safetensors")

    expected, found = companions(folder), companions(tmp_path / "out")
    assert {name: found.get(name) for name in expected} == expected and len(expected) == 11
    assert not any("tokenizer" in line for line in says)


def test_a_run_and_an_export_have_the_tokens_of_the_model(chain):
    folder, place, said = chain
    expected = by_file(folder, TEXTS)

    for name in ("m", "one", "two"):
        opened = open_any(str(place / name))
        assert encode(opened.tokenizer, TEXTS)["input_ids"] == expected
        assert by_file(place / f"{name}-out", TEXTS) == expected
        # as transformers and vLLM load it
        loaded = AutoTokenizer.from_pretrained(place / f"{name}-out")
        assert encode(loaded, TEXTS)["input_ids"] == expected
        assert tokenizer_hash(loaded) == tokenizer_hash(opened.tokenizer)
    assert any("names PreTrainedTokenizerFast now: Llama" in line for line in said["m"])
    assert not any("LlamaTokenizer" in line for line in said["two"])  # the run names it no more
    for run in ("one", "two"):
        assert read_manifest(place / run).tokenizer == "LlamaTokenizer"
        card = (place / f"{run}-out" / "README.md").read_text()
        assert "names PreTrainedTokenizerFast: LlamaTokenizer reads text as other" in card


def test_calibration_and_scores_have_the_tokens_of_the_file(tmp_path):
    folder = llama(tmp_path / "m", OWN["composed first"])
    text = unicodedata.normalize("NFD", "Ọmọ náà ńkàwé ní ilé-ẹ̀kọ́.")
    lines = [
        json.dumps({"text": text, "split": split, "doc": split}) for split in ("train", "test")
    ]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "yor_Latn.jsonl").write_text("\n".join(lines))
    opened, corpus = open_model(str(folder)), open_corpus(str(tmp_path / "text"))
    (expected,) = by_file(folder, [text])

    scored = prepare(
        opened.tokenizer, {"yor_Latn": corpus.documents("yor_Latn", "test")}, window=99
    )
    asked = CalibrationSettings(corpus="embedded", languages=("yor_Latn",), tokens=64, length=64)
    blocks = draw(opened, asked).blocks["yor_Latn"]
    spoken = str(opened.tokenizer.decode(blocks.ids_BT[blocks.counted_BT].tolist()[:60]))

    assert scored["yor_Latn"].windows[0].ids_T.tolist() == [1, *expected]
    assert opened.tokenizer.decode(expected) == " " + unicodedata.normalize("NFC", text)
    assert spoken == unicodedata.normalize("NFC", spoken)


def test_a_hub_model_brings_its_files_from_the_cache(tmp_path, monkeypatch):
    snapshot = llama(tmp_path / "snapshots" / "abc", rules(cuts=metaspace("first")))
    auto = AutoTokenizer.from_pretrained(snapshot)
    (snapshot / "tokenizer.json").write_text(auto.backend_tokenizer.to_str())
    expected = companions(snapshot)
    (snapshot / "weights.bin").write_text("never")
    asked = []

    def download(place, *, allow_patterns, revision, local_files_only):
        asked.append((place, revision, local_files_only))
        assert "*.model" in allow_patterns and "*" not in allow_patterns
        return str(snapshot)

    monkeypatch.setattr(tokenizers, "snapshot_download", download)
    monkeypatch.setattr(tokenizers.AutoTokenizer, "from_pretrained", lambda *_, **__: auto)

    read = read_tokenizer("owner/name", {**LOCAL, "revision": "abc"})

    assert asked == [("owner/name", "abc", True)]
    assert read.files == expected


def test_a_tokenizer_that_was_changed_is_written_anew(tmp_path):
    folder = llama(tmp_path / "m", OWN["composed first"])
    opened = open_model(str(folder))
    other = Opened(opened.name, opened.model, pico.tokenizer(), torch.float32)

    save_model(other, tmp_path / "out")

    assert not (tmp_path / "out" / "tokenizer.model").exists()
    assert open_model(str(tmp_path / "out")).tokenizer.get_vocab() == pico.tokenizer().get_vocab()


def test_files_are_those_that_were_read_though_the_source_is_gone(tmp_path):
    folder = llama(tmp_path / "m", OWN["composed first"])
    expected = companions(folder)
    opened = open_model(str(folder))
    expected["tokenizer_config.json"] = opened.files["tokenizer_config.json"]
    for path in folder.rglob("*.json"):
        path.write_text("changed")

    save_model(opened, tmp_path / "out")

    assert companions(tmp_path / "out") == expected


# ---- marks -----------------------------------------------------------------------------------


def pieces():
    """A model of pieces that has its marks among them, as XLM-R and T5 have."""
    scores = {"<s>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁": -2.0, "a": -3.0, "▁a": -2.5}
    scores |= dict.fromkeys("</s>", -4.0)
    backend = Tokenizer(models.Unigram(list(scores.items()), unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("make", [pico.tokenizer, pieces])
def test_text_that_spells_a_mark_is_text(make):
    tokenizer = make()
    text = f"a{tokenizer.eos_token}a {tokenizer.bos_token}"

    encoded = encode(tokenizer, ["a", text], offsets=True)

    ids, offsets = encoded["input_ids"][1], encoded["offset_mapping"][1]
    assert not {*tokenizer.all_special_ids} & {*ids}
    assert str(tokenizer.decode(ids)).strip() == text
    spelled = offsets[1 : 1 + len(tokenizer.eos_token)]
    assert spelled == [(n, n + 1) for n in range(1, 1 + len(tokenizer.eos_token))]
    assert encoded["input_ids"][0] == tokenizer("a", add_special_tokens=False)["input_ids"]
    assert encode(tokenizer, [text])["input_ids"] == [ids]


def test_text_without_a_mark_has_the_ids_that_it_always_had():
    tokenizer = open_model(EMBEDDED).tokenizer
    corpus = open_corpus("embedded")
    texts = [each.text for tag in corpus.languages()[:6] for each in corpus.documents(tag, "test")]

    assert encode(tokenizer, texts)["input_ids"] == tokenizer(texts)["input_ids"]


def test_marks_are_text_in_calibration_scores_and_fertility(tmp_path):
    text = "Le mot <eos> dans un texte <bos> <pad>"
    rows = [{"text": f"{text} {s} {n}", "split": s} for s in ("train", "test") for n in range(9)]
    Path(tmp_path, "fr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus, tokenizer = open_corpus(str(tmp_path)), pico.tokenizer()
    opened = Opened("pico", pico.model(), tokenizer, torch.float32)
    documents = corpus.documents("fra_Latn", "test")
    asked = CalibrationSettings(corpus=str(tmp_path), languages=("fr",), tokens=64, length=32)

    blocks = draw(opened, asked).blocks["fra_Latn"]
    scored = prepare(tokenizer, {"fra_Latn": documents}, window=99)["fra_Latn"].windows
    fertile = measure(tokenizer, documents, "fra_Latn")

    marks = set(tokenizer.all_special_ids)
    # what counts of two blocks is all but BOS and one EOS between two texts
    assert blocks.counted_BT.sum() == 64 - 2 - 1
    assert not any(marks & {*window.ids_T.tolist()[1:]} for window in scored)
    assert fertile.tokens_per_byte == 1  # of bytes each is a token
