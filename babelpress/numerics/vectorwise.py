"""LLM.int8: products of rows that were rounded to 8 bits, large inputs left out.

Dettmers et al. 2022 (arXiv:2208.07339, section 3), as bitsandbytes 0.50 computes it for inference:

- a row of the weight is round(127·w / max|w|), of the weight in float16;
- an input of which some row of a batch is at least the threshold (6.0) is an *outlier*: it is
  multiplied as it is, by the weight that the codes stand for; the paper keeps those weights in 16
  bits, for which they would have to be stored twice;
- a row of the other inputs is round(127·x / max|x|), x in float16, the largest among all that are
  below the threshold;
- integers are multiplied exactly, and the product is scaled by both maxima over 127².

So what rows stand beside one in a batch decides which of its inputs are rounded.

Shapes: O outputs, I inputs of a linear, R rows of a batch.
"""

import torch
from torch import Tensor

LARGEST = 127
THRESHOLD = 6.0


def coded(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, int8 (O, I), and the largest |w| of every row, float32 (O,); a row of zeros has zeros.

    What float16 cannot hold is infinite in the second.
    """
    half_OI = weight_OI.detach().half().float()
    largest_O = half_OI.abs().amax(1)
    # as bitsandbytes rounds: the quotient first, for w/max·127 may round to another code
    codes_OI = (half_OI * (LARGEST / largest_O)[:, None]).round().nan_to_num_(0)
    return codes_OI.to(torch.int8), largest_O


def stood_for(codes_OI: Tensor, largest_O: Tensor) -> Tensor:
    """The weight (O, I) that codes stand for, float32."""
    return codes_OI.float() * largest_O[:, None] / LARGEST


def product(
    x_RI: Tensor, codes_OI: Tensor, largest_O: Tensor, threshold: float = THRESHOLD
) -> Tensor:
    """Rows times the transpose of a coded weight, (R, O) float32; no bias.

    A threshold of 0 leaves no input out, as in bitsandbytes.
    """
    half_RI = x_RI.half().float()
    large_RI = half_RI.abs() >= (threshold or torch.inf)
    outlier_I = large_RI.any(0)
    rest_RI = half_RI.masked_fill(large_RI, 0)
    largest_R = rest_RI.abs().amax(1)
    rounded_RI = (rest_RI * (LARGEST / largest_R)[:, None]).round().nan_to_num_(0)
    rounded_RI.masked_fill_(outlier_I, 0)
    # float64 holds the integers: up to 127² for each of many inputs
    whole_RO = rounded_RI.double() @ codes_OI.T.double()
    scale_RO = largest_R[:, None].double() * largest_O.double() / LARGEST**2
    kept_RO = x_RI[:, outlier_I].float() @ stood_for(codes_OI[:, outlier_I], largest_O).T
    return (whole_RO * scale_RO).float() + kept_RO
