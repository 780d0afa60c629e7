"""The mixture that is found by pressing and scoring: against slow plain loops, and end to end."""

import json
import math
from typing import Any

import pico
import pytest
import running
import torch
import yaml
from killing import killed_before
from running import LANGUAGES, TEXT, content, do, plan, quantizing, refusal, same_weights
from transformers import AutoModelForCausalLM

from babelpress.commands.pressing import step as command
from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.models.open import open_model
from babelpress.moments.calibrate import calibrate
from babelpress.report import card
from babelpress.report.told import tell
from babelpress.runs import manifest, recipe, run
from babelpress.runs.estimate import estimate
from babelpress.steps import _measured
from babelpress.steps._pressing import Measured
from babelpress.sweeps import passing
from babelpress.text.draw import draw
from babelpress.text.held_out import hold_out
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
# The second of three rounds is the best, and no two have the same shares.
ROUNDS = {"mixture": "measured", "measured": {"rounds": 3, "tokens": 128}}
ASKED = {"pattern": "0.5", **ROUNDS}
DENSE = {**ASKED, "propagate": "dense"}


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    return running.loud(tmp_path_factory.mktemp("models") / "loud")


@pytest.fixture(scope="module")
def whole(loud, tmp_path_factory):
    """A run with the mixture, and its manifest."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, do(plan(loud, DENSE), folder)


@pytest.fixture(scope="module")
def moments(loud, tmp_path_factory):
    out = tmp_path_factory.mktemp("moments") / "moments"
    calibrate(open_model(str(loud)), CalibrationSettings.model_validate(TEXT), out, gram=True)
    return out


def scorings(monkeypatch):
    """Something for every time that text is scored from now on."""
    scored = []
    real = _measured.nats
    monkeypatch.setattr(
        _measured, "nats", lambda *given, **more: scored.append(1) or real(*given, **more)
    )
    return scored


# ---- what the rounds are -------------------------------------------------------------------


@torch.no_grad()
def slow_nats(folder, blocks):
    """Token by token: what a saved model makes of the next one."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = {}
    for tag, ids_BT in blocks.items():
        lost = []
        for ids_T in ids_BT:
            read = [int(i) for i in ids_T if int(i) != 2]  # without padding
            logits_TV = model(torch.tensor([read])).logits[0].double()
            for place in range(len(read) - 1):
                row = logits_TV[place]
                lost.append(float(row.logsumexp(0) - row[read[place + 1]]))
        found[tag] = sum(lost) / len(lost)
    return found


@pytest.mark.parametrize(
    "asked",
    [
        lambda model: plan(model, DENSE),
        lambda model: plan(model, {"method": "sparsegpt", "pattern": "1of4", **ROUNDS}),
        lambda model: plan(model, {"allocate": "owl", **DENSE}),
        lambda model: quantizing(model, method="awq", bits=2, **ROUNDS),
    ],
)
def test_it_is_a_plain_loop_of_runs_with_given_shares(loud, tmp_path, asked):
    opened, text = open_model(str(loud)), CalibrationSettings.model_validate(TEXT)
    held = hold_out(opened, text, LANGUAGES, 128, read=draw(opened, text).manifest)
    blocks = {tag: each.blocks.ids_BT for tag, each in held.items()}
    dense = slow_nats(loud, blocks)
    plan_of = asked(loud)

    found = do(plan_of, tmp_path / "run")["steps"][0]

    p = dict.fromkeys(LANGUAGES, 1 / 3)
    worst = {}
    for number, row in enumerate(found["trace"]):
        assert row["shares"] == pytest.approx(p, rel=1e-3)
        (tmp_path / "shares.yaml").write_text(yaml.safe_dump(row["shares"]))
        data = plan_of.model_dump(mode="json")
        (step,) = data["steps"][0].values()
        step["mixture"] = str(tmp_path / "shares.yaml")
        out = tmp_path / f"round-{number}"
        do(recipe.of(data), out)
        now = slow_nats(out / "model", blocks)
        lost = {tag: now[tag] / dense[tag] - 1 for tag in LANGUAGES}
        assert row["lost"] == pytest.approx(lost, rel=1e-4, abs=1e-6)
        assert row["worst"] == pytest.approx(max(lost.values()), rel=1e-4, abs=1e-6)
        assert row["mean"] == pytest.approx(sum(lost.values()) / 3, rel=1e-4, abs=1e-6)
        worst[number] = max(row["lost"].values())
        x = {tag: max(each, 0) for tag, each in row["lost"].items()}
        mean = sum(x.values()) / 3
        p = {tag: row["shares"][tag] * math.exp(x[tag] / mean - 1) for tag in p} if mean else p
        p = {tag: each / sum(p.values()) for tag, each in p.items()}
    best = min(worst, key=lambda number: worst[number])
    assert found["mixture"]["shares"] == found["trace"][best]["shares"]
    assert same_weights(tmp_path / "run", tmp_path / f"round-{best}")
    told = {tag: (row["tokens"], row["split"]) for tag, row in found["held_out"].items()}
    assert told == {tag: (each.tokens, each.split) for tag, each in held.items()}
    nats = {tag: row["nats"] for tag, row in found["held_out"].items()}
    assert nats == pytest.approx(dense, rel=1e-5)


LETTERS = {"eng_Latn": "abcdefghijklmnop", "swh_Latn": "qrstuvwxyzABCDEF"}
QUIET = 0.3  # of the second language, beside the first


def lookup(folder):
    """A model that knows which letter follows which, a neuron of the first block for each.

    Its second language lies in a quieter part of the stream, where a weight does less to outputs
    and as much to what is said. Only those weights of `down_proj` are not zero.
    """
    model: Any = pico.model()
    tokenizer = pico.tokenizer()
    for name, each in model.named_parameters():
        each.data.fill_(1.0 if "norm" in name else 0.0)
    table, head = model.get_input_embeddings().weight.data, model.lm_head.weight.data
    mlp = model.model.layers[0].mlp
    for language, (tag, letters) in enumerate(LETTERS.items()):
        loud = QUIET if language else 1.0
        for place, letter in enumerate(letters):
            own, after = 16 * language + place, 16 * language + (place + 5) % 16
            token = tokenizer(letter, add_special_tokens=False)["input_ids"][0]
            table[token, own], head[token, own] = loud, 2.0
            mlp.gate_proj.weight.data[own, own] = mlp.up_proj.weight.data[own, own] = 1.0
            mlp.down_proj.weight.data[after, own] = loud * 0.1 * (1 + place / 16)
        assert tag
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    text = folder / "text"
    text.mkdir()
    for tag, letters in LETTERS.items():
        texts = ["".join(letters[(n + 5 * k) % 16] for k in range(40)) for n in range(16)] * 4
        records = (
            {"doc": f"d{n}", "src": "s", "split": "train", "text": each + "." * (n // 16)}
            for n, each in enumerate(texts)
        )
        (text / f"{tag}.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
    return str(folder / "model"), str(text)


def test_a_language_that_uniform_shares_ruin_is_found_shares_that_help(tmp_path):
    model, text = lookup(tmp_path)
    step = {
        "pattern": "0.987/layer",  # 20 of 32 weights stay
        "skip": "self_attn.*,*gate_proj+up_proj",
        "propagate": "dense",
        "mixture": "measured",
        "measured": {"tokens": 512, "rounds": 4},
    }
    calibration = {"corpus": text, "tokens": 1024, "length": 32}
    asked = {"model": model, "calibration": calibration, "steps": [{"prune": step}]}

    found = do(recipe.of(asked), tmp_path / "run")["steps"][0]

    first = found["trace"][0]["lost"]
    assert first["eng_Latn"] < 0.05 and first["swh_Latn"] > 1  # more than twice the loss
    kept = min(found["trace"], key=lambda row: row["worst"])
    assert kept["worst"] < 0.7 * first["swh_Latn"]
    assert found["mixture"]["shares"] == kept["shares"]
    assert kept["shares"]["swh_Latn"] > 0.7


def test_the_best_round_is_kept_and_not_the_last(loud, tmp_path, monkeypatch):
    planned = [(2.0, 2.0, 2.0), (2.2, 3.0, 2.1), (2.4, 2.6, 2.5), (2.8, 2.1, 2.2)]
    left = iter(planned)
    monkeypatch.setattr(
        _measured, "nats", lambda *_, **__: dict(zip(LANGUAGES, next(left), strict=True))
    )

    found = do(plan(loud, DENSE), tmp_path / "run")["steps"][0]

    worst = [row["worst"] for row in found["trace"]]
    assert worst == [pytest.approx(0.5), pytest.approx(0.3), pytest.approx(0.4)]
    assert found["mixture"]["shares"] == found["trace"][1]["shares"]
    (tmp_path / "shares.yaml").write_text(yaml.safe_dump(found["trace"][1]["shares"]))
    given = {**DENSE, "mixture": str(tmp_path / "shares.yaml")}
    do(plan(loud, given), tmp_path / "given")
    assert same_weights(tmp_path / "run", tmp_path / "given")


def test_shares_that_do_not_move_are_not_tried_again(loud, tmp_path, monkeypatch):
    scored = scorings(monkeypatch)

    found = do(plan(loud, DENSE, languages=["swh_Latn"]), tmp_path / "run")["steps"][0]

    assert [row["shares"] for row in found["trace"]] == 3 * [{"swh_Latn": 1.0}]
    assert len(scored) == 2  # before, and once


def test_moments_of_a_folder_find_the_same(loud, whole, moments, tmp_path):
    folder, found = whole

    other = do(plan(loud, {**ASKED, "moments": str(moments)}), tmp_path / "run")

    assert other["steps"][0]["trace"] == found["steps"][0]["trace"]
    assert same_weights(tmp_path / "run", folder)


def test_what_lies_on_disk_finds_the_same(loud, whole, tmp_path):
    do(plan(loud, DENSE), tmp_path / "run", offload=True)

    assert content(tmp_path / "run") == content(whole[0])


def test_an_encoder_is_scored_by_hidden_tokens(tmp_path):
    pico.model("bert").save_pretrained(tmp_path / "model")
    tokenizer = pico.tokenizer()
    tokenizer.mask_token = "<pad>"
    tokenizer.save_pretrained(tmp_path / "model")

    found = do(plan(tmp_path / "model", ASKED), tmp_path / "run")["steps"][0]
    again = do(plan(tmp_path / "model", ASKED), tmp_path / "again")["steps"][0]

    assert len(found["trace"]) == 3
    assert found["trace"] == again["trace"]


# ---- going on ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 2, 4, 6, 9, 14, 22])
def test_killed_before_a_write_it_goes_on_to_the_same_bytes(loud, whole, tmp_path, number):
    assert killed_before(number, lambda: run.do(plan(loud, DENSE), tmp_path / "run"))

    do(plan(loud, DENSE), tmp_path / "run")

    assert content(tmp_path / "run") == content(whole[0])


def test_rounds_that_are_done_are_not_done_again(loud, whole, tmp_path, monkeypatch):
    def stop(what, done, total):
        if what == "prune: measured: round" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.do(plan(loud, DENSE), tmp_path / "run", progress=stop)
    scored, said = scorings(monkeypatch), []
    run.do(plan(loud, DENSE), tmp_path / "run", progress=lambda *at: said.append(at[0]))

    assert len(scored) == 2  # before, and the third round
    assert "prune: resuming: the rounds so far stand" in said
    assert content(tmp_path / "run") == content(whole[0])
    assert not list((tmp_path / "run").rglob("training"))


def test_rounds_of_another_recipe_do_not_stand(loud, tmp_path, monkeypatch):
    def stop(what, done, total):
        if what == "prune: measured: round" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.do(plan(loud, {**DENSE, "pattern": "1of4"}), tmp_path / "run", progress=stop)
    scored = scorings(monkeypatch)
    do(plan(loud, DENSE), tmp_path / "run")

    assert len(scored) == 4


def test_everything_that_is_told_of_is_told_to_its_end(loud, tmp_path):
    told = {}
    lines = []

    def hear(what, done, total):
        if total:
            told.setdefault(what, []).append((done, total))
        else:
            lines.append(what)

    run.do(plan(loud, DENSE), tmp_path / "run", progress=hear)

    rounds = [f"round {n} of 3" for n in (1, 2, 3)]
    whats = {f"{each}: {what}" for each in rounds for what in ("block", "loss: language")}
    whats |= {"before: loss: language", "measured: round", "calibrate: block", "block"}
    assert told.keys() == {f"prune: {what}" for what in whats}
    for what, steps in told.items():
        total = 2 if what.endswith("block") else 3
        assert steps == [(done, total) for done in range(total + 1)], what
    assert [line.partition("loss")[0] for line in lines] == [f"prune: {each}: " for each in rounds]
    assert "the worst" in lines[0] and "in the mean, the best so far" in lines[0]


# ---- how it is told ------------------------------------------------------------------------


def test_terminal_and_card_tell_of_the_rounds(whole):
    folder, found = whole
    report = manifest.read(folder).steps[0]

    told = tell(report)

    (line,) = (each for each in told.lines if "text held out" in each)
    by_language, by_round = told.listings
    assert {row[0] for row in by_language.rows} == {*LANGUAGES}
    first, kept = found["steps"][0]["trace"][0], found["steps"][0]["mixture"]["shares"]
    assert by_language.rows[0][0] == max(first["lost"], key=lambda tag: first["lost"][tag])
    assert by_language.rows[0][4] == f"{100 * first['worst']:+.2f}"
    assert [row[6] for row in by_language.rows] == [
        f"{100 * kept[row[0]]:.1f}" for row in by_language.rows
    ]
    assert [row[3] for row in by_round.rows].count("kept") == 1
    page = card.card(folder)
    assert line.startswith("Round 2 of 3 is kept. Loss on text held out, uniform shares to these:")
    assert "Round 2 of 3 is kept" in page
    assert by_language.title[1:] in page and by_round.title[1:] in page


# ---- what it will take ---------------------------------------------------------------------


def test_an_estimate_counts_rounds(loud, moments):
    def seconds(rounds, **step):
        asked = {**ASKED, "measured": {"rounds": rounds, "tokens": 128}, **step}
        (told,) = estimate(plan(loud, asked))
        return told.phases["measured"]

    for step in ({"propagate": "dense"}, {}, {"moments": str(moments)}):
        assert seconds(40, **step) > 5 * seconds(2, **step) > 0
    (plain,) = estimate(plan(loud))
    assert "measured" not in plain.phases


def test_a_pass_with_others_leaves_it_out(loud):
    assert "looks at all blocks" in passing.why_not(plan(loud, DENSE))


# ---- what does not fit ---------------------------------------------------------------------


def test_what_nothing_can_be_held_out_of_is_refused(loud, moments, tmp_path, monkeypatch):
    out = tmp_path / "run"
    for corpus in ("self", "translation:embedded"):
        words = refusal(BadSetting, run.do, plan(loud, ASKED, corpus=corpus), out)
        assert f"plain text that was not read, and the calibration reads {corpus}" in words
    words = refusal(BadCorpus, run.do, plan(loud, ASKED, tokens=1 << 16, evaluation=None), out)
    assert "has no text of" in words and "--tokens" in words
    assert not out.exists()


def test_a_corpus_of_moments_that_is_gone_or_another_is_refused(loud, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    lines = "".join(f"hii ni sentensi ya {n}\n" for n in range(400))
    (text / "sw.txt").write_text(lines)
    asked = {"corpus": str(text), "tokens": 256, "length": 64}
    calibrate(
        open_model(str(loud)), CalibrationSettings.model_validate(asked), tmp_path / "m", gram=True
    )
    step = {**ASKED, "moments": str(tmp_path / "m")}
    (text / "sw.txt").write_text(lines + "nyingine\n")
    start = f"the mixture measured needs more of the text that {tmp_path / 'm'} was made of: "

    words = refusal(BadCorpus, run.do, plan(loud, step, languages=[]), tmp_path / "run")
    assert words.startswith(start) and "not what it was" in words
    (text / "sw.txt").unlink()
    words = refusal(
        BadCorpus,
        command("prune"),
        str(loud),
        out=tmp_path / "run",
        moments=str(tmp_path / "m"),
        mixture="measured",
    )
    assert words.startswith(start)
    assert not (tmp_path / "run").exists()


def test_models_that_predict_no_tokens_of_one_text_are_refused(tmp_path):
    for family, kind, words in (
        ("bert", BadModel, "has no mask token"),
        ("mt5", BadModel, "does not predict them"),
        ("distilbert", BadModel, "does not predict them"),
    ):
        place = tmp_path / family
        pico.model(family).save_pretrained(place)
        pico.tokenizer().save_pretrained(place)
        assert words in refusal(kind, run.do, plan(place, ASKED, languages=[]), tmp_path / "run")
    pairs = {"out": tmp_path / "run", "mixture": "measured"}  # known from the config, without torch
    words = refusal(BadSetting, command("prune"), str(tmp_path / "mt5"), **pairs)
    assert "an encoder-decoder reads pairs, by direction of translation" in words
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["shrink", "recover", "distill", "finetune"])
def test_other_kinds_of_steps_refuse_it(loud, kind):
    needs = {"shrink": {"ffn": 0.5}, "finetune": {"corpus": "topics"}}
    steps = [{kind: {"mixture": "measured", **needs.get(kind, {})}}]
    with pytest.raises(BadSetting, match="the mixture measured is "):
        recipe.of({"model": str(loud), "steps": steps})


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"mixture": "measured:3"}, "takes nothing after"),
        ({"measured": {"rounds": 0}}, "measured.rounds"),
        ({"measured": {"rate": float("inf")}}, "measured.rate"),
        ({"measured": {"tokens": 1}}, "measured.tokens"),
        ({"measured": {"round": 2}}, "Known: rounds, rate, tokens"),
    ],
)
def test_values_that_cannot_be_are_named(loud, tmp_path, step, words):
    with pytest.raises(BadSetting) as caught:
        run.do(plan(loud, {**DENSE, **step}), tmp_path / "run")

    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_defaults_are_those_that_were_tried():
    assert Measured() == Measured(rounds=6, rate=1.0, tokens=2560)
