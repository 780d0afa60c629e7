"""What lies on disk is the same, takes no memory, and leaves nothing behind."""

import errno
import os

import pytest
import torch
from running import TEXT, content, do, plan, quantizing

from babelpress.errors import BadRun, BadSetting
from babelpress.models.open import open_model
from babelpress.moments.calibrate import calibrate
from babelpress.system.memory import peak, used
from babelpress.system.offload import changing, in_memory, on_disk
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", [(3, 5, 7), (), (0, 4)])
def test_a_tensor_on_disk_has_the_same_numbers(tmp_path, dtype, shape):
    tensor = torch.arange(105)[: torch.Size(shape).numel()].reshape(shape).to(dtype)

    held = on_disk(tmp_path)(tensor)

    assert torch.equal(held, tensor) and held.dtype == dtype and held.shape == tensor.shape
    held += 1
    assert torch.equal(held, tensor + 1)
    assert not list(tmp_path.iterdir())


def test_a_tensor_that_lies_the_other_way_round_is_held_as_it_reads(tmp_path):
    tensor = torch.arange(12.0).reshape(3, 4).T

    assert torch.equal(on_disk(tmp_path)(tensor), tensor)


def test_what_is_on_disk_takes_no_memory(tmp_path):
    hold, size = on_disk(tmp_path), 64 << 20
    tensor = torch.zeros(size // 4)  # of which no page is there yet
    before = used()

    with peak() as most:
        held = hold(tensor)

    assert held.nbytes == size
    assert most.bytes - before < size / 4
    kept = torch.ones(size // 4)
    assert used() - before > 0.9 * kept.nbytes


def test_shared_weights_stay_shared(tmp_path):
    one, other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    other.weight = one.weight
    both = torch.nn.Sequential(one, other)
    before = one.weight.detach().clone()

    with changing(both, on_disk(tmp_path)):
        one.weight.data += 1

    assert one.weight is other.weight
    assert torch.equal(one.weight, before + 1)


def test_what_is_changed_is_not_changed_in_the_file_that_it_came_from(tmp_path):
    weight = on_disk(tmp_path)(torch.ones(3, 5))
    layer = torch.nn.Linear(5, 3)
    layer.weight.data = weight

    with changing(layer, on_disk(tmp_path)):
        layer.weight.data += 1

    assert torch.equal(weight, torch.ones(3, 5))
    assert torch.equal(layer.weight.data, torch.full((3, 5), 2.0))


def test_in_memory_a_weight_stays_where_it_is():
    layer = torch.nn.Linear(5, 3)
    place = layer.weight.data_ptr()

    with changing(layer, in_memory):
        pass

    assert layer.weight.data_ptr() == place


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BadRun, match=r"cannot hold 48 bytes in .*No space left on.*--one-pass"):
        on_disk(tmp_path)(torch.zeros(12))
    assert not list(tmp_path.iterdir())


def test_what_is_not_in_the_memory_of_the_machine_is_refused(tmp_path):
    with pytest.raises(BadSetting, match=r"not that of meta.*of a sweep --one-pass"):
        on_disk(tmp_path)(torch.empty(3, device="meta"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("propagate", "mixture"),
    [
        ("dense", "uniform"),
        ("compressed", "minimax"),
        pytest.param("compressed", "uniform", marks=pytest.mark.slow),
        pytest.param("dense", "minimax", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_the_same_whether_its_states_lie_in_memory_or_on_disk(
    model, tmp_path, propagate, mixture
):
    common = {"propagate": propagate, "mixture": mixture, "minimax": {"rounds": 2}}
    asked = quantizing(model, {"method": "sparsegpt", **common}, method="awq", **common)

    do(asked, tmp_path / "memory")
    do(asked, tmp_path / "disk", offload=True)

    assert content(tmp_path / "disk") == content(tmp_path / "memory")


def test_moments_are_the_same_too(model, tmp_path):
    text = CalibrationSettings.model_validate(TEXT)
    for name in ("memory", "disk"):
        opened = open_model(str(model))
        calibrate(opened, text, tmp_path / name, gram=True, offload=name == "disk")

    assert content(tmp_path / "disk") == content(tmp_path / "memory")


@pytest.mark.parametrize("propagate", ["dense", "compressed"])
def test_pressing_a_model_of_a_single_block_asks_for_nothing_after_it(model, tmp_path, propagate):
    manifest = do(plan(model, {"propagate": propagate}), tmp_path / "run", offload=True)

    assert manifest["steps"][0]["zeros"] > 0
