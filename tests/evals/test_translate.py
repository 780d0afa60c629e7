"""Translation against a loop over one sentence at a time without a cache, and against sacrebleu."""

import json
import math
from typing import Any

import pico
import pytest
import torch
import translating
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from transformers import BertConfig, BertLMHeadModel

from babelpress import evals
from babelpress.cli import main
from babelpress.errors import BadCorpus, BadModel, BadSetting, NotFinite
from babelpress.evals import _spoken, translate
from babelpress.evals._parallel import Pair, PairedDocument, open_parallel
from babelpress.evals._translating import translated
from babelpress.evals._writing import ROWS, Prompt, check_writes, write
from babelpress.evals.translate import measure, prompt_of
from babelpress.judge import scores
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import Opened

SENTENCES = {
    "en": ["Water is life.", "The child runs.", "It rained.", "We sing.", "A dog.", "Come!"],
    "sw": ["Maji ni uhai.", "Mtoto anakimbia.", "Mvua ilinyesha.", "Tunaimba.", "Mbwa.", "Njoo!"],
    "th": ["น้ำคือชีวิต", "เด็กวิ่ง", "ฝนตก", "เราร้องเพลง", "หมา", "มา!"],
}  # fmt: skip
LIKELY = {"\n": 1.2}  # what the head adds to the logits of characters: some lines end early
LETTERS = {**dict.fromkeys("aeimnrst ", 3.0), "\n": 2.5}  # and some letters are hit
WINDOW = 400


def written(folder, languages=tuple(SENTENCES), train=2, drop=()):
    """A corpus of six sentences in four documents, the first `train` of which are no test."""
    for language in languages:
        rows = [
            {"id": f"s{at}", "src": "mine", "doc": f"d{at // 2}", "text": text}
            | {"split": "train" if at < train else "test"}
            for at, text in enumerate(SENTENCES[language])
            if (language, at) not in drop
        ]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{language}.jsonl").write_text(lines)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer():
    return pico.tokenizer()


def random_model(family="llama", likely=LIKELY) -> Any:
    """A model whose texts are varied, and that ends a line now and then."""
    model: Any = pico.model(family)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        head = model.get_output_embeddings()
        bias = torch.zeros(pico.VOCABULARY)
        bias[: len(pico.SPECIAL)] = -9.0  # with tied embeddings some write nothing else
        for character, more in likely.items():
            bias[pico.tokenizer()(character, add_special_tokens=False)["input_ids"]] = more
        head.bias = torch.nn.Parameter(bias)
    return model


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture
def documents(tmp_path):
    corpus = translate.texts(written(tmp_path))
    return {tag: corpus.documents(tag, "test") for tag in ("swh_Latn", "tha_Thai")}


def slow_text(model, tokenizer, ids, most, line=True):
    """One prompt, all over again for every token: the likeliest one, to a line end or EOS."""
    new: list[int] = []
    with torch.no_grad():
        while len(new) < most:
            logits = model(torch.tensor([ids + new]), use_cache=False).logits[0, -1].tolist()
            token = logits.index(max(logits))
            if token == tokenizer.eos_token_id:
                break
            new.append(token)
            if line and "\n" in tokenizer.decode(new):
                break
    text = tokenizer.decode(new, skip_special_tokens=True)
    return (text.split("\n")[0] if line else text).strip()


def told(_done, _total):
    pass


# ---- writing -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(pico.FAMILIES))
def test_prompts_side_by_side_are_written_on_as_each_alone(family, tokenizer):
    model = random_model(family, dict.fromkeys("aeimnrst", 2.0))
    texts = ["a", "the rain in Spain", "hello, world", "x" * 40]
    prompts = [
        Prompt(text, [0, *tokenizer(text, add_special_tokens=False)["input_ids"]], 5 + 7 * at)
        for at, text in enumerate(texts)
    ]

    found = write(model, tokenizer, prompts, told=told)

    assert found == [slow_text(model, tokenizer, each.ids, each.most, False) for each in prompts]
    assert len(set(found)) > 2


@pytest.mark.parametrize(
    ("family", "shares"), [("llama", True), ("gemma3", True), ("gpt2", False), ("bloom", False)]
)
def test_where_heads_share_keys_steps_have_another_attention(family, shares, tokenizer):
    """As on processors where a prompt is read with eager attention."""
    model = random_model(family, dict.fromkeys("aeimnrst", 2.0))
    model.set_attn_implementation("eager")
    prompts = [Prompt("x", list(range(3, 8 + 5 * at)), 9) for at in range(3)]
    slow = [slow_text(model, tokenizer, each.ids, each.most, False) for each in prompts]
    seen: dict[int, str] = {}

    def see(_module, _args, given):
        seen[given["input_ids"].shape[1]] = model.config._attn_implementation

    model.register_forward_pre_hook(see, with_kwargs=True)

    assert write(model, tokenizer, prompts, told=told) == slow
    assert seen == {len(prompts[-1].ids): "eager", 1: "sdpa" if shares else "eager"}
    assert model.config._attn_implementation == "eager"


def test_lines_end_where_they_end_and_texts_go_on(model, tokenizer):
    prompts = [Prompt("x", [0, seed + 10], 40) for seed in range(9)]

    lines = write(model, tokenizer, prompts, line=True, told=told)
    texts = write(model, tokenizer, prompts, told=told)

    assert not any("\n" in each for each in lines)
    assert sum("\n" in each for each in texts) > 2
    assert texts == [slow_text(model, tokenizer, each.ids, 40, line=False) for each in prompts]


@pytest.mark.parametrize(("rows", "memory_mb"), [(1, 256), (3, 256), (16, 0)])
def test_how_prompts_are_batched_changes_no_text(model, tokenizer, monkeypatch, rows, memory_mb):
    prompts = [Prompt("x", list(range(3, 8 + 5 * at)), 9) for at in range(5)]
    together = write(model, tokenizer, prompts, told=told)
    monkeypatch.setitem(ROWS, "cpu", rows)
    seen = []

    found = write(model, tokenizer, prompts, memory_mb=memory_mb, told=lambda *at: seen.append(at))

    assert found == together
    assert seen[-1] == (5, 5)
    assert len(seen) == math.ceil(5 / (1 if memory_mb == 0 else rows))


def test_a_text_ends_with_what_the_settings_of_the_model_call_an_end(tokenizer):
    model = random_model(likely=LETTERS)
    prompt = Prompt("x", [0, 20], 30)
    (whole,) = write(model, tokenizer, [prompt], told=told)
    letter = whole[4]
    (end,) = tokenizer(letter, add_special_tokens=False)["input_ids"]
    model.generation_config.eos_token_id = [1, end]

    (found,) = write(model, tokenizer, [prompt], told=told)

    assert len(whole) > 5
    assert found == whole.partition(letter)[0].strip()


def test_a_model_that_sees_later_tokens_does_not_write():
    bert = BertLMHeadModel(
        BertConfig(
            vocab_size=pico.VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
        )
    ).eval()
    torch.nn.init.normal_(bert.get_output_embeddings().weight, std=1.0)

    with pytest.raises(BadModel, match="bert sees later tokens"):
        check_writes(bert)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error_that_names_the_sentence(
    documents, tokenizer, broken
):
    model = random_model()
    token = tokenizer("!", add_special_tokens=False)["input_ids"][0]
    model.get_input_embeddings().weight.data[token] = broken

    with pytest.raises(NotFinite, match="'mine/s5' of swh_Latn are NaN"):
        measure(model, tokenizer, documents, window=WINDOW, shots=1)


# ---- pairs ---------------------------------------------------------------------------------


def test_sentences_of_equal_ids_are_pairs_by_document(tmp_path):
    folder = written(tmp_path, drop=[("sw", 3), ("en", 4)])

    found = open_parallel(folder).documents("swh_Latn", "test")

    assert [(each.id, [p.text for p in each.pairs]) for each in found] == [
        ("mine/d1", ["Mvua ilinyesha."]),
        ("mine/d2", ["Njoo!"]),
    ]
    assert found[0].pairs == (Pair("mine/s2", "Mvua ilinyesha.", "It rained."),)
    assert found[0].text == "Mvua ilinyesha.\nIt rained."


def test_examples_are_of_the_train_split(tmp_path):
    (first, second) = open_parallel(written(tmp_path), examples=8).documents("swh_Latn", "test")

    assert [each.id for each in first.examples] == ["mine/s0", "mine/s1"]
    assert second.examples == first.examples
    assert [pair.id for each in (first, second) for pair in each.pairs] == [
        f"mine/s{at}" for at in (2, 3, 4, 5)
    ]
    assert first.text.startswith("Maji ni uhai.\nWater is life.\nMtoto")


def test_without_a_train_split_the_first_test_sentences_are_examples_and_are_not_scored(tmp_path):
    found = open_parallel(written(tmp_path, train=0), examples=3).documents("swh_Latn", "test")

    assert [each.id for each in found[0].examples] == [f"mine/s{at}" for at in (0, 1, 2)]
    assert [(each.id, [p.id for p in each.pairs]) for each in found] == [
        ("mine/d1", ["mine/s3"]),
        ("mine/d2", ["mine/s4", "mine/s5"]),
    ]


def test_what_has_no_pairs_is_told_in_one_line(tmp_path):
    with pytest.raises(BadCorpus, match=r"6 sentences in swh_Latn .* all are taken as examples"):
        open_parallel(written(tmp_path, train=0), examples=6).documents("swh_Latn", "test")
    with pytest.raises(BadCorpus, match="no sentence of its test split in swh_Latn"):
        open_parallel(written(tmp_path, train=6)).documents("swh_Latn", "test")
    with pytest.raises(BadCorpus, match="English is the other side"):
        open_parallel(str(tmp_path)).require(["eng_Latn"])
    with pytest.raises(BadCorpus, match="no text in hau_Latn"):
        open_parallel(str(tmp_path)).require(["hau_Latn"])
    (tmp_path / "en.jsonl").unlink()
    with pytest.raises(BadCorpus, match="has no English"):
        open_parallel(str(tmp_path)).documents("swh_Latn", "test")


# ---- the score -----------------------------------------------------------------------------


def test_a_prompt_shows_examples_in_the_direction_asked_for():
    example = [Pair("1", "Njoo!", "Come!")]

    into = prompt_of("swh_Latn", "eng_Latn", example, "Tunaimba.")
    out = prompt_of("eng_Latn", "swh_Latn", example, "We sing.")

    assert into == "Swahili: Njoo!\nEnglish: Come!\n\nSwahili: Tunaimba.\nEnglish:"
    assert out == "English: Come!\nSwahili: Njoo!\n\nEnglish: We sing.\nSwahili:"


def test_a_translation_may_be_twice_as_long_as_the_examples_lead_to_expect(
    documents, tokenizer, monkeypatch
):
    asked: list[Prompt] = []

    def nothing(_model, _tokenizer, prompts, **_):
        asked[:] = prompts
        return [""] * len(prompts)

    monkeypatch.setattr(translate, "write", nothing)
    thai = {"tha_Thai": documents["tha_Thai"]}
    measure(random_model(), tokenizer, thai, window=WINDOW, into="both", shots=0)

    # In bytes the examples are 33 and 24 in Thai, and 14 and 15 in English.
    into, out = asked[:2]
    assert [len(each.text.encode()) for each in thai["tha_Thai"][0].examples] == [33, 24]
    assert into.most == math.ceil(2 * (15 / 24) * len("ฝนตก".encode())) + 16
    assert out.most == math.ceil(2 * (33 / 14) * len("It rained.")) + 16


def slow_translations(model, tokenizer, tag, documents, into, shots):
    """Hypothesis and reference of every sentence, by document, one sentence at a time."""

    def size(text):
        return len(text.encode())

    found = []
    examples = documents[0].examples
    for document in documents:
        rows = []
        for pair in document.pairs:
            sides = [(pair.text, pair.english, tag, "eng_Latn")]
            if into == "language":
                sides = [(pair.english, pair.text, "eng_Latn", tag)]
            if into == "both":
                sides.append((pair.english, pair.text, "eng_Latn", tag))
            for source, reference, one, other in sides:
                lengths = [(size(e.text), size(e.english)) for e in examples]
                ratio = max(b / a if other == "eng_Latn" else a / b for a, b in lengths)
                most = math.ceil(2 * ratio * size(source)) + 16
                prompt = prompt_of(one, other, examples[:shots], source)
                ids = [0, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
                rows.append((slow_text(model, tokenizer, ids, most), reference, other))
        found.append(rows)
    return found


@pytest.mark.parametrize(("into", "shots"), [("english", 2), ("language", 0), ("both", 1)])
def test_chrf_is_that_of_sacrebleu_on_what_a_loop_writes(tokenizer, documents, into, shots):
    model = random_model(likely=LETTERS)
    heard: dict[str, Any] = {}

    found = measure(
        model,
        tokenizer,
        documents,
        window=WINDOW,
        into=into,
        shots=shots,
        detail=lambda tag, parts: heard.update({tag: parts}),
    )

    for tag, some in documents.items():
        by_document = slow_translations(model, tokenizer, tag, some, into, shots)
        scorer = CHRF(word_order=2)
        expected = [
            sum(scorer.sentence_score(text, [right]).score for text, right, _ in rows)
            for rows in by_document
        ]
        assert found[tag].numerator_D.tolist() == pytest.approx(expected)
        assert found[tag].denominator_D.tolist() == [len(rows) for rows in by_document]
        assert found[tag].documents == ("mine/d1", "mine/d2")
        rows = [row for rows in by_document for row in rows if row[2] == by_document[0][0][2]]
        whole = scorer.corpus_score([row[0] for row in rows], [[row[1] for row in rows]]).score
        way = "into English" if rows[0][2] == "eng_Latn" else "out of English"
        assert heard[tag][f"{way}: corpus"] == pytest.approx(whole)
    assert found["swh_Latn"].value > 0


def test_bleu_parts_words_as_the_script_of_the_translation_asks(monkeypatch, tokenizer):
    """What a model says is given, for a random one never hits a word."""
    said = {"en": "The small child runs home .", "th": "เด็กวิ่งกลับบ้านแล้ว"}
    documents = {
        "tha_Thai": [
            PairedDocument("d", (Pair("s", "เด็กวิ่งกลับบ้านช้า", "The small child runs away."),))
        ]
    }

    for into, text, words in (("english", said["en"], "13a"), ("language", said["th"], "char")):
        monkeypatch.setattr(translate, "write", lambda *_, text=text, **__: [text])
        tally = measure(
            random_model(), tokenizer, documents, window=WINDOW, metric="bleu", into=into, shots=0
        )["tha_Thai"]
        pair = documents["tha_Thai"][0].pairs[0]
        right = pair.english if into == "english" else pair.text
        scorer = BLEU(tokenize=words, effective_order=True)
        assert tally.value == pytest.approx(scorer.sentence_score(text, [right]).score)
        assert 0 < tally.value < 100


def test_what_is_off_target_is_told_and_what_is_on_target_counted(monkeypatch, tokenizer):
    documents = {
        "tha_Thai": [
            PairedDocument("a", (Pair("1", "ฝนตก", "It rained."), Pair("2", "มา!", "Come!"))),
            PairedDocument("b", (Pair("3", "เด็กวิ่ง", "The child runs."),)),
        ]
    }
    said = ["ฝนตกหนัก", "come here", ""]
    monkeypatch.setattr(translate, "write", lambda *_, **__: said)
    heard: dict[str, Any] = {}

    tally = measure(
        random_model(),
        tokenizer,
        documents,
        window=WINDOW,
        metric="on_target",
        into="language",
        shots=0,
        detail=lambda _, parts: heard.update(parts),
    )["tha_Thai"]

    assert tally.numerator_D.tolist() == [1, 0]
    assert tally.denominator_D.tolist() == [2, 1]
    assert heard == {
        "out of English: off target": pytest.approx(2 / 3),
        "out of English: in Latn": pytest.approx(1 / 3),
        "out of English: in nothing": pytest.approx(1 / 3),
    }


# ---- options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "rouge"}, "no metric 'rouge'. Choose one of chrf, bleu, on_target"),
        ({"into": "french"}, "no into 'french'. Choose one of english, language, both"),
        ({"shots": 9}, "shots is 9. It must be a whole number from 0 to 8"),
        ({"shots": "many"}, "shots is many. It must be a whole number"),
        ({"shots": 3}, "there are 2 pairs to be examples of swh_Latn. Give --option shots=2"),
        ({"shots": 2, "window": 150}, r"with 2 examples.* Give --option shots=1 or"),
        ({"shots": 2, "window": 40}, "Give shorter text or"),
    ],
)
def test_options_that_cannot_be_met_are_refused(model, tokenizer, documents, options, said):
    with pytest.raises(BadSetting, match=said):
        measure(model, tokenizer, documents, **{"window": WINDOW, **options})


def test_what_it_declares():
    assert evals.facts("translate") == ("chrf", "translation score", False, False)
    assert evals.options("translate") == {"metric": "chrf", "into": "english", "shots": 4}
    assert evals.metric("translate", {"metric": "bleu"}) == "bleu"
    assert evals.metric("translate", {}) == "chrf"


def test_scores_hang_on_the_signature_of_sacrebleu_and_on_who_tells_languages(monkeypatch):
    monkeypatch.setattr(_spoken, "version", lambda _: "9.9")
    scorer = CHRF(word_order=2)
    scorer.sentence_score("a", ["a"])

    chrf = evals.made_with("translate", {})
    bleu = evals.made_with("translate", {"metric": "bleu"})

    assert chrf == {
        "sacrebleu": str(scorer.get_signature()),
        "search": "likeliest token",
        "languages": "py3langid 9.9",
    }
    assert all(f"tok:{words}" in bleu["sacrebleu"] for words in ("13a", "char", "zh"))
    on_target = evals.made_with("translate", {"metric": "on_target"})
    assert on_target == {"search": "likeliest token", "languages": "py3langid 9.9"}
    with pytest.raises(BadSetting, match="no metric 'ter'"):
        evals.made_with("translate", {"metric": "ter"})
    assert evals.made_with("bits_per_byte", {}) == {}


def test_scores_of_another_metric_stand_in_rows_under_its_name(tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    corpus, out = written(tmp_path / "corpus"), tmp_path / "out"
    opened = Opened("pico", random_model(), pico.tokenizer(), torch.float32)

    def rows(**options):
        asked = EvaluationSettings(
            on=("translate",), corpus=corpus, languages=("sw",), window=WINDOW,
            options={"shots": 1, **options},
        )  # fmt: skip
        (row,) = evaluate(opened, out, asked)
        return row

    chrf, other = rows(), rows(metric="on_target")

    assert (chrf["metric"], other["metric"]) == ("chrf", "on_target")
    assert chrf["denominator"] == other["denominator"] == 4
    assert "sacrebleu" not in scores.identity_of(out, "translate", corpus)["made_with"]
    assert rows() == chrf
    assert "version:" in scores.identity_of(out, "translate", corpus)["made_with"]["sacrebleu"]
    assert "into English: off target" in scores.sites(out, "translate", corpus)["swh_Latn"]


def test_the_command_translates_pairs_and_sets_english_aside(tmp_path, capsys):
    (tmp_path / "corpus").mkdir()
    corpus = written(tmp_path / "corpus")
    model = random_model()
    model.save_pretrained(tmp_path / "pico")
    pico.tokenizer().save_pretrained(tmp_path / "pico")
    words = ["eval", str(tmp_path / "pico"), "--on", "translate", "--corpus", corpus]
    words += ["--option", "shots=0", "--json"]

    refused = main([*words, "--languages", "en"])
    line = json.loads(capsys.readouterr().out)["error"]
    code = main([*words, "--languages", "sw,en"])
    told = capsys.readouterr()
    (row,) = json.loads(told.out)["results"]

    assert (refused, code) == (2, 0)
    assert "English is the other side of every pair" in line
    assert "English is what translate compares with; it has no score of its own." in told.err
    assert (row["language"], row["metric"], row["documents"]) == ("swh_Latn", "chrf", 2)


# ---- encoder-decoders ----------------------------------------------------------------------


@torch.no_grad()
def slow_translation(model, way, text, most):
    """Greedy, one sentence without a cache: the target's token, then the likeliest ones."""
    tokenizer = translating.tokenizer()
    tokenizer.src_lang, target = way
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    new = [model.config.decoder_start_token_id, tokenizer.convert_tokens_to_ids(target)]
    while len(new) < 2 + most:
        logits_V = model(ids, decoder_input_ids=torch.tensor([new]), use_cache=False).logits[0, -1]
        token = int(logits_V.argmax())
        if token == tokenizer.eos_token_id:
            break
        new.append(token)
    return tokenizer.decode(new[2:], skip_special_tokens=True).strip()


def eager(model):
    """A model that writes letters, and ends its text now and then; its head is its own."""
    head, config = model.lm_head, model.config
    lot = torch.Generator().manual_seed(4)
    bias_V = torch.zeros(len(head.weight))
    bias_V[translating.tokenizer().all_special_ids] = -9.0
    bias_V[config.eos_token_id] = 2.0
    head.weight = torch.nn.Parameter(0.5 * torch.randn(head.weight.shape, generator=lot))
    head.bias = torch.nn.Parameter(bias_V)
    return model


def test_an_encoder_decoder_translates_as_sentence_by_sentence(tmp_path, monkeypatch):
    corpus = translate.texts(str(translating.written(tmp_path / "text", test=6)))
    corpus._examples = 1
    documents = corpus.documents("swh_Latn", "test")
    model, written_down = eager(translating.model()), []
    monkeypatch.setattr(
        translate, "_scores", lambda *given: written_down.append(given) or [0.0] * len(given[1])
    )

    measure(model, translating.tokenizer(), {"swh_Latn": documents}, window=40, into="both")

    ((_, tasks, found, _),) = written_down
    pairs, lengths = [pair for each in documents for pair in each.pairs], set()
    assert len(tasks) == 2 * len(pairs) == 10
    for task, text in zip(tasks, found, strict=True):
        expected = slow_translation(model, (task.source, task.target), task.text, 38)
        assert text == expected[: len(text)] and (text == expected or len(text) > 16)
        lengths.add(len(text))
    assert len(lengths) > 2


OWN = [
    {"no_repeat_ngram_size": 1},
    {"repetition_penalty": 4.0},
    {"min_length": 30},
    {"max_length": 4, "forced_eos_token_id": 2},
    {"num_beams": 3, "length_penalty": 5.0, "early_stopping": True},
]


@pytest.mark.parametrize("own", OWN, ids=lambda own: next(iter(own)))
def test_a_models_own_ways_to_search_change_no_translation(own):
    model, tokenizer = eager(translating.model()), translating.tokenizer()
    model.lm_head.bias.data[2] = 0.0  # it goes on longer, and says the same again
    texts = ["maji ni uhai", "mbwa", "njoo hapa", "mtoto anakimbia"]
    expected = [slow_translation(model, ("swh_Latn", "eng_Latn"), text, 20) for text in texts]
    model.generation_config.update(**own)
    before = model.generation_config.to_dict()

    tokenizer.src_lang = "swh_Latn"
    sources = [Prompt(text, tokenizer(text)["input_ids"], 20) for text in texts]
    forced = tokenizer.convert_tokens_to_ids("eng_Latn")
    found = translated(model, tokenizer, sources, forced, told=lambda *_: None)

    assert found == expected
    assert any(len(text) > 10 for text in found)
    assert model.generation_config.to_dict() == before


def test_what_a_model_never_says_stays_unsaid():
    model, tokenizer = eager(translating.model()), translating.tokenizer()
    model.lm_head.bias.data[2] = 0.0
    tokenizer.src_lang = "swh_Latn"
    sources = [Prompt("mbwa", tokenizer("mbwa")["input_ids"], 20)]
    forced = tokenizer.convert_tokens_to_ids("eng_Latn")
    (text,) = translated(model, tokenizer, sources, forced, told=lambda *_: None)
    often = max(text.replace(" ", ""), key=text.count)

    model.generation_config.bad_words_ids = [[tokenizer.convert_tokens_to_ids(often)]]
    (other,) = translated(model, tokenizer, sources, forced, told=lambda *_: None)

    assert often in text and often not in other


def test_what_an_encoder_decoder_cannot_say_is_named(tmp_path):
    corpus = translate.texts(str(translating.written(tmp_path / "text", test=6)))
    corpus._examples = 1
    documents = {"swh_Latn": corpus.documents("swh_Latn", "test")}
    model, tokenizer = translating.model(), translating.tokenizer()

    with pytest.raises(BadSetting, match=r"sentence 'mine/s\d' of swh_Latn takes \d+ tokens"):
        measure(model, tokenizer, documents, window=9)
    model.model.decoder.layer_norm.weight.data[0] = torch.nan
    with pytest.raises(NotFinite, match=r"the logits after 'mine/s\d' of swh_Latn are NaN"):
        measure(model, tokenizer, documents, window=100)
    with pytest.raises(BadSetting, match="no token for yor_Latn"):
        measure(model, tokenizer, {"yor_Latn": documents["swh_Latn"]}, window=100)
