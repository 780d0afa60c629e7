"""The calibration text that a run asks for: of a corpus, demonstrations, or the model's own.

Tested in tests/moments/test_store.py.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from babelpress.errors import BadSetting
from babelpress.models.accepted import translates
from babelpress.models.open import Opened
from babelpress.models.reading import positions_of, sees_both_sides
from babelpress.models.tokenizers import vocabulary_of
from babelpress.text import calibration, demonstrations, self_written, translations
from babelpress.text.corpus import open_corpus, open_source
from babelpress.text.languages import INTO, select
from babelpress.text.settings import SELF, CalibrationSettings
from babelpress.text.shots import shots_of


def tagged(src: str, config: Mapping[str, Any]) -> "Tagged":
    """What a model with this config is calibrated on by: languages, or directions of translation.

    Nothing is read but the names of files.
    """
    corpus = open_source(src)
    return translations.Ways(corpus) if translates(config) else corpus


class Tagged(Protocol):
    """Whatever has text by language."""

    def languages(self) -> list[str]: ...


def languages_of(corpus: Tagged, wanted: Sequence[str]) -> list[str]:
    """The languages asked for (groups allowed), or all of the corpus."""
    there = corpus.languages()
    return select(wanted, among=there) if wanted else there


def draw(opened: Opened, asked: CalibrationSettings) -> calibration.CalibrationSet:
    """The token blocks that a calibration asks for; `self` lets the model write them.

    Raises BadCorpus where the audit finds an error, BadSetting where lengths do not fit, BadModel
    where the tokenizer has tokens that the model has no embeddings for. An encoder-decoder has
    pairs, by direction of translation.
    """
    if opened.model.config.is_encoder_decoder:
        return _translations(opened, asked)
    if ways := [each for each in asked.languages if INTO in each]:
        raise BadSetting(
            f"{ways[0]} is a direction of translation, and {opened.name} reads one text at a time. "
            "Name its languages."
        )
    known = vocabulary_of(opened.model)
    whole = sees_both_sides(opened.model)
    length = fitting_length(opened, asked.length)
    if asked.corpus == SELF:
        asked.check_apart()
        if whole:
            raise BadSetting(
                f"{opened.name} reads text on both sides and cannot write its own calibration "
                "text. Name a corpus with --corpus."
            )
        tags = languages_of(open_source(asked.corpus), asked.languages)
        written = self_written.write(
            opened.model,
            opened.tokenizer,
            tags,
            tokens=asked.tokens,
            length=length,
            seed=asked.seed,
        )
        return calibration.from_ids(
            written,
            opened.tokenizer,
            tokens=asked.tokens,
            length=length,
            seed=asked.seed,
            count_special=asked.count_special,
            known=known,
        )
    corpus, shots = open_source(asked.corpus), shots_of(asked.corpus)
    build = calibration.build if shots is None else partial(demonstrations.build, shots)
    return build(
        corpus,
        opened.tokenizer,
        languages_of(corpus, asked.languages),
        tokens=asked.tokens,
        length=length,
        seed=asked.seed,
        evaluation=open_corpus(asked.evaluation) if asked.evaluation else None,
        count_special=asked.count_special,
        known=known,
        whole=whole,
    )


def _translations(opened: Opened, asked: CalibrationSettings) -> calibration.CalibrationSet:
    """The pairs that the calibration of an encoder-decoder asks for."""
    if asked.corpus == SELF or shots_of(asked.corpus) is not None:
        raise BadSetting(
            f"{opened.name} is an encoder-decoder, which is calibrated on parallel text: corpus "
            f"{asked.corpus} is for decoders. Name a corpus with equal ids in several languages."
        )
    corpus = open_source(asked.corpus)
    return translations.build(
        corpus,
        opened.tokenizer,
        opened.model,
        languages_of(translations.Ways(corpus), asked.languages),
        tokens=asked.tokens,
        length=fitting_length(opened, asked.length),
        seed=asked.seed,
        evaluation=open_corpus(asked.evaluation) if asked.evaluation else None,
        count_special=asked.count_special,
        known=vocabulary_of(opened.model),
    )


def fitting_length(opened: Opened, length: int) -> int:
    """`length`, or the number of positions of the model where that is less."""
    positions = positions_of(opened.model)
    return length if positions is None else min(length, positions)
