"""Which text a calibration looks at, as a user says it.

Tested in tests/runs/test_recipe.py.
"""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from babelpress.errors import BadSetting
from babelpress.system.settings import Strict, setting, words
from babelpress.text.shots import CONDITIONS, SELF, shots_of

TEXT = ("corpus", "tokens", "length", "seed", "evaluation", "count_special")  # which text is read
CORPORA = ("embedded", SELF)  # those that have a name of their own


def _corpus(name: str) -> str:
    shots_of(name)  # raises BadSetting for demonstrations that are not asked for rightly
    return name


class CalibrationSettings(Strict):
    """Which text a run looks at, in which languages."""

    corpus: Annotated[str, AfterValidator(_corpus)] = setting(
        "embedded",
        "embedded, self (the model writes it), a folder, or hub:ID[@revision]; "
        f"{', '.join(f'{each}:' for each in CONDITIONS)} before it make demonstrations.",
        offers=(*CORPORA, *(f"{each}:embedded" for each in CONDITIONS)),
    )
    languages: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (), "Languages or groups; all of the corpus by default."
    )
    tokens: int = setting(
        16384, "Tokens per language; a language with less gives all it has and is named.", gt=0
    )
    length: int = setting(2048, "Tokens in a token block at most.", gt=1)
    seed: int = setting(0, "Which text is drawn.")
    evaluation: str | None = setting(
        None,
        "Corpus that scores will be taken on, to be kept apart; by default the corpus itself.",
    )
    count_special: bool = setting(False, "Let special tokens count in the moments.")

    def check_apart(self) -> None:
        """Raise BadSetting where text is to be kept apart from what the model writes itself."""
        if self.corpus == SELF and self.evaluation:
            raise BadSetting(
                f"--evaluation {self.evaluation} is kept apart from text of a corpus, and with "
                f"--corpus {SELF} the model writes it. Leave it out."
            )
