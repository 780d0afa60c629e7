"""Pairs to token ids and batches for babel-mini-mt, in the order in which they are read.

    python -m benchmarks.reference.mt.blocks TEXT_FOLDER TOKENIZER OUT_FOLDER STEPS

Writes pairs.safetensors and pairs.json (how many pairs and tokens every direction has, and how
often a pair of it is read). A pair is there once for each direction, with the marks of that. A step
takes as many pairs as have TOKENS tokens on both sides, padding counted; its pairs are alike in
length. Directions are drawn by the square root of how many pairs they have (temperature 2 of
Arivazhagan et al. 2019, arXiv:1907.05019), each in shuffled epochs of its own.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from babelpress.models.sides import padded, there
from babelpress.models.tokenizers import Tokenizer
from babelpress.text.languages import ENGLISH, INTO, select
from babelpress.text.marks import Marks
from babelpress.text.translations import IGNORED
from benchmarks.reference.mt.pairs import LANGUAGES, Pair, pairs_of

KIND = "m2m_100"
LONGEST = 128  # tokens of a side; a pair with a longer one is left out
TOKENS = 8192  # of a step, of both sides, with padding
TEMPERATURE = 2.0
DRAWN = 8192  # pairs that are sorted by length at once
FILE, TOLD = "pairs.safetensors", "pairs.json"

Ids = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of one step: what is read (B, S), where there is text, and labels (B, T)."""

    source_BS: Tensor
    there_BS: Tensor
    label_BT: Tensor


@dataclass(frozen=True, slots=True)
class Batches:
    """What the steps read: ids one behind the other, where sides end, and the pairs of steps."""

    ids_N: np.ndarray
    ends_P2: np.ndarray
    order_M: np.ndarray
    ends_K: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> "Batches":
        found = load_file(folder / FILE)
        return cls(found["ids"], found["ends"], found["order"], found["steps"])

    def __len__(self) -> int:
        return len(self.ends_K)

    def pair(self, number: int) -> Ids:
        """Source and labels of a pair."""
        start = int(self.ends_P2[number - 1, 1]) if number else 0
        middle, end = (int(each) for each in self.ends_P2[number])
        return self.ids_N[start:middle].tolist(), self.ids_N[middle:end].tolist()

    def of(self, step: int, pad: int) -> Batch:
        """What a step reads."""
        start = int(self.ends_K[step - 1]) if step else 0
        sides = [self.pair(int(each)) for each in self.order_M[start : int(self.ends_K[step])]]
        sources, labels = [each for each, _ in sides], [each for _, each in sides]
        return Batch(padded(sources, pad), there(sources), padded(labels, IGNORED))


def tokenised(tokenizer: Tokenizer, pairs: dict[str, list[Pair]]) -> dict[str, list[Ids]]:
    """Ids of every pair by direction, without those that are too long."""
    marks, found = Marks.of(tokenizer, KIND), {}
    for tag, some in pairs.items():
        english, own = [each.english for each in some], [each.own for each in some]
        for way, source, target in (
            (f"{ENGLISH}{INTO}{tag}", english, own),
            (f"{tag}{INTO}{ENGLISH}", own, english),
        ):
            both = zip(marks.source(way, source), marks.target(way, target), strict=True)
            found[way] = [each for each in both if max(map(len, each)) <= LONGEST]
    return found


def shares(sizes: Sequence[int]) -> np.ndarray:
    """How often a direction is drawn, by how many pairs it has."""
    weights = np.array(sizes, dtype=float) ** (1 / TEMPERATURE)
    return weights / weights.sum()


def drawn(sizes: Sequence[int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Numbers of pairs without end, DRAWN at a time: whole epochs of each direction, shuffled."""
    first = np.cumsum([0, *sizes[:-1]])
    epochs = [np.empty(0, dtype=np.int64)] * len(sizes)
    while True:
        found = []
        for way, number in enumerate(rng.multinomial(DRAWN, shares(sizes))):
            while len(epochs[way]) < number:
                more = first[way] + rng.permutation(sizes[way])
                epochs[way] = np.concatenate([epochs[way], more])
            found.append(epochs[way][:number])
            epochs[way] = epochs[way][number:]
        yield np.concatenate(found)


def batches(numbers: np.ndarray, length_P2: np.ndarray, tokens: int) -> list[np.ndarray]:
    """The pairs parted into batches of like length that have at most so many tokens, padded."""
    numbers = numbers[np.lexsort(length_P2[numbers].T)]
    found: list[np.ndarray] = []
    start = 0
    for end in range(1, len(numbers) + 1):
        widest = length_P2[numbers[start:end]].max(0).sum()
        if widest * (end - start) > tokens and end - start > 1:
            found.append(numbers[start : end - 1])
            start = end - 1
    return [*found, numbers[start:]]


def order(sizes: Sequence[int], length_P2: np.ndarray, steps: int) -> list[np.ndarray]:
    """The pairs of every step."""
    rng, found = np.random.default_rng(0), []
    for numbers in drawn(sizes, rng):
        some = batches(numbers, length_P2, TOKENS)
        found += [some[place] for place in rng.permutation(len(some))]
        if len(found) >= steps:
            return found[:steps]
    raise AssertionError("pairs are drawn without end")


def write(tokenizer: Tokenizer, pairs: dict[str, list[Pair]], out: Path, steps: int) -> None:
    """Write what `steps` steps read."""
    ids = tokenised(tokenizer, pairs)
    sides = [side for some in ids.values() for each in some for side in each]
    length_P2 = np.array([len(each) for each in sides]).reshape(-1, 2)
    sizes = [len(some) for some in ids.values()]
    taken = order(sizes, length_P2, steps)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        "ids": np.concatenate([np.array(each, dtype=np.uint16) for each in sides]),
        "ends": length_P2.ravel().cumsum().reshape(-1, 2),
        "order": np.concatenate(taken).astype(np.int32),
        "steps": np.cumsum([len(each) for each in taken]),
    }
    save_file(tensors, out / FILE)
    way_P = np.repeat(np.arange(len(sizes)), sizes)
    read_W = np.bincount(way_P[tensors["order"]], minlength=len(sizes))
    told = {
        way: {
            "pairs": sizes[number],
            "tokens": int(length_P2[way_P == number].sum()),
            "readings": round(float(read_W[number] / sizes[number]), 2),
        }
        for number, way in enumerate(ids)
    }
    (out / TOLD).write_text(json.dumps(told, indent=1), encoding="utf-8")
    for way, each in told.items():
        print(f"{way}: {each['pairs']:,} pairs, read {each['readings']} times each")


def main(folder: str, tokenizer: str, out: str, steps: str) -> None:
    pairs = pairs_of(folder, select(LANGUAGES))
    write(AutoTokenizer.from_pretrained(tokenizer), pairs, Path(out), int(steps))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
