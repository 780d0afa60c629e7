"""What a block may get where a rule chooses by measurement: densities, or bits.

Read without torch, so that settings can be checked before anything is opened.

Tested in tests/allocate/test_minimax.py.
"""

from collections.abc import Sequence

from babelpress.errors import BadSetting
from babelpress.numerics import notation

AROUND = (-0.2, -0.1, 0.0, 0.1, 0.2)  # of the density that a pattern asks
NEAR = 2  # of n of m: so many more or fewer
LEAST = 2  # options, or there is nothing to choose


def densities(pattern: str, wanted: str) -> list[float]:
    """The shares of weights that may stay in a block, ascending: those wanted, or around the asked.

    Of n of m they are whole numbers of m. Raises BadSetting for what is no density, or where none
    is as small as what the pattern leaves.
    """
    first, second = notation.pattern(pattern)
    kept, of = (first, second) if isinstance(first, int) and isinstance(second, int) else (0, 0)
    asked = round(kept / of if of else 1 - first, 6)
    if wanted:
        found = [_number(each, "densities") for each in wanted.split(",")]
    elif of:
        found = [round(each / of, 6) for each in range(kept - NEAR, kept + NEAR + 1)]
        found = [each for each in found if 0 < each <= 1]
    else:
        found = [each for by in AROUND if 0 < (each := round(asked + by, 6)) <= 1]
    for each in found:
        if not 0 < each <= 1:
            raise BadSetting(f"densities has {each:g}. A share that stays is above 0, at most 1.")
        if of and abs(each * of - round(each * of)) > 1e-3:
            raise BadSetting(
                f"densities has {each:g}, which {pattern} cannot have: give shares of {of}, such "
                f"as {1 / of:g}."
            )
    return _ascending(found, asked, "densities", pattern)


def bits(asked: int, wanted: str) -> list[int]:
    """The bits that a block may have, ascending: those wanted, or all that grids have.

    Raises BadSetting for bits that no grid has, or where none are as few as those asked for.
    """
    found = [_number(each, "bits") for each in wanted.split(",")] if wanted else [*notation.BITS]
    for each in found:
        if each not in notation.BITS:
            known = ", ".join(map(str, notation.BITS))
            raise BadSetting(f"bits has {each:g}. Choose among {known}.")
    return [int(each) for each in _ascending(found, asked, "bits", f"{asked} bits")]


def check(tokens: int, trades: int) -> None:
    """Raise BadSetting for so little text, or so few trades, as there are not."""
    if tokens < 2:
        raise BadSetting(f"tokens is {tokens}: losses need at least 2 of each language.")
    if trades < 0:
        raise BadSetting(f"trades is {trades}. Give how many are measured at most, or 0 for none.")


def _ascending(found: Sequence[float], asked: float, name: str, what: str) -> list[float]:
    once = sorted(set(found))
    words = ", ".join(f"{each:g}" for each in once)
    if len(once) < LEAST:
        raise BadSetting(
            f"{name} has {words} alone, so there is nothing to choose for {what}. Give more, with "
            "commas between."
        )
    if once[0] > asked:
        raise BadSetting(
            f"{name} has {words}, and {what} asks for {asked:g} in the mean. Give some that is "
            "smaller."
        )
    return once


def _number(word: str, name: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadSetting(
            f"{name} has '{word}', which is no number. Write numbers with commas between."
        ) from None
