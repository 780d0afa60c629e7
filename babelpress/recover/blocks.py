"""Every attention and every MLP learns to give what the dense one gives for the same input.

Block by block; inputs are what the repaired blocks before give. The loss is the squared difference
as a share of what the dense part gives, summed over features, mean over tokens weighted by nothing
else:

    loss = Σ ‖given − wanted‖² / Σ ‖wanted‖²

After "A Free Lunch in LLM Compression" (2025, arXiv:2510.14444), where parts of a block do as well
as training all with a tenth of the data, and single matrices do not; and EBFT (Guo et al. 2024,
arXiv:2402.12419), whose part is a whole block.

Shapes: P tokens, H what the part gives.
"""

from torch import Tensor

OF = "parts"
DENSE = True
RATES = {"weights": 3e-4, "norms": 3e-3, "low-rank": 1e-3}
PAPER = "arXiv:2510.14444 and Guo et al. 2024, arXiv:2402.12419"
DIFFERS = (
    "The loss is a share of what the dense part gives; a block whose attention and MLP are no "
    "modules of their own is one part.",
)


def loss(given_PH: Tensor, wanted_PH: Tensor) -> Tensor:
    """The squared difference as a share of what is wanted."""
    apart, whole = (given_PH - wanted_PH).square().sum(), wanted_PH.square().sum()
    return apart / whole.clamp(min=1e-12)
