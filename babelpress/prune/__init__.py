"""Pruning methods. The folder is the registry: `prune/wanda.py` is the method `wanda`.

A method is a module with one function, and constants where they hold:

    def prune(weight_OI, stats, pattern, *, option=default, ...) -> weight_OI
    READS = ("gram", "sumabs", …)   what it reads besides mean squares and the largest inputs:
                        "gram" the Gram matrix, "sumabs" the mean of |x|, "sum" that of x,
                        "positive" how often x > 0, "languages" every language's own means,
                        "against" the mean squares of a second text
    ADAPTS = True       it fits the weights that stay to what was seen
    STACKS = True       the rows of all linears of a site come at once, with a `Stacked` pattern
    PAPER = "…"         authors, year, number, equation
    DIFFERS = ("…",)    where it differs from the paper or its code

It is pure: it returns a new weight of the same dtype, in which exactly as many weights are zero as
the pattern asks, and touches neither its arguments nor the disk. Its keyword arguments are its
options. Command line, recipes, cards and docs read this from the file.

Shapes: O outputs, I inputs of one linear.
"""

from babelpress.registry import Registry

PRUNERS = Registry(__name__, __path__, "pruning method", ("prune",))
