"""Repairs. The folder is the registry: `recover/logits.py` is `logits`.

A repair is a module with

    def loss(logits_NV, told, target_N) -> a scalar     with OF = "tokens"
                        of scored tokens: what the model says, what the dense one says of them
                        (None where it is not asked), and what is true
    def loss(given_PH, wanted_PH) -> a scalar            with OF = "parts"
                        of what a part of a block gives, and what the dense part gives for the same
                        input
    OF = "tokens" or "parts"    whether the whole model learns at once, or block by block
    DENSE = True        where `loss` reads what the dense model says
    GRIDS = True        where it is for weights on a grid, which choose another point of it
    RATES = {"weights": …}      the learning rate of what may be tuned with it
    PAPER = "…"         authors, year, number
    DIFFERS = ("…",)    where it differs from the paper or its code

Losses are means over their rows, so that those of parts, weighted by their rows, give that of the
whole. They are pure and differentiable with respect to the first argument.

Shapes: N scored tokens, V vocabulary, P tokens, H hidden.
"""

from babelpress.registry import Registry

REPAIRS = Registry(__name__, __path__, "repair", ("loss",))
