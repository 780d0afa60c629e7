"""Whether a model could be scored as asked: known from options and texts, before any is pressed.

Tested in tests/judge/test_scorable.py.
"""

from collections.abc import Sequence

from babelpress import evals
from babelpress.errors import BabelpressError, BadCorpus
from babelpress.evals import Texts
from babelpress.evals._windows import no_text
from babelpress.judge.evaluate import wanted_of
from babelpress.judge.settings import EvaluationSettings

SPLIT = "test"  # that is scored


def check(asked: EvaluationSettings) -> None:
    """Raise what the first evaluation that cannot be done would, but for what a model decides.

    Its test documents are read in every language, those of a corpus once for all evaluations of it.
    Raises BadSetting for an option, BadCorpus for a text or a language that is not there, and
    MissingPackage.
    """
    read = False
    for each in wanted_of(asked):
        if not each.tags:
            raise BadCorpus(
                f"{each.texts.name} has no language that {each.name} scores. Name another corpus."
            )
        own = evals.EVALUATIONS.defines(each.name, "texts")
        if own or not read:
            _read(each.texts, each.tags)
        read = read or not own
        evals.made_with(each.name, each.options)


def _read(texts: Texts, tags: Sequence[str]) -> None:
    for tag in tags:
        if not texts.documents(tag, SPLIT):
            raise no_text(tag)


def errors(asked: Sequence[EvaluationSettings]) -> list[str]:
    """Why a model cannot be scored so; nothing where it can. Equal settings are looked at once."""
    known: dict[str, str] = {}
    for each in asked:
        key = each.model_dump_json()
        if key in known:
            continue
        try:
            check(each)
            known[key] = ""
        except BabelpressError as error:
            known[key] = str(error)
    return [known[each.model_dump_json()] for each in asked]
