"""What tells recipes apart: `seed 0` and `seed 1` say more than two names of folders.

Tested in tests/report/test_gather.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from babelpress.judge.ladders import whole, word


def apart(chains: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Words for each of some runs that differ from the others'; empty where two have the same.

    Each goes by the recipes of its whole chain, the first one first, and a place by its last part:
    `calibration.seed` is `seed`.
    """
    flat = [dict(whole(chain)) for chain in chains]
    places = [
        place
        for place in dict.fromkeys(place for each in flat for place in each)
        if any(each.get(place) != flat[0].get(place) for each in flat)
    ]
    words = [", ".join(word(place, each.get(place)) for place in places) for each in flat]
    return words if all(words) and len(set(words)) == len(words) else []
