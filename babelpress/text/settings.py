"""Which text a calibration looks at, as a user says it.

Tested in tests/runs/test_recipe.py.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from babelpress.errors import BadModel, BadSetting
from babelpress.system.settings import Strict, setting, words
from babelpress.text.shots import CONDITIONS, SELF, shots_of

TEXT = ("corpus", "tokens", "length", "seed", "evaluation", "count_special")  # which text is read
WEIGHING = ("weigh", "first_order")  # what its tokens count
EVENLY, LOSS = "evenly", "loss"
CORPORA = ("embedded", SELF)  # those that have a name of their own


def _corpus(name: str) -> str:
    shots_of(name)  # raises BadSetting for demonstrations that are not asked for rightly
    return name


def check_loss(name: str, *, decodes: bool, offload: bool) -> None:
    """Raise BadModel or BadSetting where the loss cannot say what a token counts."""
    if not decodes:
        raise BadModel(
            f"weigh {LOSS} is for decoders: {name} predicts no next token of a text alone. Leave "
            "--weigh out."
        )
    if offload:
        raise BadSetting(
            f"weigh {LOSS} takes a pass back through the whole model, which has to be in memory. "
            "Leave out --offload, or --weigh."
        )


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
    weigh: Literal["evenly", "loss"] = setting(
        EVENLY,
        "What a token counts in the moments: as much as any other, or the squared gradient of the "
        "loss at what a linear gives for it, which takes a pass back through a decoder.",
    )
    first_order: bool = setting(
        False,
        "With weigh loss also keep the gradient of the loss by every weight, for each language as "
        "large as the blocks in float32: the first-order term of what pressing does to the loss.",
    )

    @model_validator(mode="after")
    def _of_loss(self) -> "CalibrationSettings":
        if self.first_order and self.weigh != LOSS:
            raise BadSetting(
                "--first-order has no effect without --weigh loss. Calibrate with both, or none."
            )
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Where tokens count evenly nothing is written of it.

        So recipes have the fingerprints that they had before there was a choice, by which a sweep
        knows what is done.
        """
        found: dict[str, Any] = dump(self)
        if self.weigh == LOSS:
            return found
        return {name: value for name, value in found.items() if name not in WEIGHING}

    @property
    def weighing(self) -> dict[str, Any]:
        """What tokens count, as a manifest has it; nothing where all count as much."""
        asked = {name: getattr(self, name) for name in WEIGHING}
        return asked if self.weigh == LOSS else {}

    def check_apart(self) -> None:
        """Raise BadSetting where text is to be kept apart from what the model writes itself."""
        if self.corpus == SELF and self.evaluation:
            raise BadSetting(
                f"--evaluation {self.evaluation} is kept apart from text of a corpus, and with "
                f"--corpus {SELF} the model writes it. Leave it out."
            )
