"""Models are opened from every kind of place, saved as they came, and refused in one line."""

import json
import resource
from contextlib import contextmanager
from pathlib import Path

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from babelpress.errors import BadModel, BadRun, BadSetting, NotFinite
from babelpress.models import names
from babelpress.models import open as opening
from babelpress.models.names import resolve
from babelpress.models.open import Opened, open_model
from babelpress.models.save import save_model
from babelpress.models.weights import weights_hash

every_family = pytest.mark.parametrize("family", pico.EVERY)


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
    assert weights_hash(before.model) == weights_hash(after.model)
    assert before.tokenizer("juu ya mti").input_ids == after.tokenizer("juu ya mti").input_ids


def test_transformers_draws_no_bars_and_reports_no_keys(folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(logging, "_tqdm_active", True)
    path = folder / "model.safetensors"
    save_file({**load_file(path), "odd.weight": torch.ones(3)}, path, {"format": "pt"})
    capfd.readouterr()

    save_model(open_model(str(folder)), tmp_path / "again")

    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_the_fingerprint_changes_with_one_weight_and_with_the_dtype():
    model = pico.model()
    model.register_buffer("temperature", torch.tensor(1.5))  # without a dimension
    before = weights_hash(model)
    assert before == weights_hash(model)

    weight = model.get_parameter("model.layers.1.mlp.up_proj.weight")
    with torch.no_grad():
        weight[3, 2] = torch.nextafter(weight[3, 2], torch.tensor(9.0))
    changed = weights_hash(model)
    assert changed != before
    assert weights_hash(model.double()) != changed


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


def test_a_model_is_a_folder_or_a_hub_id(folder):
    assert resolve(str(folder)) == str(folder)
    for hub in ("owner/na-me_1.5", "owner/name@0123abc", "owner/name@refs/pr/1"):
        assert resolve(hub) == hub


@pytest.mark.parametrize("name", ["babelmini", "./x", "/no/where", "a/b/c", "~/x", "a/b@", ""])
def test_a_name_that_is_nothing_is_refused_with_what_is_allowed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = "no config.json" if name == "" else "neither a folder nor a hub id"
    assert expected in refusal(BadModel, name)


def test_babel_mini_is_the_embedded_model(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(names, "DATA", tmp_path)
    folder.rename(tmp_path / "babel-mini")

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

    words = refusal(BadModel, folder)
    assert words.startswith((f"{folder} cannot be opened: ", f"{folder}/config.json is not valid"))


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


@pytest.mark.parametrize(
    ("said", "stored", "mapped"),
    [
        ("float32", torch.float32, True),
        ("bfloat16", torch.bfloat16, True),
        ("float16", torch.float16, False),  # computed in float32
        ("bfloat16", torch.float32, False),  # made narrower where it is opened
    ],
)
def test_weights_stay_pages_of_their_file_where_nothing_is_made_of_them(
    tmp_path, said, stored, mapped
):
    pico.model().to(stored).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "dtype": said}))

    assert opening.stays_mapped(str(tmp_path)) is mapped
    pico.tokenizer().save_pretrained(tmp_path)
    model = open_model(str(tmp_path)).model
    assert (model.dtype == stored) is mapped


def test_whether_weights_stay_in_their_file_is_for_who_opens_them_where_nothing_can_be_read(
    tmp_path,
):
    pico.model().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")

    assert opening.stays_mapped(str(tmp_path))
