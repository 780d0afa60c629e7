"""What the training loop reads.

Tested in tests/train/test_loop.py.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class Sequences(Dataset):
    """Token blocks (N, T) read in a given order; an order may name a block more than once."""

    def __init__(self, ids_NT: np.ndarray, order: np.ndarray):
        self.ids_NT, self.order = ids_NT, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.ids_NT[self.order[index]].astype(np.int64))
