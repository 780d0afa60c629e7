"""Linears that keep bfloat16 and multiply in float32, where the processor does that faster.

A product of two bfloat16 numbers is exact in float32, and kernels for bfloat16 add in float32 and
round once at the end: so does a wide linear. Only the order of the sums differs, as it does from
processor to processor.

Shapes: R rows, O outputs, I inputs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from babelpress.system.processor import slow_in_bfloat16

# Fewer rows are done by the time that the weight was read, so widening it would cost more than it
# gains; measured with 640 to 2,048 inputs.
ROWS = 32
# Of a weight widened at once: 8 MiB, which the allocator takes from what it has just been given
# back. Of larger pieces every page is new, and that takes longer than the product.
NUMBERS = 1 << 21


class WideLinear(nn.Linear):
    """A linear whose bfloat16 products are those of float32, rounded once.

    Other dtypes, other devices, gradients and a few rows are those of `nn.Linear`.
    """

    def forward(self, input: Tensor) -> Tensor:  # the name that torch gives it
        """xWᵀ + b in the dtype of x: (…, I) to (…, O)."""
        return self.some(input, slice(None))

    def some(self, input: Tensor, outputs: slice) -> Tensor:
        """Some of the outputs: (…, I) to (…, O)."""
        bias_O = None if self.bias is None else self.bias[outputs]
        return _product(input, self.weight[outputs], bias_O)


def _product(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    outputs, inputs = weight_OI.shape
    narrow = (x.dtype, weight_OI.dtype) == (torch.bfloat16, torch.bfloat16)
    rows = x.numel() // max(1, inputs)
    if not narrow or x.device.type != "cpu" or rows < ROWS or torch.is_grad_enabled():
        return functional.linear(x, weight_OI, bias_O)
    exact_RI = x.reshape(-1, inputs).float()
    out_RO = x.new_empty(rows, outputs)
    for start in range(0, outputs, max(1, NUMBERS // inputs)):
        part = slice(start, start + max(1, NUMBERS // inputs))
        bias = None if bias_O is None else bias_O[part].float()
        out_RO[:, part] = functional.linear(exact_RI, weight_OI[part].float(), bias)
    return out_RO.view(*x.shape[:-1], outputs)


def widen(model: nn.Module) -> None:
    """Make every linear of a model a wide one, where the processor is slow in bfloat16.

    Their kind changes, not what they hold: names, weights and what is saved stay the same.
    """
    if not slow_in_bfloat16():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = WideLinear
