"""A narrower stream: what a run leaves and tells, chains, and what is refused before any work."""

from typing import Any

import pico
import pytest
import torch
from running import TEXT, content, do, refusal, weights
from shrinking import made, plan, saved
from transformers import AutoConfig, AutoModelForCausalLM, Cohere2Config, Cohere2ForCausalLM

from babelpress.commands.pressing import press
from babelpress.errors import BadModel, BadSetting
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.report.card import card
from babelpress.report.told import tell
from babelpress.runs import recipe
from babelpress.runs.manifest import read
from babelpress.runs.open import open_any
from babelpress.steps import shrink
from babelpress.steps._estimating import Trial
from babelpress.steps.shrink import Report

pytestmark = pytest.mark.usefixtures("one_thread")
KEPT = 24
COHERE: dict[str, Any] = {
    "vocab_size": pico.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "head_dim": 8,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return saved(made(), tmp_path_factory.mktemp("models") / "deep")


@pytest.fixture(scope="module")
def thin(source, tmp_path_factory):
    """A run with three quarters of the width, in half precision, as models mostly come."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "half"
    half = saved(open_model(str(source)).model.bfloat16(), folder)
    out = tmp_path_factory.mktemp("runs") / "run"
    do(plan(half, {"width": 0.75, "ffn": 0.75, "blocks": 3}), out)
    torch.set_num_threads(threads)
    return out


def test_it_is_an_ordinary_folder_of_the_dtype_that_it_was(thin):
    config = AutoConfig.from_pretrained(thin / "model")

    assert (config.hidden_size, config.head_dim, config.num_attention_heads) == (KEPT, 8, 4)
    assert (config.num_hidden_layers, config.intermediate_size) == (3, 36)
    found = weights(thin)
    assert {each.dtype for each in found.values()} == {torch.bfloat16}
    assert found["model.embed_tokens.weight"].shape[1] == KEPT
    plain = AutoModelForCausalLM.from_pretrained(thin / "model").eval()
    with torch.no_grad():
        assert plain(torch.arange(3, 40)[None]).logits.isfinite().all()


def test_what_stays_is_told_in_run_card_and_terminal(thin):
    report = read(thin).steps[-1]
    assert isinstance(report, Report)
    told = tell(report)

    assert report.sizes == {"blocks": [4, 3], "ffn": [48, 36], "width": [32, KEPT]}
    assert set(report.stream) == set(TEXT["languages"])
    assert all(0.3 < each < 1 for each in report.stream.values())
    assert report.apart < 1e-3
    assert report.parameters[1] == sum(each.numel() for each in weights(thin).values())
    assert "24 of 32 channels" in told.done
    assert any("% of the stream in the mean of 3 languages" in line for line in told.lines)
    assert "| influence, energy, energy of channels |" in card(thin)


def test_the_same_recipe_gives_the_same_bytes_and_all_channels_change_none(source, tmp_path):
    for name in ("one", "two"):
        do(plan(source, {"width": 24}), tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")

    do(plan(source, {"width": "1.0"}), tmp_path / "full")
    before = open_model(str(source)).model.state_dict()
    after = open_any(str(tmp_path / "full")).model.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items())


def test_without_a_fit_what_stays_is_as_it_was(source, tmp_path):
    do(plan(source, {"width": 24, "fit": False}), tmp_path / "run")

    before, after = open_model(str(source)).model.state_dict(), weights(tmp_path / "run")
    table_VH = before["model.embed_tokens.weight"]
    kept = [
        next(h for h in range(32) if torch.equal(table_VH[:, h], each_V))
        for each_V in after["model.embed_tokens.weight"].T
    ]
    assert kept == sorted(set(kept))
    for name, rows in (
        ("self_attn.q_proj", False),
        ("mlp.up_proj", False),
        ("mlp.down_proj", True),
    ):
        old = before[f"model.layers.1.{name}.weight"]
        kept_OI = old[kept] if rows else old[:, kept]
        assert torch.equal(after[f"model.layers.1.{name}.weight"], kept_OI)
    grown = before["model.norm.weight"][kept] * (32 / 24) ** 0.5
    torch.testing.assert_close(after["model.norm.weight"], grown)


def test_a_plan_says_what_it_will_take(source, tmp_path):
    asked = plan(source, {"width": 24}).model_dump(mode="json")
    del asked["model"]

    told = press(str(source), asked, out=tmp_path / "run", dry_run=True)

    assert told.says[0].startswith("step 1: shrink to channels 24, uniform, max over languages")
    assert told.says[1].startswith("step 1: about ")


def test_memory_is_told_of_the_whole_model_and_twice_the_narrower_one(source):
    opened = open_model(str(source))
    trial = Trial(
        opened, plan(source, {"width": 24}).calibration, Walk(opened.model), {}, None, False, 0,
        hash_seconds=0.0, open_seconds=0.0, open_again=0.0, text_seconds=0.0,
    )  # fmt: skip
    numbers = sum(each.numel() for each in opened.model.parameters())

    found = shrink.estimate(trial, shrink.Settings(width="24", multiple=4), chained=False)

    assert found.memory_bytes == 4 * numbers + round(4 * numbers * (1 + 2 * 24 / 32))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"width": 24, "mixture": "minimax"}, "--width are chosen without"),
        ({"width": 24, "moments": "there"}, "--width needs text to see what a channel does"),
        ({"width": "1.5"}, "a share of 1.5 is above 1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(step, words):
    assert words in refusal(BadSetting, plan, "tiny", step)


def test_what_does_not_fit_is_one_line_before_anything_is_done(source, tmp_path):
    prune = {"prune": {"method": "magnitude", "pattern": "0.5"}}
    line = refusal(BadSetting, plan, source, prune, {"width": 24})
    assert "shrink cannot come after prune" in line
    for asked, kind, words in (
        ({"width": 40}, BadSetting, "--width 40 is more than the 32 channels there are"),
        ({"width": 9, "multiple": 9}, BadSetting, "The hidden size (9) is not a multiple"),
    ):
        assert words in refusal(kind, do, plan(source, asked), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    config = Cohere2Config(**COHERE)
    mean_away = saved(Cohere2ForCausalLM(config).eval(), tmp_path / "cohere")
    said = []
    asked = plan(mean_away, {"ffn": 0.5}, {"width": 16})
    line = refusal(BadModel, do, asked, tmp_path / "run", progress=lambda *a: said.append(a))
    assert "Cohere2LayerNorm is not known to divide by a mean square alone" in line
    assert (said, (tmp_path / "run").exists()) == ([], False)
    other = saved(made("gpt_neox"), tmp_path / "neox")
    line = refusal(BadModel, do, plan(other, {"width": 16}), tmp_path / "run")
    assert line.endswith("Leave out --width.")
    by_block = [{"shrink": {"width": 24}}, {"recover": {"repair": "blocks"}}]
    line = refusal(BadSetting, recipe.of, {"model": str(source), "steps": by_block})
    assert "recover by blocks cannot come after shrink" in line
