"""The error of a part: a share of what is wanted, by a plain loop."""

import pytest
import torch

from babelpress.recover.blocks import loss


def test_the_loss_is_the_squared_difference_as_a_share():
    given, wanted = torch.randn(5, 3), torch.randn(5, 3)

    apart = sum((a - b) ** 2 for a, b in zip(given.flatten(), wanted.flatten(), strict=True))
    whole = sum(b**2 for b in wanted.flatten())
    assert float(loss(given, wanted)) == pytest.approx(float(apart / whole), rel=1e-5)
    assert float(loss(wanted, wanted)) == 0
    assert float(loss(10 * given, 10 * wanted)) == pytest.approx(float(loss(given, wanted)))
