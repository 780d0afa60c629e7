"""What a pruning step must not prune: read from a file, or said in words.

    neurons:                            of the MLP of a block, by its number
      3: [17, 230]
    features:                           inputs of a site, by BLOCK.SITE
      3.mlp.down_proj: [5, 9]
    sites: [self_attn.o_proj]           stay dense, as with --skip
    used:                               the share of every site's inputs with the largest mean
      yor_Latn: 0.01                    square in a language, as used:yor_Latn:0.01 says it

Ids are lists, or text with commas, as recipes have them, which are read up to 50,000 characters.

Tested in tests/steps/test_protecting.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelpress.errors import BadSetting
from babelpress.system import plain
from babelpress.system.settings import brief
from babelpress.text import languages

if TYPE_CHECKING:
    from babelpress.models.walk import Walk
    from babelpress.press.method import Pruner

USED = "used:"
KNOWN = ("neurons", "features", "sites", "used")


@dataclass(frozen=True, slots=True)
class Protected:
    """What is protected, as a step works with it."""

    neurons: Mapping[int, Sequence[int]]
    features: Mapping[str, Sequence[int]]
    sites: tuple[str, ...]
    used: Mapping[str, float]

    def within(self, pruner: "Pruner", walk: "Walk") -> "Pruner":
        """The pruner that leaves it alone.

        Raises BadSetting for what the model has not, BadLayer where too little is left to prune.
        """
        from babelpress.press import fitting, protected

        found = replace(pruner, skip=(*pruner.skip, *self.sites), used=dict(self.used))
        if not (self.neurons or self.features):
            return found
        if pruner.reorders:
            raise BadSetting(
                f"{pruner.name}'s permute moves the neurons and features that protect has by their "
                "numbers. Leave one of them out; sites and used:LANGUAGE:SHARE go with both."
            )
        blocks = fitting.seen(walk)
        spared = protected.resolve(self.neurons, self.features, blocks, pruner.pattern)
        return replace(found, protected=spared)

    def check_languages(self, there: Iterable[str]) -> None:
        """Raise BadSetting for a language that nothing was seen of."""
        there = list(there)
        if missing := [tag for tag in self.used if tag not in there]:
            raise BadSetting(
                f"protect has inputs that {', '.join(missing)} uses, of which nothing was seen; "
                f"there are {', '.join(there)}. Calibrate with it: a share of the mixture it needs "
                "not have."
            )


def read(value: Any) -> Any:
    """Plain data of a setting, from a mapping, the YAML or JSON file it is in, or used:LANG:SHARE.

    Raises BadSetting for a file that cannot be read, and for what protects nothing.
    """
    found, where = value, "protect"
    if isinstance(value, str | Path):
        text = str(value)
        if text.startswith(USED):
            return {"used": _used(text.removeprefix(USED).split(","))}
        found, where = _file(Path(value)), f"protect ({value})"
    if not found:
        return {}
    if not isinstance(found, Mapping):
        raise BadSetting(f"{where} is {brief(found)}. It must be a mapping of {_known()}.")
    if unknown := sorted(str(key) for key in found if key not in KNOWN):
        raise BadSetting(f"{where} has no {unknown[0]}. It is a mapping of {_known()}.")
    kept = {
        "neurons": _ids_by(found.get("neurons"), f"{where}: neurons"),
        "features": _ids_by(found.get("features"), f"{where}: features"),
        "sites": _sites(found.get("sites"), where),
        "used": _shares(found.get("used"), where),
    }
    return {key: each for key, each in kept.items() if each}


def protected(value: Mapping[str, Any]) -> Protected:
    """What `read` gave, in numbers."""
    neurons = {}
    for block, ids in value.get("neurons", {}).items():
        if not block.isdecimal():
            raise BadSetting(f"protect has neurons of block {brief(block)}, which is no number.")
        neurons[int(block)] = _numbers(ids)
    return Protected(
        neurons,
        {place: _numbers(ids) for place, ids in value.get("features", {}).items()},
        tuple(value.get("sites", ())),
        dict(value.get("used", {})),
    )


def words(value: Mapping[str, Any]) -> str:
    """What is protected, for a table; "" for nothing."""
    if not value:
        return ""
    found = protected(value)
    counts = {
        "neurons": sum(map(len, found.neurons.values())),
        "features": sum(map(len, found.features.values())),
        "sites": len(found.sites),
    }
    said = [f"{count} {what}" for what, count in counts.items() if count]
    said += [
        f"{share:.3g} of inputs, those most used by {tag}"
        for tag, share in sorted(found.used.items())
    ]
    return f"protected: {', '.join(said)}"


# ---- parts ---------------------------------------------------------------------------------


def _file(path: Path) -> Any:
    try:
        return plain.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, plain.NotPlain) as error:
        first = str(error).split("\n")[0]
        raise BadSetting(
            f"what to protect in {path} cannot be read: {first}. Give a YAML or JSON file, or "
            "used:LANGUAGE:SHARE."
        ) from error


def _used(parts: Iterable[str]) -> dict[str, float]:
    """LANGUAGE:SHARE, once or several times."""
    found: dict[str, Any] = {}
    for part in (each.strip().removeprefix(USED) for each in parts):
        name, colon, share = part.partition(":")
        if not (name and colon):
            raise BadSetting(f"protect {USED}{part} is not used:LANGUAGE:SHARE, as used:yo:0.01.")
        found[name] = share
    return _shares(found, "protect")


def _shares(value: Any, where: str) -> dict[str, float]:
    if not value:
        return {}
    if not isinstance(value, Mapping):
        raise BadSetting(f"{where}: used is {brief(value)}. It must be a mapping, as yo: 0.01.")
    found: dict[str, float] = {}
    for name, share in value.items():
        try:
            number = float(share)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(share, bool) or not 0 < number < 1:
            raise BadSetting(
                f"{where}: the share of {name} is {brief(share)}. It must lie between 0 and 1."
            )
        found[languages.find(str(name)).tag] = number
    return found


def _ids_by(value: Any, where: str) -> dict[str, str]:
    """Ids by their place, as text with commas: short in a recipe."""
    if not value:
        return {}
    if not isinstance(value, Mapping):
        raise BadSetting(f"{where} is {brief(value)}. It must be a mapping of lists of ids.")
    return {str(place): _ids(ids, f"{where}: {place}") for place, ids in value.items()}


def _ids(value: Any, where: str) -> str:
    parts = value.split(",") if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int) else parts
    if not isinstance(parts, Sequence) or not all(_is_id(part) for part in parts):
        raise BadSetting(f"{where} is {brief(value)}. It must be a list of ids, from 0 on.")
    return ", ".join(str(each) for each in sorted({int(part) for part in parts}))


def _is_id(part: object) -> bool:
    if isinstance(part, str):
        return part.strip().isdecimal()
    return isinstance(part, int) and not isinstance(part, bool) and part >= 0


def _sites(value: Any, where: str) -> list[str]:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not parts:
        return []
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise BadSetting(f"{where}: sites is {brief(value)}. It must be a list of names.")
    return list(parts)


def _numbers(ids: str) -> list[int]:
    return [int(each) for each in ids.split(",") if each.strip()]


def _known() -> str:
    return f"{', '.join(KNOWN[:-1])} and {KNOWN[-1]}"
