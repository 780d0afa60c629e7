"""Every family is opened, walked block by block, looked into and saved as transformers would."""

import json
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from babelpress import models, opening
from babelpress.errors import BadModel, BadRun, BadSetting, NotFinite
from babelpress.models import Walk, find_sites
from babelpress.opening import Opened, open_model, resolve, save_model

every_family = pytest.mark.parametrize("family", pico.FAMILIES)

GROUPED = [
    ("self_attn.q_proj+k_proj+v_proj", 32),
    ("self_attn.o_proj", 32),
    ("mlp.gate_proj+up_proj", 32),
    ("mlp.down_proj", 48),
]
SITES = {
    "llama": GROUPED,
    "qwen3": GROUPED,
    "gemma3": GROUPED,
    "mistral": GROUPED,
    "bloom": [
        ("self_attention.query_key_value", 32),
        ("self_attention.dense", 32),
        ("mlp.dense_h_to_4h", 32),
        ("mlp.dense_4h_to_h", 128),
    ],
    "xglm": [
        ("self_attn.q_proj+k_proj+v_proj", 32),
        ("self_attn.out_proj", 32),
        ("fc1", 32),
        ("fc2", 48),
    ],
    "gpt2": [("attn.c_attn", 32), ("attn.c_proj", 32), ("mlp.c_fc", 32), ("mlp.c_proj", 128)],
    "gpt_neox": [
        ("attention.query_key_value", 32),
        ("attention.dense", 32),
        ("mlp.dense_h_to_4h", 32),
        ("mlp.dense_4h_to_h", 48),
    ],
    "opt": [
        ("self_attn.q_proj+k_proj+v_proj", 32),
        ("self_attn.out_proj", 32),
        ("fc1", 32),
        ("fc2", 48),
    ],
}


def some_ids(sequences=3, length=11):
    """Longer than the sliding windows of the pico models."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, pico.VOCABULARY, (sequences, length), generator=generator)


def opened(family="llama", dtype=torch.float32):
    return Opened(family, pico.model(family, dtype=dtype), pico.tokenizer(), dtype)


@pytest.fixture
def folder(tmp_path):
    """A llama as a transformers folder."""
    save_model(opened(), tmp_path / "llama")
    return tmp_path / "llama"


def refusal(kind, name, **options):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        open_model(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rewrite(folder, change):
    """Change the tensors of a saved model."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def set_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# ---- walking -------------------------------------------------------------------------------


def outputs_of(model, blocks, ids_BT):
    """What every block gives in the model's own pass."""
    outputs = []
    handles = [
        block.register_forward_hook(lambda _, __, out: outputs.append(models._first(out)))
        for block in blocks
    ]
    with torch.no_grad():
        model(ids_BT, use_cache=False)
    for handle in handles:
        handle.remove()
    return outputs


@every_family
def test_walking_block_by_block_is_the_model_s_own_pass(family):
    model = pico.model(family)
    walk = Walk(model)
    for ids_BT in (some_ids(), some_ids(1, 5)):
        passed = outputs_of(model, walk.blocks, ids_BT)
        hidden_BTH = walk.start(ids_BT)
        for index, expected_BTH in enumerate(passed):
            with torch.no_grad():
                hidden_BTH = walk.forward(index, hidden_BTH)
            assert torch.equal(expected_BTH, hidden_BTH)
        assert len(passed) == 2


@every_family
def test_sites_are_the_linears_that_read_one_tensor(family):
    walk = Walk(pico.model(family))
    for index in range(2):
        sites = walk.sites(index, walk.start(some_ids()))

        assert sorted(SITES[family]) == sorted((site.name, site.inputs) for site in sites)
        assert sorted(name for site in sites for name in site.linears) == sorted(
            models.linears(walk.blocks[index])
        )


@every_family
def test_looking_leaves_no_hook_behind(family):
    model = pico.model(family)
    walk = Walk(model)
    walk.sites(1, walk.start(some_ids()))

    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


class Pair(nn.Module):
    """Two linears; `between` is what happens to the first one's input before the second runs."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.between = between

    def forward(self, x):
        return self.first(x) + self.second(self.between(x))


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda x: x, [("first", "second")]),
        (lambda x: x.clone(), [("first",), ("second",)]),
        (lambda x: x.mul_(2), [("first",), ("second",)]),
    ],
    ids=["the same tensor", "an equal one", "changed in place"],
)
def test_one_site_means_one_tensor_not_one_address(between, expected):
    block = Pair(between)

    sites = find_sites(block, lambda: block(torch.ones(3, 4)), "blocks")

    assert expected == [site.linears for site in sites]


def test_a_linear_that_never_runs_or_runs_twice_is_named():
    silent, twice = Pair(lambda x: x), Pair(lambda x: x)
    with pytest.raises(BadModel, match=r"the linears of blocks .* not so: second"):
        find_sites(silent, lambda: silent.first(torch.ones(3, 4)), "blocks")
    with pytest.raises(BadModel, match="one of them twice"):
        find_sites(twice, lambda: twice(twice(torch.ones(3, 4))), "blocks")


def test_an_encoder_decoder_is_refused_with_what_was_found_and_what_is_missing(tmp_path):
    config = T5Config(
        vocab_size=pico.VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    model = T5ForConditionalGeneration(config)
    with pytest.raises(BadModel, match=r"encoder\.block \(2 x T5Block\), decoder\.block") as found:
        Walk(model)
    assert "need one list of equal blocks with linear layers" in str(found.value)

    model.save_pretrained(tmp_path)
    pico.tokenizer().save_pretrained(tmp_path)
    message = refusal(BadModel, tmp_path)
    assert "found an encoder and a decoder (t5), need one stack" in message


def test_a_model_without_repeated_blocks_is_refused():
    model: Any = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    with pytest.raises(BadModel, match="Sequential cannot be walked: found no such list, need one"):
        Walk(model)


def test_blocks_that_do_not_read_one_another_are_refused():
    model = pico.model()
    walk = Walk(model)
    walk.blocks[1].register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))

    with pytest.raises(BadModel, match=r"model\.layers\.1 does not read what the block before"):
        walk.forward(0, walk.start(some_ids()))


def test_blocks_that_a_pass_leaves_out_are_noticed():
    model = pico.model()
    model.config.num_hidden_layers = 1
    walk = Walk(model)

    with pytest.raises(BadModel, match=r"model\.layers has 2 blocks, but a pass ran 1"):
        walk.forward(0, walk.start(some_ids()))


# ---- weights -------------------------------------------------------------------------------


@every_family
def test_a_weight_is_outputs_by_inputs_in_every_kind_of_linear(family):
    for linear in models.linears(Walk(pico.model(family)).blocks[0]).values():
        module: Any = linear
        inputs = models.weight(linear).shape[1]
        x_TI = torch.randn(5, inputs)
        bias = 0 if module.bias is None else module.bias

        torch.testing.assert_close(x_TI @ models.weight(linear).T + bias, module(x_TI))

        models.set_weight(linear, 3 * models.weight(linear))
        torch.testing.assert_close(x_TI @ models.weight(linear).T + bias, module(x_TI))


@every_family
def test_a_saved_and_reopened_model_is_bitwise_the_same(family, tmp_path):
    before = opened(family, torch.bfloat16)
    save_model(before, tmp_path)
    after = open_model(str(tmp_path))

    assert after.stored_dtype is torch.bfloat16
    assert not after.model.training
    expected, found = before.model.state_dict(), after.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert opening.fingerprint(before.model) == opening.fingerprint(after.model)
    assert before.tokenizer("juu ya mti").input_ids == after.tokenizer("juu ya mti").input_ids


def test_the_fingerprint_changes_with_one_weight_and_with_the_dtype():
    model = pico.model()
    model.register_buffer("temperature", torch.tensor(1.5))  # without a dimension
    before = opening.fingerprint(model)
    assert before == opening.fingerprint(model)

    weight = model.get_parameter("model.layers.1.mlp.up_proj.weight")
    with torch.no_grad():
        weight[3, 2] = torch.nextafter(weight[3, 2], torch.tensor(9.0))
    changed = opening.fingerprint(model)
    assert changed != before
    assert opening.fingerprint(model.double()) != changed


# ---- dtypes --------------------------------------------------------------------------------


def test_a_float16_file_is_computed_in_float32_and_saved_in_float16(tmp_path):
    save_model(opened(dtype=torch.float16), tmp_path / "half")
    rewritten = open_model(str(tmp_path / "half"))
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert rewritten.stored_dtype is torch.float16
    assert rewritten.model.dtype is torch.float32
    assert all(torch.equal(t.float(), rewritten.model.get_parameter(n)) for n, t in stored.items())

    frequencies = rewritten.model.get_buffer("model.rotary_emb.inv_freq").clone()
    with torch.no_grad():
        for parameter in rewritten.model.parameters():
            parameter.mul_(1 + 1e-5)  # mostly less than float16 can tell
    save_model(rewritten, tmp_path / "again")

    written = load_file(tmp_path / "again" / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.float16}
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dtype"] == "float16"
    assert rewritten.model.dtype is torch.float32
    assert all(torch.equal(t.float(), rewritten.model.get_parameter(n)) for n, t in written.items())
    assert torch.equal(frequencies, rewritten.model.get_buffer("model.rotary_emb.inv_freq"))


def test_a_weight_too_large_for_the_stored_dtype_is_named_and_not_written(tmp_path):
    half = opened(dtype=torch.float16)
    half.model.float()
    with torch.no_grad():
        half.model.get_parameter("model.layers.0.mlp.up_proj.weight")[1, 2] = 1e6

    with pytest.raises(NotFinite, match=r"model\.layers\.0\.mlp\.up_proj\.weight"):
        save_model(half, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert half.model.dtype is torch.float32


def test_a_dtype_can_be_chosen(folder):
    as_bfloat16 = open_model(str(folder), dtype="bfloat16")

    assert as_bfloat16.model.dtype is torch.bfloat16
    assert as_bfloat16.stored_dtype is torch.float32
    assert "no dtype is called 'float61'" in refusal(BadSetting, folder, dtype="float61")


# ---- what MODEL may be ---------------------------------------------------------------------


def test_a_model_is_a_folder_a_finished_run_or_a_hub_id(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("steps: []")
    with pytest.raises(BadRun, match="without a finished model/"):
        resolve(str(run))
    folder.rename(run / "model")

    assert resolve(str(run / "model")) == str(run / "model")
    assert resolve(str(run)) == str(run / "model")
    for hub in ("owner/na-me_1.5", "owner/name@0123abc", "owner/name@refs/pr/1"):
        assert resolve(hub) == hub


@pytest.mark.parametrize("name", ["babelmini", "./x", "/no/where", "a/b/c", "~/x", "a/b@", ""])
def test_a_name_that_is_nothing_is_refused_with_what_is_allowed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = "no config.json" if name == "" else "neither a folder nor a hub id"
    assert expected in refusal(BadModel, name)


def test_babel_mini_is_the_embedded_model(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "package_files", lambda package: tmp_path / package)
    (tmp_path / "babelpress/data").mkdir(parents=True)
    folder.rename(tmp_path / "babelpress/data/babel-mini")

    assert open_model("babel-mini").name == "babel-mini"


def test_a_folder_may_have_an_at_sign_in_its_path(folder, tmp_path):
    folder = folder.rename(tmp_path / "me@home")

    assert open_model(str(folder)).name == str(folder)


def test_a_revision_is_handed_to_the_hub(monkeypatch):
    asked = []

    def offline(place, **options):
        asked.append((place, options["revision"], options["trust_remote_code"]))
        raise OSError("no connection.\nMore lines.")

    monkeypatch.setattr(opening.AutoConfig, "from_pretrained", offline)
    pinned = "owner/name@0123abc"
    assert refusal(BadModel, pinned) == f"{pinned} cannot be opened: no connection."
    refusal(BadModel, "owner/name")
    refusal(BadModel, pinned, trust_remote_code=True)

    assert asked == [
        ("owner/name", "0123abc", False),
        ("owner/name", "main", False),
        ("owner/name", "0123abc", True),
    ]


def test_remote_code_needs_a_pinned_revision():
    assert "MODEL@REVISION" in refusal(BadSetting, "owner/name", trust_remote_code=True)


# ---- models that cannot be trusted ---------------------------------------------------------


def test_a_pickle_is_never_opened(folder):
    torch.save({}, folder / "pytorch_model.bin")
    assert open_model(str(folder))  # safetensors lie beside it

    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin, a pickle" in refusal(BadModel, folder)
    (folder / "pytorch_model.bin").unlink()
    assert "no *.safetensors" in refusal(BadModel, folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(BadModel, folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_a_number_is_named(folder, value):
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda tensors: tensors[name].view(-1)[5:6].fill_(value))

    assert f"the weight {name} holds NaN or infinity" in refusal(NotFinite, folder)


def test_a_lacking_weight_is_named_and_not_made_up(folder):
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda tensors: tensors.pop(name))

    assert f"lacks 1 of the weights of LlamaForCausalLM, {name}" in refusal(BadModel, folder)


def cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def misshapen(folder):
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}))


DAMAGES = {
    "weights cut short": cut_short,
    "a weight of another shape": misshapen,
    "unknown architecture": lambda folder: set_config(folder, model_type="perceptron"),
    "a width that is a word": lambda folder: set_config(folder, hidden_size="wide"),
    "a config that is not JSON": lambda folder: (folder / "config.json").write_text("{"),
    "an empty config": lambda folder: (folder / "config.json").write_text("{}"),
    "a tokenizer that is not JSON": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "no tokenizer": lambda folder: [p.unlink() for p in Path(folder).glob("tokenizer*")],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_gives_one_line_that_names_it(folder, damage):
    DAMAGES[damage](folder)

    assert refusal(BadModel, folder).startswith(f"{folder} cannot be opened: ")


@contextmanager
def files_up_to(size):
    """No file can grow beyond `size` bytes, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_gives_one_line(tmp_path):
    with files_up_to(60_000), pytest.raises(BadRun, match="cannot write the model to"):
        save_model(opened(), tmp_path / "model")


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BadSetting, match=r"no device 'tpu' here\. Choose one of cpu"):
        open_model("babel-mini", device="tpu")
