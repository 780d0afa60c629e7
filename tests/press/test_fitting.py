"""Whatever shapes tell is told before the first block is pressed: of every block, in every way."""

from typing import Any

import pico
import pytest
import torch
from running import do, plan, quantizing
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM

from babelpress.commands import press as press_command
from babelpress.errors import BadLayer, BadSetting
from babelpress.models.walk import Walk
from babelpress.numerics.grids import Grid
from babelpress.press import fitting
from babelpress.press.method import Pruner, Quantizer
from babelpress.runs import fits
from babelpress.runs.estimate import estimate

SHAPE: dict[str, Any] = {
    "vocab_size": pico.VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}


def late_experts(wide: int = 24):
    """Dense blocks first; experts, whose inner width is their own, in the last block alone."""
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **SHAPE,
        moe_intermediate_size=wide,
        num_experts=4,
        num_experts_per_tok=2,
        mlp_only_layers=[0, 1],
    )
    return Qwen3MoeForCausalLM(config)


def hybrid():
    """Linear attention, then full attention: no two blocks have the same names."""
    torch.manual_seed(0)
    config = Qwen3_5TextConfig(
        **{**SHAPE, "num_hidden_layers": 2},
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    )
    return Qwen3_5ForCausalLM(config)


def shapes_of(model):
    """The same model without weights."""
    with torch.device("meta"):
        return type(model)(model.config)


@pytest.fixture
def folder(tmp_path):
    late_experts().save_pretrained(tmp_path / "moe")
    pico.tokenizer().save_pretrained(tmp_path / "moe")
    return tmp_path / "moe"


GPTQ = Quantizer.of("gptq", Grid(4, 16))
WHERE = r"16 does not divide the 24 inputs of model\.layers\.2\.mlp\.experts\.0\.down_proj"


def test_a_group_must_divide_the_linears_of_every_block():
    with pytest.raises(BadLayer, match=WHERE):
        fitting.check(Walk(late_experts()), GPTQ)
    with pytest.raises(BadLayer, match=WHERE):
        fitting.check(Walk(shapes_of(late_experts())), GPTQ)
    fitting.check(Walk(late_experts(wide=48)), GPTQ)
    fitting.check(Walk(late_experts()), Quantizer.of("gptq", Grid(4, "channel")))
    spared = Quantizer.of("gptq", Grid(4, 16), skip=["mlp.experts.*.down_proj"])
    fitting.check(Walk(late_experts()), spared)


def test_a_grid_of_one_block_is_asked_of_that_block():
    method = Quantizer.of("rtn", Grid(4, 8))
    own = Quantizer(name="rtn", grid=Grid(4, 8), grids={2: Grid(2, 16)})
    fitting.check(Walk(late_experts()), method)
    with pytest.raises(BadLayer, match=WHERE):
        fitting.check(Walk(late_experts()), own)


def test_a_pattern_must_fit_the_linears_of_every_block():
    with pytest.raises(
        BadLayer, match=r"layers\.2\.mlp\.experts\.0\.down_proj \(of 20 inputs\): 6of8"
    ):
        fitting.check(Walk(late_experts(wide=20)), Pruner.of("wanda", "6of8"))
    fitting.check(Walk(late_experts(wide=20)), Pruner.of("wanda", "2of4"))


def test_experts_in_one_dimension_too_many_are_told_of_before_the_first_block():
    model = late_experts()
    model.model.layers[2].odd = torch.nn.Module()
    model.model.layers[2].odd.stack = torch.nn.Parameter(torch.zeros(3, 4, 5))
    with pytest.raises(Exception, match=r"odd\.stack is stacked \(3, 4, 5\)"):
        fitting.check(Walk(model), Pruner.of("wanda", "0.25"))


@pytest.mark.parametrize("whole", [True, False], ids=["weights", "shapes"])
def test_an_option_that_a_method_looks_at_last_is_told_of_first(whole):
    walk = Walk(pico.model() if whole else shapes_of(pico.model()))
    with pytest.raises(BadSetting, match="gptq's order is 'backwards'"):
        fitting.check(walk, Quantizer.of("gptq", Grid(4, 8), {"order": "backwards"}))


# ---- skip ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (late_experts, "mlp.experts.*"),
        (late_experts, "mlp.gate_proj+up_proj"),
        (hybrid, "self_attn.*"),
        (hybrid, "linear_attn.out_proj"),
    ],
)
def test_a_site_that_any_block_has_may_be_skipped(model, word):
    fitting.check(Walk(model()), Pruner.of("wanda", "0.25", skip=[word]))
    fitting.check(Walk(shapes_of(model())), Pruner.of("wanda", "0.25", skip=[word]))


def test_a_word_that_no_block_answers_to_is_told_with_what_is_near():
    method = Pruner.of("wanda", "0.25", skip=["mlp.experts.0.dwn_proj"])
    for made in (late_experts(), shapes_of(late_experts())):
        with pytest.raises(BadSetting) as caught:
            fitting.check(Walk(made), method)
        words = str(caught.value)
        assert words.startswith("--skip mlp.experts.0.dwn_proj names no site of this model. Did")
        assert "mlp.experts.0.down_proj" in words and "It has self_attn.q_proj" in words


def test_something_must_be_left_to_press():
    with pytest.raises(BadSetting, match=r"--skip \*proj leaves nothing to press"):
        fitting.check(Walk(pico.model()), Pruner.of("wanda", "0.25", skip=["*proj"]))


def test_a_word_for_several_linears_spares_them_where_sites_are_guessed():
    model = shapes_of(late_experts(wide=20))
    method = Pruner.of("wanda", "6of8", skip=["mlp.experts.*.down_proj"])
    fitting.check(Walk(model), method)
    words = ["self_attn.q_proj+k_proj+v_proj", "self_attn.o_proj", "mlp.*"]
    fitting.check(Walk(model), Pruner.of("wanda", "6of7", skip=words))


# ---- recipes -------------------------------------------------------------------------------


def test_the_second_step_is_asked_before_the_first_is_done(folder, tmp_path, monkeypatch):
    asked = quantizing(folder, {"pattern": "0.25"}, method="rtn", bits=4)
    assert [step.kind for step in asked.steps] == ["prune", "quantize"]
    begun = []
    monkeypatch.setattr("babelpress.steps._doing.press", lambda *_, **__: begun.append(1))
    with pytest.raises(BadLayer, match=WHERE):
        do(asked, tmp_path / "run")
    assert not begun and not (tmp_path / "run").exists()
    with pytest.raises(BadLayer, match=WHERE):
        estimate(asked)
    assert not begun
    good = plan(folder, {"pattern": "0.25"})
    assert [bool(each) for each in fits.errors([asked, good])] == [True, False]


def test_a_dry_run_shows_the_plan_and_what_cannot_be_done(folder, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "calibration: {languages: [sw, am], tokens: 64, length: 32}\n"
        "steps:\n  - quantize: {method: rtn, bits: 4, group: 16}\n"
    )
    found = press_command(str(folder), recipe, out=tmp_path / "run", dry_run=True)
    assert found.exit_code == 2
    assert found.says[0].startswith("step 1: rtn 4 bits") and "24 inputs" in found.says[-1]
    assert not (tmp_path / "run").exists()
