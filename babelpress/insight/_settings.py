"""Which analyses, on which text, as a user says it.

Tested in tests/insight/test_doing.py.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from babelpress.insight import ANALYSES, facts, options_of
from babelpress.system.settings import Strict, pairs, setting, words
from babelpress.text.settings import CORPORA, CalibrationSettings


class InsightSettings(Strict):
    """Which analyses, and the text that those look at which look at any."""

    on: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        ("similarity", "damage"),
        f"Analyses, commas between: {', '.join(ANALYSES.names())}.",
        offers=ANALYSES.names(),
    )
    corpus: str = setting(
        "embedded",
        "Text (its train split) where there are no moments, or an analysis runs the models.",
        offers=CORPORA,
    )
    languages: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (), "Languages or groups; all there are by default."
    )
    tokens: int = setting(4096, "Tokens per language.", gt=0)
    length: int = setting(512, "Tokens in a token block at most.", gt=1)
    seed: int = setting(0, "Which text is drawn.")
    gram: bool = setting(
        False, "Where moments are taken, keep Gram matrices: output SNR is exact then."
    )
    options: Annotated[dict[str, Any], BeforeValidator(pairs)] = setting(
        {}, "NAME=VALUE of an analysis; may be repeated.", flag="option"
    )

    @model_validator(mode="after")
    def _known(self) -> "InsightSettings":
        if not self.on:
            raise ValueError("on names no analysis; write --on similarity")
        for name in self.on:
            facts(name)
        if self.options:
            options_of(self.on, self.options)
        return self

    @property
    def text(self) -> CalibrationSettings:
        """The text, as a calibration asks for it."""
        return CalibrationSettings(
            corpus=self.corpus,
            languages=self.languages,
            tokens=self.tokens,
            length=self.length,
            seed=self.seed,
        )
