"""Quantization grids: integers, a scale and a zero point for every group of inputs.

A weight is stood for by (q − z)·scale with q from 0 to 2^bits − 1. Symmetric: z = 2^(bits−1) and
scale = max|w| / ((2^bits − 1) / 2), as compressed-tensors and GPTQ have it; asymmetric: z is the
integer that stands for zero. Either way zero is a point of the grid, so a zero weight stays zero.
Scales have eight significant bits: bfloat16, float16 (to 65504) and float32 all hold them exactly,
and every engine computes with the weights that were measured here.

Shapes: O outputs, I inputs of a linear; B inputs of a group; G groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from babelpress.errors import BadLayer
from babelpress.numerics.notation import BITS as BITS
from babelpress.numerics.notation import CHANNEL, check_grid

SHRINKS = 48  # clipping tries ranges from all of it down to 1 - SHRUNK of it
SHRUNK = 0.6
SMALLEST = 2.0**-17  # smaller scales would lose bits in float16
CACHED = 1 << 18  # weights fitted at once: clipping is three times as fast while they are cached


@dataclass(frozen=True, slots=True)
class Grid:
    """How the weights of a linear are to be stood for.

    `group` is how many inputs of a row share a scale, or `channel` for the whole row. `clip` is
    `none` (the range of the weights) or `mse` (the shrunk range with the least squared error of
    the weights). Raises BadSetting.
    """

    bits: int = 4
    group: int | str = 128
    symmetric: bool = True
    clip: str = "none"

    def __post_init__(self):
        check_grid(self.bits, self.group, self.clip)

    def __str__(self) -> str:
        kind = "" if self.symmetric else ", asymmetric"
        clip = "" if self.clip == "none" else f", clip {self.clip}"
        group = CHANNEL if self.group == CHANNEL else f"group {self.group}"
        return f"{self.bits} bits, {group}{kind}{clip}"

    @property
    def highest(self) -> int:
        """The largest code."""
        return 2**self.bits - 1

    def width(self, inputs: int, where: str) -> int:
        """Inputs of a group in a linear. Raises BadLayer where the group does not divide them."""
        if isinstance(self.group, str):
            return inputs
        if inputs % self.group:
            raise BadLayer(
                f"a group of {self.group} does not divide the {inputs} inputs of {where}. "
                f"Give a group that does, or {CHANNEL}, or leave the site out with --skip."
            )
        return self.group

    def fit(self, weight_OB: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point of one group of inputs, a row each: (O,) float32, zeros whole."""
        weight_OB = weight_OB.detach().float()
        low_O = weight_OB.amin(1).clamp(max=0)
        high_O = weight_OB.amax(1).clamp(min=0)
        scale_O, zero_O = self._cover(low_O, high_O)
        if self.clip == "none":
            return scale_O, zero_O
        least_O = self._squared_error(weight_OB, scale_O, zero_O)
        for step in range(1, SHRINKS):
            kept = 1 - SHRUNK * step / SHRINKS
            tried_O, tried_zero_O = self._cover(low_O * kept, high_O * kept)
            error_O = self._squared_error(weight_OB, tried_O, tried_zero_O)
            better_O = error_O < least_O
            least_O = torch.where(better_O, error_O, least_O)
            scale_O = torch.where(better_O, tried_O, scale_O)
            zero_O = torch.where(better_O, tried_zero_O, zero_O)
        return scale_O, zero_O

    def fit_groups(self, weight_OI: Tensor, where: str) -> tuple[Tensor, Tensor]:
        """`fit` for every group of a linear: scales and zero points (O, G)."""
        width = self.width(weight_OI.shape[1], where)
        parts = weight_OI.reshape(-1, width).split(max(1, CACHED // width))
        scales, zeros = zip(*(self.fit(part) for part in parts), strict=True)
        rows = len(weight_OI)
        return torch.cat(scales).view(rows, -1), torch.cat(zeros).view(rows, -1)

    def code(self, weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """The nearest codes, float32 whole numbers; `scale` and `zero` of a shape that fits."""
        return (weight / scale).round_().add_(zero).clamp_(0, self.highest)

    def _cover(self, low_O: Tensor, high_O: Tensor) -> tuple[Tensor, Tensor]:
        span_O = 2 * torch.maximum(-low_O, high_O) if self.symmetric else high_O - low_O
        scale_O = (span_O / self.highest).clamp(min=SMALLEST).bfloat16().float()
        # a group of zeros: any scale stands for it
        scale_O = scale_O.masked_fill(span_O == 0, 1)
        if self.symmetric:
            return scale_O, torch.full_like(scale_O, 2 ** (self.bits - 1))
        return scale_O, (-low_O / scale_O).round().clamp(0, self.highest)

    def _squared_error(self, weight_OB: Tensor, scale_O: Tensor, zero_O: Tensor) -> Tensor:
        scale_O1, zero_O1 = scale_O[:, None], zero_O[:, None]
        near_OB = (self.code(weight_OB, scale_O1, zero_O1) - zero_O1) * scale_O1
        return (near_OB - weight_OB).square().sum(1)


@dataclass(frozen=True, slots=True)
class Codes:
    """The integers that stand for the weights of a linear, with the scales and zeros of groups.

    `codes_OI` and `zero_OG` are uint8 from 0 to 2^bits − 1, `scale_OG` is float32.
    """

    PARTS: ClassVar = ("codes", "scale", "zero")

    bits: int
    symmetric: bool
    codes_OI: Tensor
    scale_OG: Tensor
    zero_OG: Tensor

    @classmethod
    def of(cls, grid: Grid, codes_OI: Tensor, scale_OG: Tensor, zero_OG: Tensor) -> "Codes":
        """From whole numbers of any dtype."""
        whole = (codes_OI.to(torch.uint8), scale_OG.float(), zero_OG.to(torch.uint8))
        return cls(grid.bits, grid.symmetric, *(each.contiguous() for each in whole))

    @property
    def group(self) -> int:
        """Inputs of a group."""
        return self.codes_OI.shape[1] // self.scale_OG.shape[1]

    def dequantize(self) -> Tensor:
        """The weights (O, I) that the codes stand for, float32."""
        grouped_OGB = self.codes_OI.float().unflatten(1, (self.scale_OG.shape[1], -1))
        grouped_OGB.sub_(self.zero_OG.float()[..., None]).mul_(self.scale_OG[..., None])
        return grouped_OGB.flatten(1)

    def split(self, rows: tuple[int, ...]) -> "list[Codes]":
        """The codes of linears that lay on top of one another."""
        parts = (t.split(rows) for t in (self.codes_OI, self.scale_OG, self.zero_OG))
        return [Codes(self.bits, self.symmetric, *part) for part in zip(*parts, strict=True)]

    def tensors(self) -> dict[str, Tensor]:
        """The parts under the names they have on disk."""
        return {"codes": self.codes_OI, "scale": self.scale_OG, "zero": self.zero_OG}

    @classmethod
    def from_tensors(cls, bits: int, symmetric: bool, tensors: Mapping[str, Tensor]) -> "Codes":
        """The inverse of `tensors`."""
        return cls(bits, symmetric, tensors["codes"], tensors["scale"], tensors["zero"])
