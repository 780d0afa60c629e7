"""What options say, as values: words, method options, the calibration that a command asks for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from babelpress.errors import BadSetting


def words(text: str) -> list[str]:
    """The words of an option that takes commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def options(pairs: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; values are read as YAML. Raises BadSetting."""
    from babelpress import plain

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise BadSetting(f"--option {pair} is not NAME=VALUE. Write it as damp=0.05.")
        try:
            found[name] = plain.load(value)
        except plain.NotPlain as error:
            raise BadSetting(
                f"--option {pair}: the value is no number, word or list. Write it as damp=0.05."
            ) from error
    return found


def step(
    method: str,
    mixture: str,
    moments: Path | None,
    propagate: str,
    skip: str,
    option: Sequence[str],
    min_tokens: int | None,
) -> dict[str, Any]:
    """What all kinds of steps have, as a recipe says it."""
    return {
        "method": method,
        "mixture": mixture,
        "propagate": propagate or ("dense" if moments else "compressed"),
        "skip": words(skip),
        "options": options(option),
        "moments": str(moments) if moments else None,
        "min_tokens": min_tokens,
    }


def calibration(languages: str, evaluation: str, **asked: Any) -> Any:
    """A checked `recipe.Calibration`. Raises BadSetting naming what is not accepted."""
    from babelpress import recipe

    asked = {**asked, "languages": tuple(words(languages)), "evaluation": evaluation or None}
    data = {"model": "-", "calibration": asked, "steps": [{"prune": {}}]}
    return recipe.of(data, where="the command line").calibration
