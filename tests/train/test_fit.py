"""The loop: AdamW by hand as its oracle, and that a killed run goes on to the same weights."""

from typing import Any

import pytest
import torch
from running import refusal
from safetensors import safe_open
from torch.nn.functional import mse_loss
from torch.optim import AdamW

from babelpress.errors import BadRun, BadSetting
from babelpress.train.fit import fit

STEPS = 7


def pupil(dropout=0.3) -> Any:
    """Two linears with dropout between them; the first is not trained."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Dropout(dropout), torch.nn.Linear(4, 2)
    )
    model[0].requires_grad_(False)
    return model


def batch(step):
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randn((5, 3), generator=generator), torch.randn((5, 2), generator=generator)


def factor(step):
    return 1 - step / 10


class Counting:
    """A memory: how often it was told."""

    def __init__(self):
        self.told = 0

    def state(self):
        return {"told": self.told}

    def restore(self, state):
        self.told = state["told"]


class Killed(BaseException):
    """What ends a process in the middle."""


def learn(out, model=None, *, die=None, memory=None, rate=0.1, checkpoint=2):
    model = model or pupil()
    memory = memory or Counting()
    losses = []

    def loss(step):
        if step == die:
            raise Killed
        x, y = batch(step)
        return mse_loss(model(x), y)

    def after(step, last):
        memory.told += 1
        losses.append((step, last))

    trained = [each for each in model.parameters() if each.requires_grad]
    fit(
        model, loss, out, steps=STEPS, optimizer=AdamW(trained, lr=rate), factor=factor,
        checkpoint=checkpoint, seed=3, after=after, memory=memory,
    )  # fmt: skip
    return model, losses, memory


def test_it_does_what_a_loop_by_hand_does(tmp_path):
    found, losses, _ = learn(tmp_path, pupil(dropout=0.0))

    model = pupil(dropout=0.0)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = AdamW(trained, lr=0.1)
    expected = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.1 * factor(step)
        x, y = batch(step)
        loss = mse_loss(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        expected.append((step + 1, loss.item()))
    assert losses == expected
    for mine, its in zip(found.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, its)
    assert torch.equal(found[0].weight, pupil()[0].weight)


@pytest.mark.parametrize("die", [1, 5])
def test_a_killed_run_goes_on_to_the_same_weights_and_memory(tmp_path, die):
    whole, losses, memory = learn(tmp_path / "whole")

    with pytest.raises(Killed):
        learn(tmp_path / "killed", die=die)
    other = pupil()
    if die > 2:  # what a checkpoint has is not asked of the model
        other[2].reset_parameters()
    again, later, remembered = learn(tmp_path / "killed", other)

    assert later == losses[-len(later) :]
    assert len(later) == STEPS - die // 2 * 2
    assert remembered.told == memory.told == STEPS
    trained = zip(whole[2].parameters(), again[2].parameters(), strict=True)
    assert all(torch.equal(mine, its) for mine, its in trained)


def test_checkpoints_hold_no_pickle_and_no_weight_that_is_not_trained(tmp_path, capsys):
    learn(tmp_path)

    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    names = ("state.json", "state.safetensors", "trainer_state.json")
    assert files == {f"checkpoint-{step}/{name}" for step in (6, 7) for name in names}
    with safe_open(tmp_path / "checkpoint-7" / "state.safetensors", "pt") as file:
        weights = {name for name in file.keys() if name.startswith("weights/")}  # noqa: SIM118
    assert weights == {"weights/2.weight", "weights/2.bias"}
    assert capsys.readouterr().out == ""


def test_a_checkpoint_of_another_training_is_one_line(tmp_path):
    learn(tmp_path)
    other = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))

    line = refusal(BadRun, learn, tmp_path, other)

    assert "is of another training: it has no 0.weight of this shape" in line


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    learn(tmp_path)
    path = tmp_path / "checkpoint-7" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:40])

    assert "is damaged or cut short" in refusal(BadRun, learn, tmp_path)


def test_a_loss_that_is_not_a_number_is_one_line(tmp_path):
    line = refusal(BadSetting, learn, tmp_path, rate=float("inf"))

    assert "the training loss is nan at step 1" in line


def test_who_is_told_of_a_step_may_end_the_training(tmp_path):
    told = []
    model = pupil()

    def loss(step):
        x, y = batch(step)
        return mse_loss(model(x), y)

    def after(step, _loss):
        told.append(step)
        return step == 3

    fit(
        model, loss, tmp_path, steps=STEPS, optimizer=AdamW(model[2].parameters()), factor=factor,
        checkpoint=1, after=after,
    )  # fmt: skip

    assert told == [1, 2, 3]
