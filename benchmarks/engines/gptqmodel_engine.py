"""Does GPTQModel read from a `gptq` export what was quantized, and compute the same with it?

    python gptqmodel_engine.py expect RUN FILE       where babelpress is: what is to come out
    ENV/bin/python gptqmodel_engine.py check EXPORT FILE   where GPTQModel is: what comes out

`expect` puts the weights that the codes of a run stand for into the blocks of its model, in
float32, and writes them with token ids and the logits, in float32 and in bfloat16. `check` loads
the export, compares weights, and logits in the dtype the engine chose and in float32; it ends with
1 where anything disagrees. ENV: gptqmodel-requirements.txt.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

# Packages are imported where they are used: no environment has both.

TEXT = """The old bridge was closed in March, and nobody knew why.
Ndege mdogo aliketi juu ya mti mrefu karibu na nyumba yetu.
Am Abend kamen die Kinder müde, aber froh nach Hause.
हम कल सुबह बाज़ार जाएँगे और ताज़ी सब्ज़ियाँ लाएँगे।
وصل القطار متأخرا بسبب المطر الشديد.
Мы долго шли вдоль реки, пока не стемнело."""
EXACT = 0.0  # weights: the same float32 numbers
FLOAT32 = 1e-4  # logits in float32: only the order of sums differs
SLACK = 4  # logits in the engine's dtype: at most so much worse than ours in bfloat16


def expect(run: Path, file: Path) -> None:
    """Write ids, weights and logits of a run to a file."""
    from babelpress.models.linears import set_weight
    from babelpress.models.open import open_model
    from babelpress.models.walk import Walk
    from babelpress.press.codes import CodesFolder
    from babelpress.text.draw import fitting_length

    opened = open_model(str(run / "model"), dtype="float32")
    codes = CodesFolder.open(run / "codes")
    walk = Walk(opened.model)
    weights = {}
    for name in codes.names():
        if walk.index_of(name) is None:
            continue  # the format stores embedding and head dense, in the dtype of the model
        weights[name] = codes.load(name).dequantize()
        set_weight(opened.model.get_submodule(name), weights[name])
    ids_1T = opened.tokenizer(TEXT, return_tensors="pt").input_ids
    ids_1T = ids_1T[:, : fitting_length(opened, ids_1T.shape[1])]
    found = {f"weight/{name}": weight_OI for name, weight_OI in weights.items()}
    found["ids"] = ids_1T
    found["logits/float32"] = logits(opened.model, ids_1T)
    found["logits/bfloat16"] = logits(opened.model.bfloat16(), ids_1T)
    save_file(found, file)
    print(f"{len(weights)} linears, {ids_1T.shape[1]} tokens -> {file}")


def check(export: Path, file: Path) -> bool:
    """Compare what GPTQModel makes of an export with a file; True where all agrees."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    from gptqmodel import (  # pyright: ignore[reportMissingImports]
        BACKEND,
        GPTQModel,
        __version__,
    )

    expected = load_file(file)
    engine = GPTQModel.load(str(export), device="cpu", backend=BACKEND.GPTQ_TORCH)
    model = engine.model.eval()
    print(f"gptqmodel {__version__}, torch {torch.__version__}, {export}")
    outcomes = []

    truth, own = expected["logits/float32"], expected["logits/bfloat16"]
    limit = SLACK * (own - truth).abs().max().item()
    found = logits(model, expected["ids"])
    outcomes.append(compare(f"logits, {model.dtype}", found, truth, limit))
    compare("  ours in torch.bfloat16", own, truth, limit)

    model.float()  # scales too, so that products of codes and scales are not rounded
    outcomes.append(compare("logits, float32", logits(model, expected["ids"]), truth, FLOAT32))
    worst, count = worst_weight(model, expected)
    print(f"weights of {count} linears: max difference {worst:g}")
    outcomes.append(worst <= EXACT)
    return all(outcomes)


@torch.no_grad()
def logits(model: nn.Module, ids_1T: Tensor) -> Tensor:
    """Logits in float32, whatever the model computes in."""
    return model(ids_1T).logits.float()


def compare(what: str, found: Tensor, truth: Tensor, limit: float) -> bool:
    """Print how far logits are from the true ones; True where the largest gap is within a limit."""
    gap = (found - truth).abs()
    same = (found.argmax(-1) == truth.argmax(-1)).float().mean()
    print(
        f"{what}: max difference {gap.max():.3g}, mean {gap.mean():.3g} "
        f"(logits reach {truth.abs().max():.3g}; limit {limit:.3g}), "
        f"greedy tokens equal {same:.1%}"
    )
    return gap.max().item() <= limit


def worst_weight(model: nn.Module, expected: dict[str, Tensor]) -> tuple[float, int]:
    """The largest difference of a weight that the engine unpacked, and the number of linears."""
    gaps = []
    for key, weight_OI in expected.items():
        place, _, name = key.partition("/")
        if place == "weight":
            linear: Any = model.get_submodule(name)
            unpacked_IO = linear.dequantize_weight()
            gaps.append((unpacked_IO.T.float() - weight_OI).abs().max().item())
    return max(gaps), len(gaps)


if __name__ == "__main__":
    mode, folder, file = sys.argv[1:]
    if mode == "expect":
        expect(Path(folder), Path(file))
    else:
        sys.exit(0 if check(Path(folder), Path(file)) else 1)
