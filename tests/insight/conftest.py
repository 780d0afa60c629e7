"""What the tests of analyses share: a small model, and moments that are written by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from babelpress.models.sites import Site
from babelpress.moments.moments import Moments


def seen(sumsq_I, n=4, gram_II=None, positive_I=None):
    """Moments of which only the squares, and what is given, say anything."""
    squares_I = torch.as_tensor(sumsq_I, dtype=torch.float64)
    zero_I = torch.zeros_like(squares_I)
    return Moments(n, zero_I, zero_I, squares_I, zero_I, positive_I or zero_I, gram_II)


class Store(list[Any]):
    """Blocks of moments in place of a folder of them."""

    def __init__(self, blocks=(), *, gram=False):
        super().__init__(blocks)
        self.identity = {"gram": gram}


class Planted:
    """In place of what analyses are given: blocks of moments, and weights of runs by label."""

    def __init__(self, blocks=(), *, beside=None, gram=False, runs=None):
        self.moments = Store(blocks, gram=gram)
        self.beside = None if beside is None else Store(beside)
        self._runs, self.labels = runs or {}, list(runs or {})

    def languages(self, store):
        return list(dict.fromkeys(tag for block in store for one in block.values() for tag in one))

    def blocks(self, store, what):
        assert what
        return iter(enumerate(store))

    def paired(self, label):
        return iter(enumerate(self._runs[label]))


@pytest.fixture
def plant():
    """Makes blocks of moments: one site a block, {language: squares}."""

    def make(*blocks, site="q", n=4):
        return [
            {
                Site(site, (site,), len(next(iter(block.values())))): {
                    tag: seen(squares, n) for tag, squares in block.items()
                }
            }
            for block in blocks
        ]

    return SimpleNamespace(blocks=make, seen=seen, given=Planted)
