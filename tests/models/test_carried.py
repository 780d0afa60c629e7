"""What a class does not know of its files is carried over, byte for byte, and named everywhere."""

import json
import shutil

import pico
import pytest
import torch
from running import LANGUAGES, do, plan, quantizing
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from babelpress import commands
from babelpress.errors import BadModel
from babelpress.models import carried, headers
from babelpress.models.open import Opened, open_model
from babelpress.models.save import save_model

HEAD = "mtp.layers.0.mlp.experts.1.gate_proj.weight"  # named as what transformers stacks
BIAS = "model.layers.1.self_attn.q_proj.bias"  # that the config denies
ODD = {
    HEAD: torch.arange(12, dtype=torch.bfloat16).view(3, 4) / 7,
    BIAS: torch.linspace(-1, 1, 32),
    "model.rotary_emb.inv_freq": torch.arange(4, dtype=torch.float64),  # which is never asked for
    "counts": torch.tensor([3, 1, 2], dtype=torch.uint8),
}


def put(folder, family="llama", shards=1, **options):
    """A model whose files hold more than its class knows."""
    save_model(Opened(family, pico.model(family), pico.tokenizer(), torch.float32), folder)
    path = folder / "model.safetensors"
    tensors = load_file(path) | ODD
    if shards == 1:
        save_file(tensors, path, {"format": "pt"})
        return folder
    path.unlink()
    names = sorted(tensors)
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        own = {name: tensors[name] for name in names[number::shards]}
        save_file(own, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    size = sum(each.nbytes for each in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def read(folder):
    """All tensors of a folder's files, in the types that they have there."""
    found = {}
    for path in headers.files_of(folder):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def same(folder):
    """Whether the tensors that the class does not know are there to the last bit."""
    found = read(folder)
    return all(
        found[name].dtype == each.dtype and torch.equal(found[name], each)
        for name, each in ODD.items()
    )


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt2"])
def test_a_saved_model_has_what_its_class_does_not_know(family, shards, tmp_path):
    opened = open_model(str(put(tmp_path / "m", family, shards)))
    assert {each.name for each in opened.carried} == set(ODD)
    save_model(opened, tmp_path / "again")
    again = open_model(str(tmp_path / "again"))
    assert {each.name for each in again.carried} == set(ODD) and same(tmp_path / "again")
    own = read(tmp_path / "m")
    written = read(tmp_path / "again")
    assert own.keys() >= written.keys() and len(written) > len(ODD)
    assert all(torch.equal(own[name], written[name]) for name in written)


@pytest.mark.parametrize("family", pico.EVERY)
def test_nothing_is_carried_of_a_model_that_is_known_whole(family, tmp_path):
    save_model(Opened(family, pico.model(family), pico.tokenizer(), torch.float32), tmp_path)
    assert open_model(str(tmp_path)).carried == ()


def test_what_is_carried_goes_into_the_index_of_a_model_in_several_files(tmp_path):
    opened = open_model(str(put(tmp_path / "m")))
    many = put(tmp_path / "many", shards=2)
    for name in ODD:  # as if the model had saved itself so
        index = json.loads((many / "model.safetensors.index.json").read_text())
        del index["weight_map"][name]
        (many / "model.safetensors.index.json").write_text(json.dumps(index))
    carried.save(opened.carried, many)
    index = json.loads((many / "model.safetensors.index.json").read_text())
    assert {index["weight_map"][name] for name in ODD} == {carried.FILE}
    of_odd = sum(each.nbytes for each in ODD.values())
    assert index["metadata"]["total_size"] == of_odd + sum(e.nbytes for e in read(many).values())
    assert same(many)


def test_a_tensor_that_transformers_left_out_unseen_is_an_error():
    carried.check((), [], "mine")
    with pytest.raises(BadModel, match=r"mine has 1 tensors .*, odd\.weight first, and only 0 of"):
        carried.check((), ["odd.weight"], "mine")


def test_one_that_is_carried_does_not_hide_another_that_is_not(tmp_path):
    entries = [each for each in open_model(str(put(tmp_path / "m"))).carried if each.name in ODD]
    names = [each.name for each in entries]

    carried.check(entries, names, "mine")
    with pytest.raises(BadModel, match=r"only \d+ of them are found"):
        carried.check(entries, [*names, "lost.weight"], "mine")


def test_a_chain_carries_and_every_place_names_what_it_carried(tmp_path):
    model = put(tmp_path / "m")
    first = do(plan(model), tmp_path / "pruned")
    names = [each.name for each in open_model(str(model)).carried]
    assert first["steps"][-1]["carried"] == names
    shutil.rmtree(model)
    asked = quantizing(
        tmp_path / "pruned", method="rtn", bits=4, skip=["mlp.*", "self_attn.k_proj"]
    )
    asked = asked.model_copy(update={"steps": asked.steps[-1:]})
    found = do(asked, tmp_path / "run")
    assert set(found["steps"][-1]["carried"]) == set(ODD) and same(tmp_path / "run" / "model")
    parts = {part["part"]: part for part in found["ledger"]["parts"]}
    size = sum(each.nbytes for each in ODD.values())
    assert parts["carried over"]["bytes_stored"] == parts["carried over"]["bytes_dense"] == size

    for form in ("safetensors", "compressed-tensors", "gptq"):
        out = commands.export(str(tmp_path / "run"), format=form, out=tmp_path / form)
        assert same(tmp_path / form), form
        assert any("4 tensors that the model's class does not know" in line for line in out.says)
        card = (tmp_path / form / "README.md").read_text()
        assert "carried over untouched" in card and "mtp" in card
    ignored = json.loads((tmp_path / "compressed-tensors" / "config.json").read_text())
    assert HEAD.removesuffix(".weight") in ignored["quantization_config"]["ignore"]


def test_a_command_says_what_it_carried(tmp_path):
    model = put(tmp_path / "m")
    found = commands.prune(
        str(model), out=tmp_path / "run", languages=",".join(LANGUAGES[:1]), tokens=64, length=32
    )
    assert any("4 tensors that the model's class does not know" in line for line in found.says)
