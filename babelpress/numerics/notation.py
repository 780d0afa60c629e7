"""How patterns and grids are written, and which of them there are: read without torch.

`0.5` of every row, `0.5/layer`, `0.5/128` of every 128 columns, `2of4`; bits, group and clipping of
a grid. What they do to weights is in patterns.py and grids.py.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

from babelpress.errors import BadSetting

BITS = (2, 3, 4, 8)
CHANNEL = "channel"
CLIPS = ("none", "mse")
Keep = tuple[int, int]  # so many stay of so many
Share = tuple[float, int | str]  # a fraction goes: of a row, of the layer, or of so many columns
ROW, LAYER = "row", "layer"


def pattern(text: str) -> Keep | Share:
    """Read `0.5`, `0.5/layer`, `0.5/128` or `2of4`. Raises BadSetting for anything else."""
    text = text.strip()
    if match := re.fullmatch(r"(\d+)\s*(of|:)\s*(\d+)", text):
        return _keep_of(int(match[1]), match[2], int(match[3]))
    fraction, slash, scope = text.partition("/")
    try:
        share = float(fraction)
        where = ROW if not slash else LAYER if scope == LAYER else int(scope)
    except ValueError:
        raise BadSetting(
            f"'{text}' is no sparsity pattern. Write 0.5 (of every row), 0.5/layer, 0.5/128 "
            "(of every 128 columns) or 2of4 (keep 2 of every 4)."
        ) from None
    check_fraction(share)
    if isinstance(where, int):
        check_columns(where)
    return share, where


def written(text: str) -> str:
    """A pattern as it is written everywhere. Raises BadSetting for what is none."""
    first, second = pattern(text)
    if isinstance(first, int) and isinstance(second, int):
        return f"{first}of{second}"
    return f"{first}" if second == ROW else f"{first}/{second}"


def check_permute(method: str, options: Mapping[str, object], text: str) -> None:
    """Raise BadSetting where a method is to permute inputs, and the pattern keeps no n of m."""
    if options.get("permute") and not isinstance(pattern(text)[0], int):
        raise BadSetting(
            f"{method}'s permute is for patterns that keep n of m, not for {written(text)}. Leave "
            "it out, or use --pattern 2of4."
        )


def check_fraction(fraction: float | Fraction) -> None:
    """Raise BadSetting for a share that does not leave something."""
    if not 0 <= fraction < 1:
        raise BadSetting(f"sparsity must be at least 0 and below 1, not {fraction}.")


def check_columns(columns: int) -> None:
    """Raise BadSetting for a group of no columns."""
    if columns < 1:
        raise BadSetting(f"a group needs at least 1 column, not {columns}.")


def check_keep(keep: int, of: int) -> None:
    """Raise BadSetting where more would stay than there are, or none."""
    if not 1 <= keep <= of:
        raise BadSetting(
            f"keep {keep} of {of} makes no sense: keep at least 1 and at most all, such as 2of4."
        )


def check_grid(bits: int, group: int | str, clip: str) -> None:
    """Raise BadSetting for a grid that there is not."""
    if bits not in BITS:
        raise BadSetting(f"bits is {bits}. Choose one of {', '.join(map(str, BITS))}.")
    if group != CHANNEL and (isinstance(group, str) or group < 1):
        raise BadSetting(f"group is {group}. Give a number of inputs, or {CHANNEL}.")
    if clip not in CLIPS:
        raise BadSetting(f"clip is '{clip}'. Choose one of {', '.join(CLIPS)}.")


def _keep_of(first: int, between: str, of: int) -> Keep:
    if between == ":" and 2 * first != of:
        raise BadSetting(
            f"'{first}:{of}' is read in two ways in the literature, keep {first} or drop {first}. "
            f"Write {first}of{of} to keep {first} of every {of}, or {of - first}of{of} to drop "
            f"{first}."
        )
    check_keep(first, of)
    return first, of
