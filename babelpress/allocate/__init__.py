"""Rules of allocation: how much each block gives. The folder is the registry.

A rule is a module with two functions, and constants as methods have them:

    def measure(weights, stats, *, option=default, ...) -> float
                        what a block shows: its weights (O, I) and the means that their inputs had,
                        both by the name of the linear
    def densities(measured, density, *, option=default, ...) -> list[float]
                        the share of weights that stays in every block, `density` in the mean

A rule that goes by what was measured has, instead of both,

    def asked(*, tokens=…, densities="", bits="", trades=…) -> Asked
                        how much text is looked at, what a block may get, how much is tried
    def check(sizes, budget)
                        raises BadSetting where no choice is within the budget
    def solve(losses, sizes, budget) -> list[int]
                        the option of every block, from what every language loses with each
    def trade(chosen, losses, sizes, budget, worst, trades) -> Trades
                        what is better where the whole model is measured

which serves quantization too. Whatever a rule says, every linear loses over all blocks exactly as
many weights as the pattern asks of it (`_exact.py`), and codes with their scales take no more bits
than where all blocks have the same; only where they go differs. Bits of blocks may come from a YAML
file instead.

Shapes: O outputs, I inputs of a linear.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from babelpress.errors import BadSetting
from babelpress.registry import Registry
from babelpress.system import plain

RULES = Registry(__name__, __path__, "rule of allocation", ("measure", "densities", "asked"))


def by_table(rule: str) -> bool:
    """Whether a rule goes by measured losses; it is read, not imported."""
    return RULES.defines(rule, "solve")


def bits_by_block(value: Any) -> dict[int, int]:
    """Bits by the number of a block, from a mapping or the YAML file that one is in.

    Raises BadSetting where the file cannot be read or holds anything else.
    """
    found = value
    if isinstance(value, str | Path):
        try:
            found = plain.load(Path(value).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, plain.NotPlain) as error:
            first = str(error).split("\n")[0]
            raise BadSetting(f"the bits of blocks in {value} cannot be read: {first}.") from error
    if found is None:
        return {}
    if not isinstance(found, Mapping) or not all(_is_row(*each) for each in found.items()):
        raise BadSetting(
            f"the bits of blocks are {found!r}. Write the number of a block and its bits, one a "
            "line, as in 0: 8."
        )
    return {int(block): int(bits) for block, bits in found.items()}


def _is_row(block: object, bits: object) -> bool:
    """Whether this is a block and its bits; JSON has numbers of blocks as words."""
    known = type(block) is int or (isinstance(block, str) and block.isdecimal())
    return known and int(str(block)) >= 0 and type(bits) is int
