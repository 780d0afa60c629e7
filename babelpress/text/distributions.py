"""Distributions: what a model or a corpus holds of each language, one file of data/distributions.

Tested in tests/text/test_mixtures.py.
"""

import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, NoReturn

from babelpress.errors import BadSetting, UnknownName
from babelpress.system.files import DATA
from babelpress.text.languages import find

_FOLDER = DATA / "distributions"
PRIOR = "fineweb-2"


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a model or corpus holds of each language, in `unit`; every value is positive.

    `stage` is raw (size of the corpus) or sampled (after re-weighting). `prior` marks a table that
    stands in for models that publish none. `not_languages` holds entries such as code.
    """

    name: str
    unit: str
    stage: str
    source: str
    note: str
    prior: bool
    values: dict[str, float]
    not_languages: dict[str, float]


class Known(NamedTuple):
    """What is known of a model's training languages: its table, or the prior in its place."""

    distribution: str
    disclosed: bool
    words: str


def distribution(name_or_path: str) -> Distribution:
    """Read a distribution of data/distributions by name, or a TOML of the same form by path.

    Raises UnknownName, or BadSetting where the file is not of that form.
    """
    if name_or_path in distributions():
        return _read(_FOLDER / f"{name_or_path}.toml")
    if name_or_path.endswith(".toml"):
        return _read(Path(name_or_path))
    raise UnknownName("distribution", name_or_path, distributions(), "a TOML, given by its path")


def distributions() -> list[str]:
    """Names of the distributions that come with babelpress."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def distribution_of(model: str) -> Known:
    """Which distribution stands for a model, judged by the last part of its id or path."""
    table = tomllib.loads((DATA / "models.toml").read_text(encoding="utf-8"))
    name = model.rstrip("/").rpartition("/")[2].casefold()
    for row in table["model"]:
        if _matches(name, row["patterns"]):
            found = row["distribution"]
            return Known(found, True, f"{model} is described by the distribution {found}")
    disclosed = "not disclosed" if _matches(name, table["undisclosed"]["patterns"]) else "not known"
    words = f"the training shares of {model} are {disclosed}; {PRIOR} is used as a prior"
    return Known(PRIOR, False, words)


def _read(path: Path) -> Distribution:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # also what no UTF-8 and no TOML raise
        unreadable(path, error)
    required = {"name": str, "unit": str, "stage": str, "source": str, "values": dict}
    if missing := sorted(k for k, kind in required.items() if not isinstance(table.get(k), kind)):
        raise BadSetting(f"{path} lacks {', '.join(missing)}. A distribution needs all of these.")
    return Distribution(
        name=table["name"],
        unit=table["unit"],
        stage=table["stage"],
        source=table["source"],
        note=table.get("note", ""),
        prior=table.get("prior", False),
        values=_by_tag(path, table["values"]),
        not_languages=table.get("not-languages", {}),
    )


def _by_tag(path: Path, values: dict[str, object]) -> dict[str, float]:
    tagged: dict[str, float] = {}
    for name, value in values.items():
        tag = find(name).tag
        if tag in tagged:
            raise BadSetting(f"{path} has {tag} twice (again as '{name}'). Add the two up.")
        tagged[tag] = number_of(value, f"{path}: the value of {name}")
        if not tagged[tag]:
            raise BadSetting(f"{path}: the value of {name} is 0. Leave the language out.")
    if not tagged:
        raise BadSetting(f"{path} has no values. Write one 'language = number' a line.")
    return tagged


def number_of(value: object, what: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if math.isfinite(number) and number >= 0:
        return number
    raise BadSetting(f"{what} is {value}. It must be a number of at least 0.")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unreadable(path: Path, error: Exception) -> NoReturn:
    what = str(error).splitlines()[0]
    raise BadSetting(f"{path} cannot be read: {what}. Give a text file in UTF-8.") from error
