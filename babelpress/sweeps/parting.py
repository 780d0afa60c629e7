"""Test documents that choose, and those that prove: no document does both.

Tested in tests/sweeps/test_search.py.
"""

from typing import Any

from babelpress.errors import BadSetting
from babelpress.judge.evaluate import texts_of
from babelpress.judge.settings import EvaluationSettings, usual_for
from babelpress.text.corpus import open_corpus
from babelpress.text.languages import ENGLISH
from babelpress.text.settings import CalibrationSettings


def parted(
    model: str, calibration: CalibrationSettings, documents: int, part: int
) -> tuple[EvaluationSettings, EvaluationSettings]:
    """How candidates are chosen and how the best is proved, on what the model's head predicts.

    Of so many test documents of each language (0: all, and no more than the language with fewest
    has) the first of `part` parts chooses. Raises BadSetting where that is none, BadCorpus for a
    language without text.
    """
    on, corpus = usual_for(model), calibration.evaluation or calibration.corpus
    tags = calibration.languages
    texts = texts_of(on, corpus, {})
    texts.require(tags)
    there = min(len(texts.documents(tag, "test")) for tag in tags)
    number = min(documents, there) if documents else there
    first = number // part
    if not first:
        raise BadSetting(
            f"{number} test documents in each language are too few to choose and to prove on. Give "
            f"a corpus with {part} or more, or more --documents."
        )
    common: dict[str, Any] = {"corpus": corpus, "on": (on,), "languages": tags}
    return (
        EvaluationSettings(documents=first, **common),
        EvaluationSettings(skip=first, documents=number - first, **common),
    )


def has_english(calibration: CalibrationSettings) -> bool:
    """Whether there is English text, which is what is calibrated on mostly."""
    return ENGLISH in open_corpus(calibration.corpus).languages()
