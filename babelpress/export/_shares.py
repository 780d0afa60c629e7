"""Shares of languages that --mixture gives over moments; known without torch.

Tested in tests/commands/test_checks.py.
"""

from collections.abc import Sequence
from pathlib import Path

from babelpress.errors import BadMoments, BadSetting
from babelpress.runs.places import origin_of
from babelpress.text import mixtures


def given(
    policy: str, moments: Path | None, languages: Sequence[str], model: str
) -> dict[str, float]:
    """Shares by language, of moments that have `languages`.

    Raises BadSetting where there are no moments or shares would have to be searched for, BadMoments
    where they lack a language, and what a mixture raises.
    """
    if moments is None:
        raise BadSetting("--mixture is read with --moments, whose languages it weights.")
    mixed = mixtures.mixture(policy, languages, model=origin_of(model))
    if mixed.policy in mixtures.WHILE_PRESSING:
        raise BadSetting(
            f"{mixed.policy} is found while pressing: export a run that was pressed with it, and "
            "its shares are taken."
        )
    missing = [tag for tag, p in mixed.shares.items() if p > 0 and tag not in languages]
    if missing:
        raise BadMoments(f"{moments} has no moments of {', '.join(missing)}.")
    return dict(mixed.shares)
