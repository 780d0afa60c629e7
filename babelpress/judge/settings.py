"""What a model is scored on, as a user says it.

Tested in tests/judge/test_scores.py.
"""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    BeforeValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from babelpress import evals
from babelpress.errors import BadCorpus, BadModel, BadRun
from babelpress.models.accepted import encodes, local_config, translates
from babelpress.runs.places import place_of
from babelpress.system.settings import Strict, pairs, setting, words
from babelpress.text.languages import select

T = TypeVar("T")
USUAL = "bits_per_byte"
HIDDEN = "ForMaskedLM"  # the head of an encoder that predicts hidden tokens
MOMENTS = "name moments of this model with --moments (`babelpress calibrate` makes them)."


class EvaluationSettings(Strict):
    """Which evaluations, on which text, in which languages."""

    corpus: str = setting("embedded", "Whose test split is scored.")
    on: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (USUAL,),
        f"Evaluations, commas between: {', '.join(evals.EVALUATIONS.names())}.",
        offers=evals.EVALUATIONS.names(),
    )
    languages: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(
        (), "Languages or groups; all of the corpus by default."
    )
    documents: int = setting(0, "Score the first N test documents only (0: all).", ge=0)
    skip: int = setting(
        0, "Leave out the first N test documents, such as those that a choice was made on.", ge=0
    )
    window: int = setting(
        0, "Tokens in a window (0: as many as the model takes, 1,024 at most).", ge=0
    )
    options: Annotated[dict[str, Any], BeforeValidator(pairs)] = setting(
        {}, "NAME=VALUE of an evaluation; may be repeated.", flag="option"
    )

    @model_validator(mode="after")
    def _known(self) -> "EvaluationSettings":
        if not self.on:
            raise ValueError("on names no evaluation; write --on bits_per_byte")
        for name in self.on:
            evals.facts(name)
        if self.options:
            evals.options_of(self.on, self.options)
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Where nothing is skipped nothing is written of it: sweeps know what they did before."""
        found: dict[str, Any] = dump(self)
        if not self.skip:
            found.pop("skip", None)
        return found

    def taken(self, tag: str, documents: Sequence[T]) -> Sequence[T]:
        """Those of all test documents of a language that are scored.

        Raises BadCorpus where there are some and all are skipped.
        """
        rest = documents[self.skip :]
        if documents and not rest:
            there = f"{len(documents)} test document{'s' * (len(documents) != 1)}"
            raise BadCorpus(
                f"{tag} has {there}, and --skip {self.skip} leaves out all of them. Skip fewer."
            )
        return rest[: self.documents] if self.documents else rest

    def set_aside(self) -> list[str]:
        """A line for every evaluation that compares with a language that is asked for."""
        options = evals.options_of(self.on, self.options)
        pivots = {name: evals.compared_with(name, options[name]) for name in self.on}
        asked = select(self.languages)
        return [evals.no_score(name, tag) for name, tag in pivots.items() if tag in asked]


def usual_for(model: str) -> str:
    """What a model is scored on where nobody says: what its head predicts, by its config.

    Of one whose config is not here that is bits per byte, as of a decoder.
    """
    try:
        config = local_config(place_of(model)) or {}
    except (BadModel, BadRun):  # told where it is opened
        return USUAL
    if translates(config):
        return "translation_loss"
    head = next(iter(config.get("architectures") or ()), "")
    return "masked" if encodes(config) and head.endswith(HIDDEN) else USUAL
