"""Small integers into 32-bit words, low bits first.

Value j of a row takes bits j·b to j·b + b − 1 of the row read as one stream of bits; a value that
does not fit into what is left of a word goes on in the next one. compressed-tensors and GPTQ files
hold their codes and zero points so; at 3 bits 32 values fill 3 words.

Shapes: R rows, C values of a row, W words of a row.
"""

import math

import torch
from torch import Tensor

WORD = 32


def words(count: int, bits: int) -> int:
    """How many words `count` values take."""
    return math.ceil(count * bits / WORD)


def pack(codes_RC: Tensor, bits: int) -> Tensor:
    """Rows of whole numbers from 0 to 2^bits − 1 as rows of words (R, W), int32.

    What is left of the last word is zero.
    """
    rows, columns = codes_RC.shape
    turns = math.ceil(columns / WORD)  # after 32 values the places in a word come round again
    words_RTb = torch.zeros(rows, turns, bits, dtype=torch.int32, device=codes_RC.device)
    for place in range(WORD):
        codes_RS = codes_RC[:, place::WORD].int()
        word, start = divmod(place * bits, WORD)
        here_RSb = words_RTb[:, : codes_RS.shape[1]]
        here_RSb[..., word] |= codes_RS << start
        if start + bits > WORD:
            here_RSb[..., word + 1] |= codes_RS >> (WORD - start)
    return words_RTb.flatten(1)[:, : words(columns, bits)].contiguous()
