"""The one training loop: a loss asked for step by step, on transformers.Trainer, resumable.

Whoever trains gives a function from the number of a step to its loss, and draws the batch of a step
from that number. So nothing is read ahead, and a run that was killed goes on from its last
checkpoint to the same weights as one that was not. A loss may come in parts that are added: each is
made when the gradient of the one before is known, so that of one alone anything is in memory. A
checkpoint is written whole or not at all:

    checkpoint-N/state.safetensors    trained weights, the optimizer's tensors, torch's random state
    checkpoint-N/state.json           what of the optimizer is no tensor, and the trainer's memory
    checkpoint-N/trainer_state.json   what transformers keeps of itself

Nothing is a pickle. `memory` is what later steps hang on besides weights, such as shares of
languages that were found on the way.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from babelpress.errors import BadRun, BadSetting
from babelpress.system.files import load_tensors, new_folder, read_json, save_tensors, write_json

TENSORS, PLAIN, TRAINER = "state.safetensors", "state.json", "trainer_state.json"
KEPT = 2  # checkpoints
MAX_NORM = 1.0  # of the gradient
Parts = Sequence[Callable[[], Tensor]]
Loss = Callable[[int], Tensor | Parts]
After = Callable[[int, float], bool | None]


class Memory(Protocol):
    """What later steps hang on besides weights: plain values, as JSON has them."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Nothing:
    """The memory of who needs none."""

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """There is nothing to do."""


def fit(
    model: nn.Module,
    loss: Loss,
    out: Path,
    *,
    steps: int,
    optimizer: Optimizer,
    factor: Callable[[int], float],
    checkpoint: int,
    seed: int = 0,
    after: After = lambda _step, _loss: None,
    memory: Memory | None = None,
) -> None:
    """Do `steps` steps on what `optimizer` holds of `model`; checkpoints lie under `out`.

    `factor` is what all rates are multiplied with at a step. After every step `after` is told how
    many are done, and the loss of the last; where it says True these were the last. Raises
    BadSetting where a loss is NaN or infinite, BadRun for a damaged checkpoint.
    """
    device = next(model.parameters()).device
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=1,
        save_steps=checkpoint,
        logging_strategy="no",
        report_to="none",
        seed=seed,
        max_grad_norm=MAX_NORM,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        disable_tqdm=True,
    )
    trainer = _ByStep(
        model,
        arguments,
        train_dataset=_Numbers(steps),
        optimizers=(optimizer, LambdaLR(optimizer, factor)),
    )
    trainer.loss, trainer.after, trainer.memory = loss, after, memory or Nothing()
    trainer.add_callback(_Tell(trainer))
    trainer.remove_callback(PrinterCallback)  # it would print on standard output
    for folder in out.glob("checkpoint-*"):
        if not (folder / TRAINER).exists():  # cut short
            shutil.rmtree(folder)
    trainer.train(resume_from_checkpoint=last_checkpoint(out))


def last_checkpoint(out: Path) -> str | None:
    """The last whole checkpoint: the one with the highest number; None where there is none."""
    whole = [state.parent for state in out.glob(f"checkpoint-*/{TRAINER}")]
    steps = {int(folder.name.rpartition("-")[2]): folder for folder in whole}
    return str(steps[max(steps)]) if steps else None


def remembered(out: Path) -> dict[str, Any] | None:
    """What a trainer's memory gave to the last whole checkpoint; None where there is none."""
    last = last_checkpoint(out)
    return read_json(Path(last) / PLAIN)["memory"] if last else None


class _Numbers(Dataset):
    """The numbers of the steps: a batch is made when its step begins."""

    def __init__(self, steps: int):
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"step": torch.tensor(index)}


class _ByStep(Trainer):
    """Trainer that asks for the loss of a step, and keeps its state in files without pickles."""

    loss: Loss
    after: After
    memory: Memory
    last: float = math.nan

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: Any,  # noqa: ARG002 - transformers' signature
        inputs: dict[str, Tensor],
        *_: object,
        **__: object,
    ) -> Tensor:
        found = self.loss(int(inputs["step"]))
        if isinstance(found, Tensor):
            self.last = self._finite(found)
            return found
        *before, last = found
        total = 0.0
        for part in before:
            loss = part()
            total += self._finite(loss)
            self.accelerator.backward(loss)
            del loss
        loss = last()
        self.last = total + self._finite(loss)
        return loss

    def _finite(self, loss: Tensor) -> float:
        """The number. Raises BadSetting now, before the last sound checkpoints are rotated away."""
        if not loss.isfinite():
            raise BadSetting(
                f"the training loss is {loss.item()} at step {self.state.global_step}: "
                "lower the learning rates, and begin again."
            )
        return loss.item()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ARG002
        out = Path(str(self.args.output_dir))
        tensors, plain = _packed(self._bare().state_dict())
        weights = {f"weights/{name}": each for name, each in _trained(model).items()}
        random = {f"random/{name}": each for name, each in _random_states().items()}
        with new_folder(out / f"checkpoint-{self.state.global_step}") as new:
            save_tensors(new / TENSORS, {**weights, **tensors, **random})
            write_json(new / PLAIN, {"optimizer": plain, "memory": self.memory.state()})
            self.state.save_to_json(str(new / TRAINER))
        numbers = sorted(int(each.name.rpartition("-")[2]) for each in out.glob("checkpoint-*"))
        for number in numbers[:-KEPT]:
            shutil.rmtree(out / f"checkpoint-{number}")

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        found = load_tensors(Path(resume_from_checkpoint) / TENSORS, error=BadRun)
        assert self.model is not None
        with torch.no_grad():
            for name, live in _trained(model or self.model).items():
                if f"weights/{name}" not in found or found[f"weights/{name}"].shape != live.shape:
                    raise BadRun(
                        f"{resume_from_checkpoint} is of another training: it has no {name} of "
                        "this shape. Remove it, or choose another --out."
                    )
                live.copy_(found[f"weights/{name}"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        found = load_tensors(Path(checkpoint) / TENSORS, error=BadRun)
        plain = read_json(Path(checkpoint) / PLAIN)
        self._bare().load_state_dict(_unpacked(plain["optimizer"], found))
        self.memory.restore(plain["memory"])
        assert isinstance(self.lr_scheduler, LambdaLR)
        self.lr_scheduler.last_epoch = self.state.global_step  # the rates came with the groups

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        found = load_tensors(Path(checkpoint) / TENSORS, error=BadRun)
        torch.set_rng_state(found["random/cpu"])
        if torch.cuda.is_available() and "random/cuda" in found:
            torch.cuda.set_rng_state(found["random/cuda"])

    def _bare(self) -> Optimizer:
        """The optimizer as it was given, without what accelerate puts around it."""
        given: Any = self.optimizer
        return getattr(given, "optimizer", given)


class _Tell(TrainerCallback):
    """Tells of every step when it is done, before a checkpoint of it is written."""

    def __init__(self, trainer: _ByStep):
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self.trainer.after(state.global_step, self.trainer.last):
            control.should_training_stop = True


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, each once."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


# ---- the state of an optimizer -------------------------------------------------------------


def _packed(state: Any, place: str = "optimizer") -> tuple[dict[str, Tensor], Any]:
    """Tensors of a nested state by their place, and the rest as JSON has it, with their places."""
    if isinstance(state, Tensor):
        return {place: state}, {"tensor": place}
    if isinstance(state, dict):
        parts = [(key, *_packed(each, f"{place}/{key}")) for key, each in state.items()]
        tensors = {name: each for _, some, _ in parts for name, each in some.items()}
        return tensors, {"mapping": [[key, plain] for key, _, plain in parts]}
    if isinstance(state, list | tuple):
        packed = [_packed(each, f"{place}/{index}") for index, each in enumerate(state)]
        tensors = {name: each for some, _ in packed for name, each in some.items()}
        return tensors, {"list": [plain for _, plain in packed]}
    return {}, {"value": state}


def _unpacked(plain: Any, tensors: dict[str, Tensor]) -> Any:
    """The nested state that `_packed` was given."""
    ((kind, value),) = plain.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "mapping":
        return {key: _unpacked(each, tensors) for key, each in value}
    if kind == "list":
        return [_unpacked(each, tensors) for each in value]
    return value
