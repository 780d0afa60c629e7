"""Weights on a grid learn which of two neighbouring points each takes, and how wide the grid is.

SignRound (Cheng et al. 2023, arXiv:2309.05516), block by block:

    code = clip(round(w/(c·s) + z + v), 0, 2^bits − 1),  weight = (code − z)·c·s
    v from −½ to ½ for every weight, c from LEAST to MOST for every group; both by signed gradient
    descent, x ← x − rate·sign(∂loss/∂x), the gradient of rounding taken as one

Where the run's code is not the nearest (GPTQ moves them on purpose), w is taken where it is nearest
to the dense weight and still rounds to that code: with v = 0 and c = 1 every code is that of the
run. Zeros of a pruned model stay: their code is z. Scales keep eight significant bits, so that
exports carry them as before.

The loss is that of `blocks`, of whole blocks.

Shapes: O outputs, I inputs of a linear, G groups, B inputs of a group; P tokens, H features.
"""

from typing import Any

import torch
from torch import Tensor, nn

from babelpress.numerics.grids import SMALLEST, Codes
from babelpress.recover.blocks import loss as loss

OF = "parts"
DENSE = True
GRIDS = True
PAPER = "Cheng et al. 2023, arXiv:2309.05516"
DIFFERS = (
    "It begins with the codes of the run, not with the nearest; the loss is a share of what the "
    "dense block gives, and what does best on text held apart is kept.",
)
LEAST, MOST = 0.8, 1.1  # of a scale
INSIDE = 0.4999  # of a step: what is so near to a code rounds to it


class _Through(torch.autograd.Function):
    """Whatever is done to a number, its gradient is passed on as it is."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, after: Tensor) -> Tensor:  # noqa: ARG004
        return after

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grad[0], None


def _through(before: Tensor, after: Tensor) -> Tensor:
    found: Any = _Through.apply(before, after.detach())
    return found


class Rounded(nn.Module):
    """The weight of a linear from its codes, whose choice learns: a parametrization.

    `dense_OI` is the dense weight, `keep_OI` False where a weight was pruned and stays zero.
    `turned` is for a Conv1D, which has its weight the other way round.
    """

    def __init__(
        self,
        codes: Codes,
        dense_OI: Tensor,
        keep_OI: Tensor | None = None,
        *,
        turned: bool = False,
    ):
        super().__init__()
        self.turned = turned
        self.bits, self.symmetric = codes.bits, codes.symmetric
        groups = codes.scale_OG.shape[1]
        self.scale_OG1, self.zero_OG1 = codes.scale_OG[..., None], codes.zero_OG.float()[..., None]
        code_OGB = codes.codes_OI.float().unflatten(1, (groups, -1))
        wanted_OGB = dense_OI.detach().float().unflatten(1, (groups, -1))
        off_OGB = wanted_OGB / self.scale_OG1 + self.zero_OG1 - code_OGB
        near_OGB = code_OGB + off_OGB.clamp(-INSIDE, INSIDE) - self.zero_OG1
        self.weight_OGB = near_OGB * self.scale_OG1
        self.keep_OGB = None if keep_OI is None else keep_OI.unflatten(1, (groups, -1))
        self.offset_OGB = nn.Parameter(torch.zeros_like(self.weight_OGB))
        self.width_OG1 = nn.Parameter(torch.ones_like(self.scale_OG1))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight (O, I), turned (I, O), in its dtype."""
        code_OGB, scale_OG1 = self._chosen()
        made_OI = ((code_OGB - self.zero_OG1) * scale_OG1).flatten(1)
        return (made_OI.T if self.turned else made_OI).to(weight.dtype)

    def _chosen(self) -> tuple[Tensor, Tensor]:
        wide_OG1 = self.scale_OG1 * self.width_OG1
        scale_OG1 = _through(wide_OG1, wide_OG1.clamp(min=SMALLEST).bfloat16().float())
        place_OGB = self.weight_OGB / scale_OG1 + self.zero_OG1 + self.offset_OGB
        code_OGB = _through(place_OGB, place_OGB.round()).clamp(0, 2**self.bits - 1)
        if self.keep_OGB is not None:
            code_OGB = torch.where(self.keep_OGB, code_OGB, self.zero_OG1)
        return code_OGB, scale_OG1

    @torch.no_grad()
    def settle(self) -> None:
        """Put what learns back into its bounds."""
        self.offset_OGB.clamp_(-0.5, 0.5)
        self.width_OG1.clamp_(LEAST, MOST)

    @torch.no_grad()
    def codes(self) -> Codes:
        """The codes as they are now."""
        code_OGB, scale_OG1 = self._chosen()
        whole = (code_OGB.flatten(1), scale_OG1[..., 0], self.zero_OG1[..., 0])
        return Codes(
            self.bits,
            self.symmetric,
            whole[0].to(torch.uint8).contiguous(),
            whole[1].float().contiguous(),
            whole[2].to(torch.uint8).contiguous(),
        )
