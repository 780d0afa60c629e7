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
    ONLY_WITH = {"p": {"over": ("pnorm",)}}  options that have an effect only beside some values of
                        others; given with any other value they are refused
    DIFFERS = ("…",)    where it differs from the paper or its code

A method that wants the inputs of a site in another order first (for keep n of m) has a second one:

    def order_inputs(weight_OI, stats, pattern, parts_GS, *, permute=False, ...) -> order_I
                        input i is to become what order_I[i] is; each tensor of `parts_GS` is of
                        inputs (G, S) that may change places within its lines, all of them alike

and is only asked where its option `permute` is set, with the linears of the site on top of one
another.

It is pure: it returns a new weight of the same dtype, in which exactly as many weights are zero as
the pattern asks, and touches neither its arguments nor the disk. Its keyword arguments are its
options. Command line, recipes, cards and docs read this from the file.

Shapes: O outputs, I inputs of one linear; G parts of S inputs that change alike.
"""

from babelpress.registry import Registry

PRUNERS = Registry(__name__, __path__, "pruning method", ("prune", "order_inputs"))
