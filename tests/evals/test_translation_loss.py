"""Translation loss against transformers' own loss, one pair at a time."""

import math
from typing import Any

import pico
import pytest
import torch
import translating

from babelpress import commands
from babelpress.errors import BadCorpus, BadModel, BadSetting, NotFinite
from babelpress.evals import translation_loss
from babelpress.evals.translation_loss import measure
from babelpress.models.tokenizers import encode

WAY, BACK = "eng_Latn>swh_Latn", "swh_Latn>eng_Latn"
WAYS = (WAY, BACK, "hau_Latn>swh_Latn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return translating.written(tmp_path_factory.mktemp("corpus") / "text", test=4)


@pytest.fixture(scope="module")
def documents(folder):
    corpus = translation_loss.texts(str(folder))
    return {way: corpus.documents(way, "test") for way in WAYS}


@torch.no_grad()
def slow_nats(model, way, source, target):
    """The nats of the text of one target, with its marks before it and behind."""
    tokenizer = translating.tokenizer()
    tokenizer.src_lang, tokenizer.tgt_lang = way.split(">")
    both = tokenizer(source, text_target=target, return_tensors="pt")
    logits_TV = model(both["input_ids"], labels=both["labels"]).logits[0].double()
    nats_T = -logits_TV.log_softmax(1).gather(1, both["labels"].T)[:, 0]
    return nats_T[1:-1].sum().item()  # neither the language nor the end


@pytest.mark.parametrize("memory_mb", [0, 256], ids=["one by one", "together"])
def test_every_direction_is_scored_as_pair_by_pair_with_labels(documents, memory_mb):
    model = translating.model()

    found = measure(model, translating.tokenizer(), documents, window=100, memory_mb=memory_mb)

    assert found.keys() == set(WAYS)
    for way, some in documents.items():
        nats = [sum(slow_nats(model, way, *pair) for pair in each.pairs) for each in some]
        sizes = [sum(len(target.encode()) for _, target in each.pairs) for each in some]
        assert [len(each.pairs) for each in some] == [2, 2]
        bits = [each / math.log(2) for each in nats]
        assert found[way].numerator_D.tolist() == pytest.approx(bits, rel=1e-5)
        assert found[way].denominator_D.tolist() == sizes
        assert found[way].documents == tuple(each.id for each in some)


@pytest.mark.parametrize("family", ["t5", "mt5", "marian", "mbart"])
def test_every_family_has_the_loss_that_transformers_gives(family, documents):
    """A tokenizer without marks: every label is text, so the mean loss is that of the text."""
    torch.manual_seed(1)
    model: Any = pico.model(family)
    tokenizer = pico.tokenizer()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.3)

    found = measure(model, tokenizer, {WAY: documents[WAY]}, window=100)

    total = 0.0
    for each in documents[WAY]:
        for source, target in each.pairs:
            asked = "translate English to Swahili: " if family in ("t5", "mt5") else ""
            sides = encode(tokenizer, [asked + source, target])["input_ids"]
            read_1S, labels_1T = (torch.tensor([ids]) for ids in sides)
            with torch.no_grad():
                total += model(read_1S, labels=labels_1T).loss.item() * labels_1T.numel()
    assert found[WAY].numerator_D.sum() == pytest.approx(total / math.log(2), rel=1e-4)


def test_another_source_is_another_score(documents):
    model, tokenizer = translating.model(), translating.tokenizer()
    one = documents[WAY][0]
    other = type(one)(one.id, tuple((f"{source} a", target) for source, target in one.pairs))

    scores = [
        measure(model, tokenizer, {WAY: [each]}, window=100)[WAY].value for each in (one, other)
    ]

    assert abs(scores[0] - scores[1]) > 1e-3
    assert one.text != other.text


def test_what_is_not_a_number_is_an_error_that_names_the_document(documents):
    model = translating.model()
    model.model.shared.weight.data[translating.tokenizer().convert_tokens_to_ids("j")] = torch.nan

    with pytest.raises(NotFinite, match=r"document 'mine/d\d' in eng_Latn>swh_Latn is NaN"):
        measure(model, translating.tokenizer(), documents, window=100)


def test_what_does_not_fit_is_named(documents):
    with pytest.raises(BadSetting, match=r"a sentence of 'mine/d\d' in .* takes \d+ tokens"):
        measure(translating.model(), translating.tokenizer(), documents, window=9)


def test_a_decoder_has_no_source(documents):
    with pytest.raises(BadModel, match=r"llama is no encoder-decoder"):
        measure(pico.model(), pico.tokenizer(), documents, window=100)


def test_directions_are_those_with_english_and_others_are_named(folder):
    corpus = translation_loss.texts(str(folder))

    assert corpus.languages() == ["eng_Latn>hau_Latn", "hau_Latn>eng_Latn", WAY, BACK]
    corpus.require(["hau_Latn>swh_Latn"])
    with pytest.raises(BadCorpus, match=r"swh_Latn is a language, .* --languages 'swh_Latn>LANG'"):
        corpus.require(["swh_Latn"])
    with pytest.raises(BadCorpus, match="has no text in yor_Latn"):
        corpus.require(["eng_Latn>yor_Latn"])
    with pytest.raises(BadCorpus, match="no sentence of its valid split with one id in"):
        corpus.documents(WAY, "valid")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    opened, folder = translating.opened(), tmp_path_factory.mktemp("model")
    opened.model.save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_language_is_scored_both_ways_on_the_command_line(saved, folder, tmp_path):
    asked: dict[str, Any] = {"on": "translation_loss", "corpus": str(folder)}
    told = commands.evaluate(saved, out=tmp_path / "out", languages="sw,ha>sw", **asked)

    assert {row["language"]: row["documents"] for row in told.rows} == dict.fromkeys(WAYS, 2)
    assert (tmp_path / "out" / "tallies").is_dir()


@pytest.mark.parametrize("on", ["bits_per_byte", "masked", "translation_loss,top1"])
def test_what_needs_one_text_alone_is_refused_with_what_there_is(saved, on, tmp_path, folder):
    with pytest.raises(BadModel, match=r"encoder-decoder, which .* Give --on translation_loss or"):
        commands.evaluate(saved, out=tmp_path / "out", on=on, corpus=str(folder))
