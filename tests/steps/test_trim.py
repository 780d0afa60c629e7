"""A trimming step: rows, ids and files of every kind of tokenizer, floors, chains, refusals."""

import json
import unicodedata

import pico
import pytest
import torch
import trimming
from running import content, do, refusal, weights
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ByT5Tokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
)

from babelpress.commands.pressing import press
from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals import bits_per_byte
from babelpress.models import tokenizers
from babelpress.models.open import open_model
from babelpress.models.tokenizers import encode
from babelpress.report.card import card
from babelpress.report.told import tell
from babelpress.runs import recipe, run
from babelpress.runs.manifest import read
from babelpress.runs.open import open_any
from babelpress.steps import _trimming
from babelpress.steps.trim import Report
from babelpress.text.corpus import Document

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
SPARE = 5  # rows that no token has
ASKED = ("swh_Latn", "hin_Deva")
MODELS = {
    "byte_level_bpe": (LlamaForCausalLM, LlamaConfig, pico._GROUPED),
    "sentencepiece_bpe": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {**pico._GROUPED, "layer_types": ["full_attention", "full_attention"]},
    ),
    "unigram": (
        MT5ForConditionalGeneration,
        MT5Config,
        {**pico._T5, "tie_word_embeddings": False, "decoder_start_token_id": 0},
    ),
    "wordpiece": (BertForMaskedLM, BertConfig, pico._ENCODER),
}
every = pytest.mark.parametrize("kind", trimming.KINDS)


def saved(kind, folder, **options):
    """A random model of a kind of tokenizer, in a folder."""
    tokenizer = trimming.tokenizer(kind, **({"mask_token": "<unk>"} if kind == "wordpiece" else {}))
    made, config, shape = MODELS[kind]
    torch.manual_seed(0)
    model = made(config(**{**shape, **IDS, "vocab_size": len(tokenizer) + SPARE, **options}))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of every kind of tokenizer."""
    place = tmp_path_factory.mktemp("models")
    return {kind: saved(kind, place / kind) for kind in trimming.KINDS}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Text of three languages: what is valid is seen in train too, but for the last lines."""
    folder = tmp_path_factory.mktemp("text")
    for tag in (*ASKED, "amh_Ethi"):
        lines = [line for each in trimming.texts(tag) for line in each.splitlines()]
        splits = {"train": lines[:-4], "valid": [*lines[:8], *lines[-4:]], "test": lines[-2:]}
        rows = [
            json.dumps({"id": f"{split}{n}", "split": split, "text": line}, ensure_ascii=False)
            for split, some in splits.items()
            for n, line in enumerate(some)
        ]
        (folder / f"{tag}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "de.jsonl").write_text("no JSON")
    return folder


def plan(model, text, *after, **step):
    asked = {"corpus": str(text), "languages": list(ASKED), **step}
    return recipe.of({"model": str(model), "steps": [{"trim": asked}, *after]})


@pytest.fixture(scope="module")
def trimmed(models, text, tmp_path_factory):
    """A run of every kind, with all that the text uses."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("runs")
    for kind, model in models.items():
        do(plan(model, text), place / kind)
    torch.set_num_threads(threads)
    return {kind: place / kind for kind in models}


def report(folder):
    """What the last step of a run left behind."""
    return json.loads((folder / "manifest.json").read_text())["steps"][-1]


def used(text, tag="swh_Latn", split="train"):
    rows = map(json.loads, (text / f"{tag}.jsonl").read_text(encoding="utf-8").splitlines())
    return [row["text"] for row in rows if row["split"] == split]


# ---- what a run leaves -----------------------------------------------------------------------


@every
def test_a_trimmed_model_is_an_ordinary_folder_with_the_same_ids_rows_and_logits(
    kind, models, trimmed, text
):
    """Held against the untrimmed model as transformers opens both."""
    old = AutoTokenizer.from_pretrained(models[kind])
    new = AutoTokenizer.from_pretrained(trimmed[kind] / "model")
    lines = [line for tag in ASKED for line in used(text, tag)]
    numbers = old.get_vocab()
    one_to_one = {numbers[token]: number for token, number in new.get_vocab().items()}
    for line in lines:
        assert new(line).input_ids == [one_to_one[each] for each in old(line).input_ids]

    before, after = (
        AutoModel.from_pretrained(each) for each in (models[kind], trimmed[kind] / "model")
    )
    rows_VH, kept_KH = (each.get_input_embeddings().weight for each in (before, after))
    assert len(kept_KH) == len(new) < len(old)
    for old_id, new_id in one_to_one.items():
        assert torch.equal(kept_KH[new_id], rows_VH[old_id])
    told = report(trimmed[kind])
    assert told["pieces"] == kind
    assert told["tokens"] == [len(old) + SPARE, len(new)]
    for tag in ASKED:
        held = told["held"][tag]
        assert held["logits"]["states"] is True
        assert held["logits"]["equal"] == held["logits"]["numbers"] > 0
        assert held["whole"] >= 8
        assert held["same"] == held["whole"]
        assert held["lines"] == 12
        assert held["logits"]["rose"] == 0
    assert told["coverage"] == dict.fromkeys(ASKED, 1.0)


@every
def test_configs_say_how_many_tokens_there_are_and_which_are_special(kind, models, trimmed):
    config = json.loads((trimmed[kind] / "model" / "config.json").read_text())
    new = AutoTokenizer.from_pretrained(trimmed[kind] / "model")

    assert config["vocab_size"] == len(new)
    assert new.convert_ids_to_tokens(config["eos_token_id"]) == "<eos>"
    assert new.convert_ids_to_tokens(config["pad_token_id"]) == "<pad>"
    assert open_any(str(trimmed[kind])).replaced == ""


LATE = {"eos": "<end>", "bos": "<begin>", "pad": "<fill>"}


@pytest.fixture
def late(request, tmp_path):
    """A model whose marks stand behind all pieces, so that every number of theirs is another."""
    kind = request.param
    tokenizer = trimming.tokenizer(kind, **({"mask_token": "<unk>"} if kind == "wordpiece" else {}))
    tokenizer.add_special_tokens({f"{each}_token": mark for each, mark in LATE.items()})
    ids = {f"{each}_token_id": tokenizer.convert_tokens_to_ids(LATE[each]) for each in LATE}
    more = {"decoder_start_token_id": ids["pad_token_id"]} if kind == "unigram" else {}
    made, config, shape = MODELS[kind]
    model = made(config(**{**shape, **ids, **more, "vocab_size": len(tokenizer) + SPARE}))
    model.generation_config = GenerationConfig(**ids, suppress_tokens=[ids["bos_token_id"]])
    model.save_pretrained(tmp_path / "late")
    tokenizer.save_pretrained(tmp_path / "late")
    settings = json.loads((tmp_path / "late" / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {
        str(number): {"content": token, "special": True}
        for token, number in tokenizer.get_added_vocab().items()
    }
    (tmp_path / "late" / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path / "late"


@pytest.mark.parametrize(
    ("kind", "late"), [(each, each) for each in trimming.KINDS], indirect=["late"]
)
def test_every_file_says_the_numbers_that_the_new_tokenizer_gives(kind, late, text, tmp_path):
    do(plan(late, text), tmp_path / "run")

    folder = tmp_path / "run" / "model"
    old, new = (AutoTokenizer.from_pretrained(each).get_vocab() for each in (late, folder))
    config, settings = (
        json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer_config.json")
    )
    for each, mark in LATE.items():
        assert new[mark] < old[mark]
        assert config[f"{each}_token_id"] == new[mark]
    added = {each["content"]: int(n) for n, each in settings["added_tokens_decoder"].items()}
    assert added == {token: new[token] for token in added}
    assert set(LATE.values()) <= added.keys()
    if kind != "wordpiece":  # what fills gaps is no decoder, and has no such file
        generation = json.loads((folder / "generation_config.json").read_text())
        ids = {each: generation[f"{each}_token_id"] for each in LATE}
        assert ids == {each: new[mark] for each, mark in LATE.items()}
        assert generation["suppress_tokens"] == [new["<begin>"]]


@pytest.mark.parametrize("late", ["byte_level_bpe"], indirect=True)
def test_a_tokenizer_that_is_not_read_as_it_was_made_is_one_line(late, text, tmp_path, monkeypatch):
    def read_with_one_more(*arguments):
        found = tokenizers.read_tokenizer(*arguments)
        found.tokenizer.add_tokens(["one more"])
        return found

    monkeypatch.setattr(_trimming, "read_tokenizer", read_with_one_more)
    line = refusal(BadModel, do, plan(late, text), tmp_path / "run")

    assert "has other tokens as" in line
    assert not (tmp_path / "run").exists()


def test_a_language_that_was_not_asked_for_is_told_of_too(trimmed):
    held = report(trimmed["byte_level_bpe"])["held"]

    assert set(held) == {*ASKED, "amh_Ethi"}
    _, listing = tell(read(trimmed["byte_level_bpe"]).steps[-1]).listings
    assert [row[0] for row in listing.rows] == ["hin_Deva", "swh_Latn", "(amh_Ethi)"]
    other = held["amh_Ethi"]
    assert other["logits"] is None
    assert other["coverage"] < 0.5
    assert other["tokens_per_byte"][1] > other["tokens_per_byte"][0]
    assert other["read"] == other["lines"]  # in more pieces, but whole
    assert report(trimmed["byte_level_bpe"])["unread"] == ["deu_Latn"]
    assert report(trimmed["wordpiece"])["held"]["amh_Ethi"]["unknown"][1] > 0.5


def test_the_test_split_is_never_counted(trimmed, text):
    told = report(trimmed["byte_level_bpe"])

    for tag in ASKED:
        assert told["text"][tag]["bytes"] == sum(len(each.encode()) for each in used(text, tag))
        assert told["held"][tag]["split"] == "valid"


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_bits_per_byte_of_text_that_is_kept_whole_are_never_more(kind, models, trimmed, text):
    """The same numerators over fewer words: what is left out was only ever wrong."""
    documents = {
        tag: [
            Document(f"{n}", tag, "", "test", each) for n, each in enumerate(used(text, tag)[:12])
        ]
        for tag in ASKED
    }
    both = [open_model(str(each)) for each in (models[kind], trimmed[kind] / "model")]

    dense, small = (
        bits_per_byte.measure(each.model, each.tokenizer, documents, window=128) for each in both
    )

    for tag in ASKED:
        assert (small[tag].numerator_D < dense[tag].numerator_D).all()
        assert (small[tag].denominator_D == dense[tag].denominator_D).all()


def test_only_rows_of_tokens_are_gone_and_the_ledger_says_so(models, trimmed):
    kind = "byte_level_bpe"
    dense = LlamaForCausalLM.from_pretrained(models[kind]).state_dict()
    small = weights(trimmed[kind])
    told = report(trimmed[kind])

    changed = {name for name in small if small[name].shape != dense[name].shape}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}
    assert all(torch.equal(small[name], dense[name]) for name in small.keys() - changed)
    assert told["ledger"]["parameters"] == sum(each.numel() for each in small.values())
    before, after = told["tokens"]
    saved_bytes = sum(each.nbytes for each in dense.values()) - sum(
        each.nbytes for each in small.values()
    )
    assert saved_bytes == (before - after) * told["row_bytes"]


def test_the_same_recipe_gives_the_same_bytes(models, trimmed, text, tmp_path):
    do(plan(models["unigram"], text), tmp_path / "again")

    assert content(tmp_path / "again") == content(trimmed["unigram"])


# ---- sizes and floors ------------------------------------------------------------------------


def test_a_size_is_kept_and_no_language_is_below_the_floor(models, text, tmp_path):
    asked = plan(models["byte_level_bpe"], text, size=470, floor=0.5)

    told = do(asked, tmp_path / "run")["steps"][0]

    assert told["tokens"][1] <= 470
    assert min(told["coverage"].values()) >= 0.5
    assert max(told["coverage"].values()) - min(told["coverage"].values()) < 0.05
    sizes = [point["tokens"] for point in told["points"]]
    assert sizes == sorted(sizes)
    assert told["tokens"][1] in sizes
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert found.config.vocab_size == told["tokens"][1]
    line = used(text)[0]
    new = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert new.decode(new(line, add_special_tokens=False).input_ids) == line


def test_room_that_the_text_leaves_goes_to_the_lowest_ids_in_its_scripts(
    models, trimmed, text, tmp_path
):
    kind = "byte_level_bpe"
    whole = AutoTokenizer.from_pretrained(models[kind])
    used = AutoTokenizer.from_pretrained(trimmed[kind] / "model").get_vocab()

    told = do(plan(models[kind], text, size=len(used) + 30), tmp_path / "run")["steps"][0]

    kept = AutoTokenizer.from_pretrained(tmp_path / "run" / "model").get_vocab()
    assert len(used) < told["tokens"][1] <= len(used) + 30
    assert used.keys() < kept.keys()
    ids = whole.get_vocab()
    last = max(ids[token] for token in kept.keys() - used.keys())
    passed_by = [token for token in ids if token not in kept and ids[token] < last]
    read = [whole.backend_tokenizer.decoder.decode([token]) for token in passed_by]
    assert passed_by
    names = {unicodedata.name(each[-1], "").split()[0] for each in read}
    assert names - {"REPLACEMENT"} == {"ETHIOPIC"}  # and bytes that are no whole character
    assert min(told["coverage"].values()) == 1.0


def test_room_that_nothing_fills_is_told(models, text, tmp_path):
    """The whole vocabulary has tokens of scripts that the text has not."""
    kind = "byte_level_bpe"
    size = len(AutoTokenizer.from_pretrained(models[kind])) - 1
    do(plan(models[kind], text, size=size), tmp_path / "run")

    report = read(tmp_path / "run").steps[0]

    kept = report.tokens[1]  # type: ignore[attr-defined]
    assert kept < size
    assert f"{kept:,} stay, fewer than --size {size:,}: " in " ".join(tell(report).lines)
    whole = report.model_copy(update={"step": {**report.step, "size": kept}})
    assert "fewer than --size" not in " ".join(tell(whole).lines)


def test_a_floor_that_a_size_cannot_meet_names_the_least_that_does(models, text, tmp_path):
    model = models["sentencepiece_bpe"]
    line = refusal(BadSetting, do, plan(model, text, size=550, floor=0.9), tmp_path / "no")

    least = int(line.split(" is the least in this order")[0].rpartition(" ")[2])
    floor = float(line.rpartition("--floor ")[2].removesuffix("."))
    assert not (tmp_path / "no").exists()
    assert line.startswith("--size 550 leaves ")
    refusal(BadSetting, do, plan(model, text, size=least - 1, floor=0.9), tmp_path / "no")
    told = do(plan(model, text, size=least, floor=0.9), tmp_path / "run")["steps"][0]
    assert told["tokens"][1] == least
    assert do(plan(model, text, size=550, floor=floor), tmp_path / "low")
    as_few = do(plan(model, text, floor=0.9), tmp_path / "few")["steps"][0]
    assert as_few["tokens"] == told["tokens"]


def test_a_size_without_room_for_what_always_stays_is_one_line(models, text, tmp_path):
    asked = plan(models["byte_level_bpe"], text, size=100)

    line = refusal(BadSetting, do, asked, tmp_path / "run")

    assert "--size 100 has no room for the " in line
    assert "tokens that stay whatever the text uses" in line


# ---- what always stays -----------------------------------------------------------------------


def test_what_a_template_writes_placeholders_and_prompts_stay_as_asked(text, tmp_path):
    tokenizer = trimming.tokenizer(
        "byte_level_bpe", chat_template="{{ messages[0].content }} njoo ready"
    )
    tokenizer.add_tokens(["<unused0>", "<unused1>"], special_tokens=True)
    model = saved("byte_level_bpe", tmp_path / "model", vocab_size=len(tokenizer) + SPARE)
    tokenizer.save_pretrained(model)
    asked = {"languages": ["hin_Deva"], "also": "the water"}

    kept = do(plan(model, text, **asked), tmp_path / "kept")["steps"][0]
    bare = do(plan(model, text, placeholders=False, **asked), tmp_path / "bare")["steps"][0]

    assert kept["placeholders"] == 2
    assert bare["tokens"][1] == kept["tokens"][1] - 2
    new = AutoTokenizer.from_pretrained(tmp_path / "bare" / "model")
    assert "<unused0>" not in new.get_vocab()
    for words in ("the water", "a njoo ready"):
        expected = tokenizer(words, add_special_tokens=False).tokens()
        assert new(words, add_special_tokens=False).tokens() == expected


def test_a_row_that_a_config_names_and_no_token_has_stays(text, tmp_path):
    rows = len(trimming.tokenizer("byte_level_bpe")) + SPARE
    model = saved("byte_level_bpe", tmp_path / "model", eos_token_id=[1, rows - 1])

    told = do(plan(model, text), tmp_path / "run")["steps"][0]

    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["eos_token_id"] == [1, told["tokens"][1] - 1]
    last = weights(tmp_path / "run")["lm_head.weight"][-1]
    assert torch.equal(last, weights_of(model)["lm_head.weight"][-1])


def weights_of(folder):
    return LlamaForCausalLM.from_pretrained(folder).state_dict()


# ---- chains ----------------------------------------------------------------------------------


def test_a_trimmed_model_is_pruned_and_quantized_in_one_recipe(models, text, trimmed, tmp_path):
    steps = [{"prune": {"method": "magnitude"}}, {"quantize": {"group": 16, "method": "rtn"}}]
    data = plan(models["byte_level_bpe"], text, *steps).model_dump(mode="json")
    data["calibration"] |= {"corpus": str(text), "languages": ["sw"], "tokens": 64, "length": 32}

    manifest = do(recipe.of(data), tmp_path / "run")

    assert [each["kind"] for each in manifest["steps"]] == ["trim", "prune", "quantize"]
    rows = trimmed["byte_level_bpe"]
    assert (
        weights(tmp_path / "run")["lm_head.weight"].shape == weights(rows)["lm_head.weight"].shape
    )
    data |= {"model": str(rows), "steps": [steps[1]]}
    assert len(do(recipe.of(data), tmp_path / "after")["before"]) == 1
    line = refusal(BadModel, run.do, plan(tmp_path / "after", text), tmp_path / "no")
    assert "no step can follow its quantize" in line


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"quantize": {}}, {"trim": {}}], "quantize must be the last step"),
        ([{"trim": {}}, {"trim": {}}], "trim stands twice, and it gives tokens other numbers"),
        ([{"trim": {}}, {"prune": {"moments": "m"}}], "prune cannot have moments after trim"),
        ([{"trim": {}}, {"distill": {"student": "s"}}], "distill cannot have student after trim"),
    ],
)
def test_orders_that_make_no_sense_are_one_line_before_anything_is_done(steps, words):
    line = refusal(BadSetting, recipe.of, {"model": "tiny", "steps": steps})

    assert words in line


def test_moments_before_a_trimming_are_fine():
    steps = [{"prune": {"moments": "m"}}, {"trim": {}}]

    assert recipe.of({"model": "tiny", "steps": steps}).steps[1].kind == "trim"


def test_a_plan_says_what_it_will_take_and_makes_nothing(models, text, tmp_path):
    asked = plan(models["byte_level_bpe"], text, size=600).model_dump(mode="json")
    model = asked.pop("model")

    told = press(model, asked, out=tmp_path / "run", dry_run=True)

    assert told.says[0].startswith("step 1: trim to 600 tokens, floor 0.99 of ")
    assert told.says[1].startswith("step 1: about ")
    assert not (tmp_path / "run").exists()


# ---- what it is told in, and what it leaves as -------------------------------------------------


def test_the_card_has_the_trade_off_and_the_proof(trimmed):
    words = card(trimmed["byte_level_bpe"])

    assert "trim to " in words
    assert "| (amh\\_Ethi) |" in words
    assert "MiB saved" in words
    assert "equal bit for bit" in words
    assert "- sw\n" in words
    assert "- hi\n" in words


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"states": False}, "swh_Latn (states before the head differ, logits up to 0 apart)"),
        ({"states": False, "equal": 0, "apart": 0.25}, "differ, logits up to 0.25 apart)"),
        ({"equal": 0, "apart": 0.25}, "swh_Latn (logits up to 0.25 apart)"),
        ({"equal": 0, "apart": float("nan")}, "swh_Latn (logits up to nan apart)"),
        ({"equal": 0, "apart": 1e-7}, ""),
        ({}, ""),
    ],
)
def test_a_proof_that_fails_is_a_warning_and_rounding_is_none(trimmed, found, words):
    step = read(trimmed["byte_level_bpe"]).steps[-1].model_copy(deep=True)
    assert isinstance(step, Report)
    assert 0 < step.held["swh_Latn"]["logits"]["rounding"] < 1e-3
    step.held["swh_Latn"]["logits"] |= found

    told = tell(step)

    lines = [line for line in told.warnings if "Not what the untrimmed model computes" in line]
    assert len(lines) == bool(words)
    assert all(words in line and "hin_Deva" not in line for line in lines)
    assert told.note is not None
    assert "same logits" not in told.note[1]
    assert "was measured" in told.note[1]


def test_a_trimmed_model_is_written_for_llama_cpp(trimmed, text, tmp_path):
    gguf = pytest.importorskip("gguf")
    from babelpress.commands.exporting import export

    export(str(trimmed["byte_level_bpe"]), format="gguf", out=tmp_path / "out")

    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    new = AutoTokenizer.from_pretrained(trimmed["byte_level_bpe"] / "model")
    fields = reader.fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert tokens == new.convert_ids_to_tokens(range(len(new)))
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    merges = json.loads(new.backend_tokenizer.to_str())["model"]["merges"]
    assert fields["tokenizer.ggml.merges"].contents() == [" ".join(each) for each in merges]
    shapes = {each.name: list(each.shape) for each in reader.tensors}
    assert shapes["token_embd.weight"] == [32, len(new)]


# ---- bad input ---------------------------------------------------------------------------------


def test_what_cannot_be_trimmed_is_one_line_and_leaves_nothing(models, text, tmp_path):
    model = models["byte_level_bpe"]
    slow = tmp_path / "slow"
    pico.model("t5").save_pretrained(slow)
    ByT5Tokenizer(extra_ids=0).save_pretrained(slow)
    per_layer = tmp_path / "per_layer"
    pico.model("gemma4").save_pretrained(per_layer)
    pico.tokenizer().save_pretrained(per_layer)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "sw.jsonl").write_text('{"text": "a", "split": "test"}')
    cases = [
        (plan(slow, text), BadModel, "(ByT5Tokenizer) has no tokenizer.json"),
        (plan(per_layer, text), BadModel, "has embeddings of tokens in every layer"),
        (plan(model, text, languages=["fr"]), BadCorpus, "fr"),
        (plan(model, empty, languages=["sw"]), BadCorpus, "has no train text in swh_Latn to count"),
        (plan(model, text, corpus="self"), BadCorpus, "is no text to count pieces of"),
    ]
    for asked, kind, words in cases:
        assert words in refusal(kind, do, asked, tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"size": 0}, "size"),
        ({"floor": 1.5}, "floor"),
        ({"characters": "some"}, "--characters some is neither scripts nor all"),
    ],
)
def test_settings_that_cannot_be_are_one_line(step, words):
    assert words in refusal(BadSetting, plan, "tiny", "text", **step)


def test_a_tokenizer_that_cannot_be_rewritten_is_known_before_a_step_is_done(
    models, text, tmp_path
):
    """Pruning stands before it, and is not done."""
    model = tmp_path / "model"
    LlamaForCausalLM.from_pretrained(models["byte_level_bpe"]).save_pretrained(model)
    trimming.tokenizer("byte_level_bpe").save_pretrained(model)
    rules = json.loads((model / "tokenizer.json").read_text())
    rules["model"]["dropout"] = 0.5
    (model / "tokenizer.json").write_text(json.dumps(rules))
    data = plan(model, text).model_dump(mode="json")
    data["steps"] = [{"prune": {"method": "magnitude"}}, *data["steps"]]
    said = []

    line = refusal(
        BadModel, run.do, recipe.of(data), tmp_path / "run", progress=lambda *at: said.append(at)
    )

    assert "BPE has dropout=0.5" in line
    assert not any("prune" in what for what, *_ in said)


def test_marks_in_text_are_text_as_before(models, trimmed):
    old, new = (
        open_model(str(each))
        for each in (models["byte_level_bpe"], trimmed["byte_level_bpe"] / "model")
    )
    words = ["<eos> <bos>"]

    one, other = (encode(each.tokenizer, words)["input_ids"][0] for each in (old, new))

    assert 1 not in other
    assert new.tokenizer.decode(other) == old.tokenizer.decode(one) == words[0]
