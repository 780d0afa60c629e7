"""Our codes as blocks of GGUF: exactly the same weights, or none.

GGUF keeps 32 inputs of a row together with a float16 scale d. With our codes (q − z)·scale, a group
of a multiple of 32 inputs and steps s = q − z, a linear is one of these, whichever is the smallest:

    Q4_0   d·(u − 8)     u = s + 8     4 bits     4.5 bits a weight: symmetric codes of 2 to 4 bits
    Q4_1   d·u + m       u = q         4 bits     5.0, where m = −z·scale is exact in float16
    Q5_0   d·(u − 16)    u = s + 16    5 bits     5.5: what is left of asymmetric 4 bits
    Q8_0   d·s           s             8 bits     8.5: 8 bits

The low four bits of inputs j and j + 16 of a block share a byte; the fifth ones make a 32-bit word.

Shapes: O outputs, I inputs, G groups, N blocks of a row, B = 32 inputs of a block.
"""

import numpy as np
from torch import Tensor

from babelpress.numerics.grids import Codes

WIDTH = 32  # inputs of a block
HALF = WIDTH // 2
# Steps q − z that a type can hold.
RANGES = {"Q4_0": (-8, 7), "Q5_0": (-16, 15), "Q8_0": (-128, 127)}


def kind(codes: Codes) -> str | None:
    """The smallest type that holds the codes exactly, or None where no type does."""
    if codes.group % WIDTH or not _exact(codes.scale_OG):
        return None
    low, high = _span(codes)
    fitting = [name for name, (least, most) in RANGES.items() if least <= low and high <= most]
    if fitting[:1] != ["Q4_0"] and codes.bits <= 4 and _exact(_minimum(codes)):
        return "Q4_1"
    return fitting[0] if fitting else None


def encode(codes: Codes, kind: str) -> np.ndarray:
    """The bytes (O, N·bytes of a block) of codes that `kind` holds."""
    d_ON = _blocks_of(codes, codes.scale_OG)
    if kind == "Q8_0":
        return _joined(d_ON, _steps(codes).astype(np.int8).view(np.uint8))
    if kind == "Q4_1":
        heads = np.concatenate([d_ON, _blocks_of(codes, _minimum(codes))], axis=2)
        return _joined(heads, _nibbles(codes.codes_OI.numpy().reshape(*d_ON.shape[:2], WIDTH)))
    steps_ONB = _steps(codes)
    if kind == "Q4_0":
        return _joined(d_ON, _nibbles((steps_ONB + 8).astype(np.uint8)))
    assert kind == "Q5_0", kind
    raised_ONB = (steps_ONB + 16).astype(np.uint8)
    fifth = np.packbits(raised_ONB >> 4, axis=2, bitorder="little")
    return _joined(d_ON, fifth, _nibbles(raised_ONB & 15))


def _span(codes: Codes) -> tuple[int, int]:
    steps_ONB = _steps(codes)
    return int(steps_ONB.min()), int(steps_ONB.max())


def _steps(codes: Codes) -> np.ndarray:
    zero_ON1 = _each_block(codes, codes.zero_OG)[:, :, None].astype(np.int16)
    return codes.codes_OI.numpy().reshape(*zero_ON1.shape[:2], WIDTH).astype(np.int16) - zero_ON1


def _minimum(codes: Codes) -> Tensor:
    return -codes.zero_OG.float() * codes.scale_OG


def _exact(number: Tensor) -> bool:
    return bool((number.half().float() == number).all())


def _each_block(codes: Codes, each_OG: Tensor) -> np.ndarray:
    return each_OG.repeat_interleave(codes.group // WIDTH, dim=1).numpy()


def _blocks_of(codes: Codes, each_OG: Tensor) -> np.ndarray:
    """A number of every group as the two bytes of a float16 in every block: (O, N, 2)."""
    return _each_block(codes, each_OG).astype("<f2")[:, :, None].view(np.uint8)


def _nibbles(low_ONB: np.ndarray) -> np.ndarray:
    return low_ONB[:, :, :HALF] | (low_ONB[:, :, HALF:] << 4)


def _joined(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=2).reshape(len(parts[0]), -1)
