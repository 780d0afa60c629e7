"""What tells recipes apart: `seed 0` and `seed 1` say more than two names of folders.

Tested in tests/report/test_gather.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PLACES = ("moments",)  # where something lies is no difference of what was done


def apart(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Words for each of some recipes that differ from the others'; empty where two have the same.

    A place goes by its last part: `calibration.seed` is `seed`.
    """
    flat = [dict(_leaves("", recipe)) for recipe in recipes]
    places = [
        place
        for place in dict.fromkeys(place for each in flat for place in each)
        if place.rpartition(".")[2] not in PLACES
        and any(each.get(place) != flat[0].get(place) for each in flat)
    ]
    words = [", ".join(_word(place, each.get(place)) for place in places) for each in flat]
    return words if all(words) and len(set(words)) == len(words) else []


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(f"{place}.{key}", each)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for number, each in enumerate(value, 1):
            yield from _leaves(f"{place}.{number}", each)
    else:
        yield place, value


def _word(place: str, value: Any) -> str:
    shown = " ".join(map(str, value)) if isinstance(value, list) else value
    name = place.rpartition(".")[2].replace("_", " ")
    if value in (None, "", [], ()):
        return f"no {name}"
    return f"{name} {shown}"
