"""A rule that goes by measured losses in pruning and quantizing steps: sizes, words, resuming."""

import json

import pico
import pytest
import torch
from pressing import dense_moments
from running import content, do, plan, quantizing, refusal, weights
from safetensors.torch import load_file

import babelpress as bp
from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.calibrate import calibrate
from babelpress.numerics.patterns import parse
from babelpress.press.blocks import press_block
from babelpress.press.codes import CodesFolder
from babelpress.press.method import Pruner
from babelpress.report.card import card
from babelpress.report.told import tell
from babelpress.runs import run
from babelpress.runs.estimate import estimate
from babelpress.runs.manifest import read
from babelpress.steps import KINDS, _choosing, _tabling
from babelpress.steps._tabling import Measure
from babelpress.sweeps.passing import why_not
from babelpress.text.draw import draw
from babelpress.text.held_out import hold_out
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = {"languages": ["swh_Latn", "hin_Deva"], "tokens": 256, "length": 64}
FEW = {"trades": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A llama of three blocks that are not alike, and that change what they pass on by much."""
    folder = tmp_path_factory.mktemp("models") / "uneven"
    torch.manual_seed(0)
    uneven = pico.model()
    config = uneven.config
    config.num_hidden_layers = 3
    uneven = type(uneven)(config)
    with torch.no_grad():
        for index, block in enumerate(uneven.model.layers):
            for name, parameter in block.named_parameters():
                if name.endswith("_proj.weight"):
                    parameter.mul_((2, 12, 6)[index])
    uneven.save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def pruning(model, **step):
    step = {"allocate": "minimax", "allocation": FEW, "pattern": "0.5", **step}
    return plan(model, step, **TEXT)


def rounding(model, **step):
    step = {"allocate": "minimax", "allocation": FEW, "method": "rtn", "bits": 3, **step}
    asked = quantizing(model, **step).model_dump(mode="json")
    return type(plan(model)).model_validate({**asked, "calibration": TEXT})


@pytest.fixture(scope="module")
def pruned(model, tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "pruned"
    do(pruning(model), out)
    torch.set_num_threads(threads)
    return out


def table_of(folder):
    return read(folder).steps[-1].model_dump()["table"]


def by_table(table, chosen):
    """The worst language's sum."""
    return max(
        sum(of_block[each] for of_block, each in zip(rows, chosen, strict=True))
        for rows in table["loss"].values()
    )


def worst_of(table, chosen):
    """The worst language's measured loss."""
    return next(max(e["loss"].values()) for e in table["tried"] if e["chosen"] == chosen)


def zeros_of(folder):
    """Zeros of every linear by block."""
    found = {}
    for name, each in weights(folder).items():
        if name.endswith("_proj.weight"):
            _, _, block, linear = name.split(".", 3)
            found.setdefault(linear, {})[int(block)] = int((each == 0).sum())
    return found


# ---- pruning -------------------------------------------------------------------------------


def test_blocks_differ_and_every_linear_loses_what_the_pattern_asks(model, pruned):
    first = "model.layers.0."
    shapes = {
        n.removeprefix(first): e.shape for n, e in load_file(model / "model.safetensors").items()
    }

    table, found = table_of(pruned), zeros_of(pruned)

    for linear, zeros in found.items():
        assert sum(zeros.values()) == 3 * parse("0.5").count(*shapes[linear])
    assert len(set(table["chosen"])) > 1
    options, got = table["options"], [table["options"][each] for each in table["chosen"]]
    assert options == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert sum(got) == pytest.approx(1.5)
    gone = read(pruned).steps[-1].model_dump()["allocated"]
    assert [1 - each for each in gone] == pytest.approx(got, abs=0.02)  # whole weights of a row


def test_the_choice_is_the_best_by_the_table_and_measured_no_worse_than_even_blocks(pruned):
    table = table_of(pruned)
    even = [2, 2, 2]

    assert by_table(table, table["by_table"]) <= by_table(table, even)
    assert worst_of(table, table["chosen"]) <= worst_of(table, even)
    assert worst_of(table, table["chosen"]) == min(
        max(each["loss"].values()) for each in table["tried"]
    )
    for each in (table["chosen"], table["by_table"], even):
        size = sum(row[o] for row, o in zip(table["sizes"], each, strict=True))
        assert size <= table["budget"] == 3 * 7680 / 2
    assert len(table["tried"]) <= 2 + FEW["trades"]


def test_the_table_is_that_of_blocks_pressed_alone(model, tmp_path):
    allocation = {"densities": "0.25,0.5,0.75", "trades": 0}
    do(pruning(model, allocation=allocation), tmp_path / "run")
    opened, asked = open_model(str(model)), CalibrationSettings.model_validate(TEXT)
    drawn = draw(opened, asked)
    held = hold_out(opened, asked, TEXT["languages"], 512, read=drawn.manifest)
    apart = _tabling.text_of(opened, {tag: each.blocks for tag, each in held.items()})
    walk = Walk(opened.model)
    moments, shares = dense_moments(walk, drawn.blocks), dict.fromkeys(TEXT["languages"], 0.5)

    def press():
        press_block(walk, 1, moments[1], Pruner.of("wanda", "0.75"), shares, {})

    alone = Measure.of(walk, apart).of_all([lambda: None, press, lambda: None])

    table = table_of(tmp_path / "run")
    found = {tag: rows[1][0] for tag, rows in table["loss"].items()}
    assert found == pytest.approx(alone, rel=1e-5)
    assert len({tuple(row) for rows in table["loss"].values() for row in rows}) == 6


def test_text_held_out_takes_nothing_from_the_calibration_and_is_told(model, pruned):
    table = table_of(pruned)

    opened, asked = open_model(str(model)), CalibrationSettings.model_validate(TEXT)
    manifest = draw(opened, asked).manifest
    held = hold_out(opened, asked, TEXT["languages"], 512, read=manifest)
    assert table["split"] == {tag: each.split for tag, each in held.items()}
    assert table["tokens"] == {tag: each.tokens for tag, each in held.items()}
    step = read(pruned).steps[-1].model_dump()
    assert step["calibration"]["languages"] == manifest["languages"]
    told = tell(read(pruned).steps[-1])
    (line,) = [each for each in told.lines if each.startswith("minimax: ")]
    assert "nats a token" in line
    assert "with all blocks alike, on text held out; " in line
    assert [each.title for each in told.listings] == ["what minimax gave each block"]
    assert [row[0] for row in told.listings[0].rows] == ["0", "1", "2"]
    zeros = zeros_of(pruned).values()
    assert told.listings[0].head[1] == "share of its weights that went"
    for block, row in enumerate(told.listings[0].rows):  # of 7680 weights, not of an option
        assert row[1] == f"{sum(each[block] for each in zeros) / 7680:.4g}"
    words = card(pruned)
    assert "0.5; by block as minimax says" in words
    assert "What minimax gave each block." in words


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("sparsegpt", {"propagate": "dense"}),
        ("wanda", {"propagate": "compressed", "pattern": "0.29/layer"}),
        ("ria", {"pattern": "2of4", "options": {"permute": True}}),
    ],
)
def test_any_method_pattern_and_way_to_feed_blocks_keeps_the_totals(model, tmp_path, method, step):
    asked = pruning(model, method=method, **step)

    found = do(asked, tmp_path / "run")["steps"][0]

    plain = do(
        pruning(model, method=method, allocate="uniform", allocation={}, **step), tmp_path / "x"
    )
    assert found["zeros"] == plain["steps"][0]["zeros"]
    own, same = zeros_of(tmp_path / "run"), zeros_of(tmp_path / "x")
    assert {n: sum(z.values()) for n, z in own.items()} == {
        n: sum(z.values()) for n, z in same.items()
    }


def test_densities_are_those_asked_for_and_what_is_skipped_counts_nowhere(model, tmp_path):
    allocation = {"densities": "0.25,0.5,0.75", "trades": 0}

    do(pruning(model, allocation=allocation, skip=["*down_proj", "*o_proj"]), tmp_path / "run")

    table, zeros = table_of(tmp_path / "run"), zeros_of(tmp_path / "run")
    assert table["options"] == [0.25, 0.5, 0.75]
    assert set(zeros["mlp.down_proj.weight"].values()) == {0}
    assert table["budget"] == 3 * (7680 - 32 * 48 - 32 * 32) / 2
    assert len(table["tried"]) <= 2  # by the table, and even


def test_where_everything_is_skipped_nothing_is_measured(model, tmp_path):
    words = refusal(BadSetting, do, pruning(model, skip=["*"]), tmp_path / "run")

    assert words == "--skip * leaves nothing to press. Skip fewer sites."


def test_experts_that_stay_as_they_are_count_nowhere(tmp_path):
    folder = tmp_path / "experts"
    pico.model("qwen3_moe").save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)

    step = do(pruning(folder, min_tokens=190), tmp_path / "run")["steps"][0]

    pressed = [each for each in step["sites"] if each["zeros"]]
    assert step["experts"]["left"]
    assert len(pressed) < len(step["sites"])
    assert step["zeros"] == sum(each["weights"] for each in pressed) / 2


# ---- moments of a folder -------------------------------------------------------------------


@pytest.fixture(scope="module")
def moments(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("moments") / "moments"
    return calibrate(
        open_model(str(model)), CalibrationSettings.model_validate(TEXT), out, gram=True
    )


def sentence(tag, split, n):
    return f"{tag} {split} {n} says some words, {n * 7} of them or more, then others."


def write(folder, lines):
    """A corpus of documents by split, the same number in every language."""
    folder.mkdir()
    for tag in TEXT["languages"]:
        rows = [
            {"id": f"{split}{n}", "lang": tag, "src": "s", "doc": f"{split}{n}", "split": split}
            | {"text": text}
            for split, texts in lines(tag).items()
            for n, text in enumerate(texts)
        ]
        (folder / f"{tag}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def leaking(tag):
    """Train text that is all calibrated on; valid text has one line of it and one of the test."""
    train, valid, test = ([sentence(tag, s, n) for n in range(9)] for s in ("train", "valid", "x"))
    valid[3] = f"{valid[3]}\n{train[2]}\n{test[5]}"
    return {"train": train, "valid": valid, "test": test}


@pytest.fixture(scope="module")
def leaks(tmp_path_factory):
    return write(tmp_path_factory.mktemp("corpora") / "leaks", leaking)


ALL = {"languages": TEXT["languages"], "tokens": 4096, "length": 64}


def measured_on(monkeypatch):
    """The texts that tables are measured on from now on, by language."""
    found = []
    real = _tabling.text_of

    def text_of(opened, blocks):
        found.append(
            {
                tag: opened.tokenizer.decode(each.ids_BT[each.counted_BT].tolist())
                for tag, each in blocks.items()
            }
        )
        return real(opened, blocks)

    monkeypatch.setattr(_tabling, "text_of", text_of)
    return found


@pytest.mark.parametrize("saved", [False, True])
def test_lines_calibrated_on_or_of_the_test_split_are_not_measured_on(
    model, leaks, tmp_path, monkeypatch, saved
):
    text = CalibrationSettings.model_validate({**ALL, "corpus": str(leaks)})
    step = {"allocation": {"trades": 0, "tokens": 4096}}
    asked = pruning(model, **step).model_copy(update={"calibration": text})
    if saved:
        calibrate(open_model(str(model)), text, tmp_path / "moments", gram=True)
        asked = pruning(model, moments=str(tmp_path / "moments"), **step)
    texts = measured_on(monkeypatch)

    do(asked, tmp_path / "run")

    for tag in TEXT["languages"]:
        assert sentence(tag, "valid", 4) in texts[0][tag]
        assert "train" not in texts[0][tag]
        assert f"{tag} x 5" not in texts[0][tag]
    table = table_of(tmp_path / "run")
    assert table["corpus"] == str(leaks)
    assert table["split"] == dict.fromkeys(TEXT["languages"], "valid")


def test_with_moments_losses_are_those_without_on_more_of_the_same_text(model, moments, tmp_path):
    do(pruning(model, moments=str(moments.folder)), tmp_path / "of_folder")
    do(pruning(model, propagate="dense"), tmp_path / "alone")

    assert table_of(tmp_path / "of_folder") == table_of(tmp_path / "alone")


@pytest.mark.parametrize("make", [pruning, rounding])
def test_moments_of_a_corpus_that_is_gone_or_another_are_refused(model, tmp_path, make):
    corpus = write(tmp_path / "corpus", leaking)
    text = CalibrationSettings.model_validate({**ALL, "corpus": str(corpus)})
    folder = tmp_path / "moments"
    calibrate(open_model(str(model)), text, folder, gram=True)
    start = f"--allocate minimax needs more of the text that {folder} was made of: "
    one = corpus / "swh_Latn.jsonl"

    one.write_text(one.read_text().replace("words", "sounds"))
    words = refusal(BadCorpus, do, make(model, moments=str(folder)), tmp_path / "run")
    assert words.startswith(start)
    assert "not what it was" in words
    one.unlink()
    words = refusal(
        BadCorpus,
        bp.prune,
        str(model),
        out=tmp_path / "run",
        moments=str(folder),
        allocate="minimax",
    )
    assert words.startswith(start)
    assert not (tmp_path / "run" / "manifest.json").exists()


# ---- quantizing ----------------------------------------------------------------------------


def stored(manifest):
    parts = manifest["ledger"]["parts"]
    return next(part["bytes_stored"] for part in parts if part["part"] == "blocks")


@pytest.mark.parametrize(
    ("method", "step"), [("rtn", {}), ("gptq", {"symmetric": False}), ("awq", {})]
)
def test_codes_take_no_more_than_where_all_blocks_have_the_same_bits(model, tmp_path, method, step):
    found = do(rounding(model, method=method, **step), tmp_path / "run")

    even = do(
        rounding(model, method=method, allocate="uniform", allocation={}, **step), tmp_path / "x"
    )
    assert stored(found) <= stored(even)
    table, codes = table_of(tmp_path / "run"), CodesFolder.open(tmp_path / "run" / "codes")
    bits = [table["options"][each] for each in table["chosen"]]
    for name in codes.names():
        assert codes.load(name).bits == bits[int(name.split(".")[2])]
        assert torch.equal(
            codes.load(name).dequantize(), weights(tmp_path / "run")[f"{name}.weight"]
        )
    assert table["options"] == [2, 3, 4, 8]
    size = sum(row[o] for row, o in zip(table["sizes"], table["chosen"], strict=True))
    assert (
        size
        == 8
        * sum(int(r["bytes_stored"]) for r in found["ledger"]["parts"] if r["part"] == "blocks")
        - 8 * 4 * 2 * 3 * 32
    )  # the norms of three blocks
    assert worst_of(table, table["chosen"]) <= worst_of(table, [1, 1, 1])


def test_bits_of_blocks_are_told(model, tmp_path):
    found = do(rounding(model, allocation={"bits": "2,4", "trades": 0}, bits=3), tmp_path / "run")

    step, table = found["steps"][0], table_of(tmp_path / "run")
    got = [table["options"][each] for each in table["chosen"]]
    assert sorted(set(got)) in ([], [2], [2, 4])
    named = "".join(f", {bits} bits in block {block}" for block, bits in enumerate(got))
    assert step["grid"] == f"3 bits, group 16, clip mse{named.replace(',', ';', 1)}"
    told = tell(read(tmp_path / "run").steps[-1])
    assert told.how == f"{step['grid']}; by block as minimax says"
    (line,) = [each for each in told.lines if each.startswith("minimax: ")]
    assert "with all blocks alike" in line
    assert len(told.listings) == bool(got)


@pytest.mark.parametrize("alike", ["best", "worst"])
@pytest.mark.parametrize(
    ("make", "step"),
    [
        (pruning, {"allocation": {"densities": "0.25,0.75", "trades": 2}}),
        (rounding, {"allocation": {"bits": "2,8", "trades": 2}, "bits": 4}),
        (pruning, {"allocation": {"densities": "0.25,0.5,0.75", "trades": 2}}),
        (rounding, {"allocation": {"bits": "2,3,4", "trades": 2}, "bits": 3}),
    ],
)
def test_all_blocks_alike_are_measured_first_and_taken_where_nothing_does_better(
    model, tmp_path, monkeypatch, make, step, alike
):
    measured = []

    def counted(*_given):
        measured.append(10.0 if alike == "worst" and not measured else 1.0 + len(measured))
        return dict.fromkeys(TEXT["languages"], measured[-1])

    uniform = {**step, "allocate": "uniform", "allocation": {}}
    do(make(model, **uniform), tmp_path / "uniform")
    with monkeypatch.context() as patch:
        patch.setattr(Measure, "of_all", counted)
        do(make(model, **step), tmp_path / "run")

    table = table_of(tmp_path / "run")
    asked_is_an_option = table["asked"] in table["options"]
    assert table["tried"][0]["chosen"] == table["plain"]
    assert bool(table["plain"]) == asked_is_an_option
    told = tell(read(tmp_path / "run").steps[-1])
    assert "with all blocks alike" in "".join(told.lines)
    if alike == "worst":
        assert table["chosen"] != table["plain"]
    else:
        assert table["chosen"] == table["plain"]
        own, same = weights(tmp_path / "run"), weights(tmp_path / "uniform")
        assert all(torch.equal(own[name], each) for name, each in same.items())


# ---- killed --------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "done"), [("table: block", 2), ("whole models: measured", 1)])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_was_measured_is_not_measured_again_and_the_bytes_are_the_same(
    model, pruned, tmp_path, monkeypatch, what, done, error
):
    def stop(where, at, _total):
        if where.endswith(what) and at == done:
            raise error

    with pytest.raises(error):
        run.do(pruning(model), tmp_path / "run", progress=stop)
    (left,) = (tmp_path / "run" / "steps").glob(f".*/training/{_choosing.TABLE}")
    kept = json.loads(left.read_text())
    assert len(kept["blocks"]) == (2 if "table" in what else 3)
    measured = []
    of_block = Measure.of_block
    monkeypatch.setattr(
        Measure, "of_block", lambda *given: measured.append(given[1]) or of_block(*given)
    )

    do(pruning(model), tmp_path / "run")

    assert measured == ([2] if "table" in what else [])
    assert content(tmp_path / "run") == content(pruned)


def test_a_table_of_other_work_is_not_taken(model, tmp_path):
    def stop(where, at, _total):
        if where.endswith("table: block") and at == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.do(pruning(model), tmp_path / "run", progress=stop)
    other = pruning(model, pattern="0.25")

    do(other, tmp_path / "run")

    do(other, tmp_path / "fresh")
    assert content(tmp_path / "run") == content(tmp_path / "fresh")


# ---- words, estimate, refusals -------------------------------------------------------------


def test_the_commands_take_it(model, tmp_path):
    text = {"languages": "swh_Latn,hin_Deva", "tokens": 256, "length": 64}
    bp.prune(str(model), allocate="minimax", allocate_option="trades=0", out=tmp_path / "p", **text)
    bp.quantize(
        str(model),
        method="rtn",
        bits=3,
        group=16,
        allocate="minimax",
        allocate_option=["trades=0", "bits=2,3,4"],
        out=tmp_path / "q",
        **text,
    )

    assert table_of(tmp_path / "q")["options"] == [2, 3, 4]
    assert len(table_of(tmp_path / "p")["chosen"]) == 3


def test_it_is_estimated_too(model):
    (found,) = estimate(pruning(model))
    (plain,) = estimate(pruning(model, allocate="uniform", allocation={}))

    assert found.phases["table"] > 0
    assert "table" not in plain.phases


def test_it_is_said_before_it_is_done():
    settings = KINDS.module("quantize").Settings(allocate="minimax", bits=3)

    said = KINDS.module("quantize").say(settings)

    assert said == "gptq 3 bits, group 128, clip mse, by block as minimax says, uniform"


def test_moments_are_shared_with_others_and_read_twice():
    settings = KINDS.module("prune").Settings(allocate="minimax", propagate="dense")

    assert settings.looks_twice
    assert settings.shares_moments
    for propagate in ("dense", "compressed"):
        assert "looks at all blocks" in why_not(pruning("any", propagate=propagate))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"densities": "0.6,0.7"}, "and 0.5 asks for 0.5 in the mean. Give some that is smaller."),
        (
            {"bits": "2,4"},
            "minimax's bits has no effect here: pruning has densities. Give densities.",
        ),
        ({"tokens": 1}, "tokens is 1: losses need at least 2 of each language."),
        ({"trades": -1}, "trades is -1. Give how many are measured at most, or 0 for none."),
        ({"tokens": 1.5}, "minimax's option tokens must be of the type int, as 512; it is 1.5."),
        ({"spread": 0.1}, "minimax has no option spread."),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_opened(model, step, said):
    assert said in refusal(BadSetting, pruning, model, allocation=step)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"allocation": {"bits": "4,8"}}, "asks for 3 in the mean"),
        ({"allocation": {"densities": "0.5,1"}}, "quantization has bits. Give bits."),
        (
            {"bits_by_block": {0: 8}},
            "--bits-by-block and --allocate minimax both say what blocks get.",
        ),
        ({"allocate": "owl", "allocation": {}}, "owl says how many weights of a block go, not how"),
    ],
)
def test_bits_that_make_no_sense_are_refused_before_anything_is_opened(model, step, said):
    assert said in refusal(BadSetting, rounding, model, **step)


@pytest.mark.parametrize("make", [pruning, rounding])
def test_two_searches_by_measured_loss_are_not_done_in_one_step(model, make):
    said = refusal(BadSetting, make, model, mixture="measured")

    assert "and are not done in one step. Give one of them." in said


def test_a_model_without_next_tokens_is_refused(tmp_path):
    folder = tmp_path / "tags"
    pico.model("xlm_roberta").save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)

    words = refusal(BadModel, do, pruning(folder), tmp_path / "run")

    assert "does not predict next or hidden tokens of one text" in words


@pytest.mark.parametrize("corpus", ["self", "translation:embedded"])
def test_text_that_nothing_can_be_held_out_of_is_refused(model, tmp_path, corpus):
    asked = plan(model, {"allocate": "minimax"}, corpus=corpus)

    words = refusal(BadSetting, run.do, asked, tmp_path / "run")

    assert words.startswith("--allocate minimax is found on plain text that was not read, and ")
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_corpus_that_is_read_whole_is_refused_before_blocks_are_looked_at(
    model, tmp_path, monkeypatch
):
    corpus = write(tmp_path / "text", lambda tag: {"train": leaking(tag)["train"]})
    text = CalibrationSettings.model_validate({**ALL, "corpus": str(corpus)})
    asked = pruning(model, mixture="minimax").model_copy(update={"calibration": text})
    monkeypatch.setattr(_choosing, "seen_of", None)

    words = refusal(BadCorpus, do, asked, tmp_path / "run")

    assert "has no text of swh_Latn, hin_Deva that the calibration has not read" in words


def test_a_later_step_is_refused_before_the_first_is_done(model, tmp_path):
    asked = plan(model, {"allocate": "minimax"}, corpus="self")
    second = asked.steps[0]
    first = pruning(model, allocate="uniform", allocation={}).steps[0]

    words = refusal(
        BadSetting,
        run.do,
        asked.model_copy(update={"steps": (first, second)}),
        tmp_path / "run",
    )

    assert words.startswith("--allocate minimax is found on plain text")
