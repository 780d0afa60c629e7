"""What the training loop reads.

Tested in tests/train/test_loop.py.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import DataCollatorForLanguageModeling


class Sequences(Dataset):
    """Token blocks (N, T) read in a given order; an order may name a block more than once.

    `hide` hides tokens of a block: others at every place in the order, for the same seed always the
    same ones there. A training that is resumed reads a place again that it had read ahead.
    """

    def __init__(
        self,
        ids_NT: np.ndarray,
        order: np.ndarray,
        hide: DataCollatorForLanguageModeling | None = None,
        seed: int = 0,
    ):
        self.ids_NT, self.order, self.hide, self.seed = ids_NT, order, hide, seed

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        block = {"input_ids": torch.from_numpy(self.ids_NT[self.order[index]].astype(np.int64))}
        if self.hide is None:
            return block
        (drawn,) = np.random.SeedSequence([self.seed, index]).generate_state(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(drawn))
            return {name: value_1T[0] for name, value_1T in self.hide([block]).items()}
