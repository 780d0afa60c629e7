"""Text that a step holds out of what it calibrates on, to measure losses of its own.

Tested in tests/steps/test_measured.py and tests/steps/test_choosing.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from babelpress.errors import BadCorpus
from babelpress.models.open import Opened
from babelpress.steps._looking import text_of
from babelpress.steps._pressing import PressingSettings, check_held_out
from babelpress.text.draw import draw
from babelpress.text.held_out import HeldOut, hold_out
from babelpress.text.settings import TEXT, CalibrationSettings


def check(opened: Opened, asked: CalibrationSettings, settings: PressingSettings) -> None:
    """Raise what `held` raises, of a model as it is before the step."""
    read = read_of(opened, asked, settings)
    held(opened, asked, settings, list(read["languages"]), read)


def read_of(
    opened: Opened, asked: CalibrationSettings, settings: PressingSettings
) -> Mapping[str, Any]:
    """The manifest of a calibration, which is drawn, or of moments."""
    if settings.moments is not None:
        return text_of(settings.moments)
    assert settings.holds_out is not None
    check_held_out(settings.holds_out.who, asked.corpus)
    return draw(opened, asked).manifest


def held(
    opened: Opened,
    asked: CalibrationSettings,
    settings: PressingSettings,
    tags: Sequence[str],
    read: Mapping[str, Any],
) -> dict[str, HeldOut]:
    """Text held out of the corpus that was calibrated on: of moments the one that they name.

    `read` is the manifest of the calibration. Raises BadSetting or BadCorpus where nothing is.
    """
    wanted = settings.holds_out
    assert wanted is not None
    check_held_out(wanted.who, str(read["corpus"]), settings.moments)
    if settings.moments is None:
        return hold_out(opened, asked, tags, wanted.tokens, read=read)
    its = CalibrationSettings.model_validate({name: read[name] for name in TEXT if name in read})
    try:
        return hold_out(opened, its, tags, wanted.tokens, read=read)
    except BadCorpus as error:
        raise BadCorpus(
            f"{wanted.who} needs more of the text that {settings.moments} was made of: {error}"
        ) from error
