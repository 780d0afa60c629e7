"""Run the GPTQ of another package on linears that `gptq.py` wrote; in that package's environment.

    ENV/bin/python gptq_peer.py gptqmodel|llmcompressor INPUTS OUTPUTS

INPUTS is a safetensors file with NAME/weight and NAME/input of every linear, and in its metadata
the settings. OUTPUTS gets, for every linear, NAME/gram as the package sums it, and for every
setting the weights it writes back, the scales of its groups, and seconds of processor time.
The package's own functions do all of it, on nn.Linear, in float32, without clipping.

Shapes: T tokens, O outputs, I inputs of one linear; G groups.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

BLOCK = 128

Solved = tuple[Tensor, Tensor, float]  # weights (O, I), scales (O, G), seconds


class GptqModel:
    """GPTQModel: `GPTQ.add_batch` and `GPTQ.quantize`."""

    NAME = "gptqmodel"

    def __init__(self, weight_OI: Tensor, input_TI: Tensor):
        self.linear, self.input_TI = linear(weight_OI), input_TI
        self.gram_II = self._task(bits=4, group=0, order="none", damp=0.01).finalize_hessian()

    def solve(self, *, bits: int, group: int, order: str, damp: float) -> Solved:
        """Quantize once; `group` 0 is the whole row."""
        task = self._task(bits=bits, group=group, order=order, damp=damp)
        (weight_OI, scale_OG, *_), seconds = timed(task.quantize)
        return weight_OI, scale_OG, seconds

    def _task(self, *, bits: int, group: int, order: str, damp: float) -> Any:
        from gptqmodel import QuantizeConfig  # pyright: ignore[reportMissingImports]
        from gptqmodel.quantization.gptq import GPTQ  # pyright: ignore[reportMissingImports]

        config = QuantizeConfig(
            bits=bits,
            group_size=group or -1,
            sym=True,
            desc_act=order == "diagonal",
            static_groups=order == "diagonal" and group > 0,
            act_group_aware=False,
            damp_percent=damp,
            damp_auto_increment=0.0,
            mse=0.0,
            fallback=None,  # no rounding to nearest where there are few tokens
        )
        task = GPTQ(self.linear, config)
        task.quantizer.configure(perchannel=True)
        task.add_batch(self.input_TI, self.input_TI)  # it does not read the output
        return task


class LlmCompressor:
    """llm-compressor: `accumulate_hessian`, its min-max observer, and `quantize_weight`."""

    NAME = "llmcompressor"

    def __init__(self, weight_OI: Tensor, input_TI: Tensor):
        from llmcompressor.modifiers.gptq import helpers  # pyright: ignore[reportMissingImports]

        module = linear(weight_OI)
        self.weight_OI = weight_OI
        self.gram_II, count = helpers.accumulate_hessian(
            input_TI, module, helpers.make_empty_hessian(module), torch.zeros(())
        )
        self.gram_II /= count

    def solve(self, *, bits: int, group: int, order: str, damp: float) -> Solved:
        """Quantize once; `group` 0 is the whole row."""
        from compressed_tensors.quantization import ActivationOrdering, QuantizationArgs
        from llmcompressor.modifiers.gptq.gptq_quantize import (  # pyright: ignore[reportMissingImports]
            quantize_weight,
        )
        from llmcompressor.observers import Observer  # pyright: ignore[reportMissingImports]

        kind: dict[str, Any] = {"strategy": "channel"}
        if group:
            kind = {"strategy": "group", "group_size": group}
        args = QuantizationArgs(
            num_bits=bits,
            symmetric=True,
            actorder=ActivationOrdering.STATIC if order == "diagonal" else None,
            observer="memoryless_minmax",
            **kind,
        )
        given = self.weight_OI[None].clone(), self.gram_II[None].clone()

        def work() -> tuple[Tensor, Tensor, Tensor]:
            observer = Observer.load_from_registry(args.observer, base_name="weight", args=args)
            grid = observer(self.weight_OI).get_qparams()
            scale_OG, zero_OG = grid["scale"], grid["zero_point"]
            quantized, _, rounded = quantize_weight(
                *given, scale_OG[None], zero_OG[None], None, args, blocksize=BLOCK, percdamp=damp
            )
            return quantized[0], scale_OG, rounded

        (weight_OI, scale_OG, rounded), seconds = timed(work)
        if rounded.any():
            raise SystemExit("llm-compressor fell back to rounding to nearest.")
        return weight_OI, scale_OG, seconds


def linear(weight_OI: Tensor) -> nn.Linear:
    """A linear of the packages' own kind."""
    outputs, inputs = weight_OI.shape
    module = nn.Linear(inputs, outputs, bias=False)
    module.weight.data = weight_OI.clone()
    return module


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds of processor time that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


@torch.no_grad()
def main(package: str, inputs: Path, outputs: Path) -> None:
    """Solve every linear in every setting."""
    torch.set_num_threads(1)
    peer = {each.NAME: each for each in (GptqModel, LlmCompressor)}[package]
    found: dict[str, Tensor] = {}
    with safe_open(inputs, framework="pt") as file:
        asked = json.loads(file.metadata()["asked"])
        for name in asked["linears"]:
            solver = peer(file.get_tensor(f"{name}/weight"), file.get_tensor(f"{name}/input"))
            found[f"{name}/gram"] = solver.gram_II
            for key, setting in asked["settings"].items():
                tries = [solver.solve(**setting) for _ in range(asked["repeats"])]
                weight_OI, scale_OG, _ = tries[0]
                found[f"{name}/{key}/weight"] = weight_OI
                found[f"{name}/{key}/scale"] = scale_OG.float()
                found[f"{name}/{key}/seconds"] = torch.tensor(min(each[2] for each in tries))
    whole = {name: each.detach().contiguous().clone() for name, each in found.items()}
    versions = f"{package} {version(package)}, torch {torch.__version__}"
    save_file(whole, outputs, {"versions": versions})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
