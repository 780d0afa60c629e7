"""Models that also see images: the language model is pressed, all else stays as it is."""

import pico
import pytest
import torch
from pressing import SHARES, text
from safetensors.torch import load_file

from babelpress.models.open import open_model, open_shapes
from babelpress.models.save import save_model
from babelpress.models.walk import Walk, _first
from babelpress.press.blocks import press_compressed
from babelpress.press.method import Pruner

every_family = pytest.mark.parametrize("family", pico.SEEING)
PLACES = {
    "gemma3": "model.language_model.layers",
    "gemma4": "model.language_model.layers",
    "mistral3": "model.language_model.layers",
    "qwen2_vl": "model.language_model.layers",
}


@every_family
@torch.no_grad()
def test_the_blocks_that_read_text_are_walked_as_the_model_s_own_pass_does(family):
    model = pico.seeing(family)
    walk = Walk(model)
    lot = torch.Generator().manual_seed(1)

    assert walk.name(1) == f"{PLACES[family]}.1"
    assert len(walk.blocks) == 2
    for _ in range(2):
        ids_BT = torch.randint(10, pico.VOCABULARY, (2, 11), generator=lot)
        seen = []
        handles = [
            block.register_forward_hook(lambda _, __, out, seen=seen: seen.append(_first(out)))
            for block in walk.blocks
        ]
        model(ids_BT, use_cache=False)
        for handle in handles:
            handle.remove()
        hidden_BTH = walk.start(ids_BT)
        for index, expected_BTH in enumerate(seen):
            hidden_BTH = walk.forward(index, hidden_BTH)
            assert torch.equal(expected_BTH, hidden_BTH)


@every_family
def test_the_same_blocks_are_found_without_weights(family, tmp_path):
    pico.seeing(family).save_pretrained(tmp_path)

    assert Walk(open_shapes(str(tmp_path))).name(1) == f"{PLACES[family]}.1"


@every_family
def test_what_is_no_part_of_the_language_model_is_beside_it(family):
    walk = Walk(pico.seeing(family))
    head = next(n for n, m in walk.model.named_modules() if m is walk.model.get_output_embeddings())

    for name, _ in walk.model.named_modules():
        if "vision" in name or "visual" in name or "projector" in name:
            assert walk.beside(name)
    assert not walk.beside(head)
    assert not walk.beside(f"{walk.name(0)}.mlp.down_proj")


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma4"])
def test_nothing_is_beside_a_language_model_alone(family):
    walk = Walk(pico.model(family))
    weighed = [n for n, m in walk.model.named_modules() if dict(m.named_parameters(recurse=False))]

    assert not [name for name in weighed if walk.beside(name)]


@every_family
def test_pressed_and_saved_it_opens_as_the_same_class_and_all_else_has_the_same_bytes(
    family, tmp_path
):
    model = pico.seeing(family)
    model.save_pretrained(tmp_path / "before")
    pico.tokenizer().save_pretrained(tmp_path / "before")
    opened = open_model(str(tmp_path / "before"))
    walk = Walk(opened.model)
    pruner = Pruner.of("wanda", "0.25")

    press_compressed(walk, text(), pruner, SHARES)
    save_model(opened, tmp_path / "after")

    before = load_file(tmp_path / "before" / "model.safetensors")
    after = load_file(tmp_path / "after" / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not [n for n in changed if "vision" in n or "visual" in n or "projector" in n]
    again = open_model(str(tmp_path / "after")).model
    assert type(again) is type(model)
    its, ours = again.config.to_dict(), model.config.to_dict()
    assert its["model_type"] == ours["model_type"]
    assert its["vision_config"]["hidden_size"] == ours["vision_config"]["hidden_size"]
