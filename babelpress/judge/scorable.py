"""Whether a model could be scored as asked: known from options and texts, before any is pressed.

Tested in tests/judge/test_scorable.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from babelpress import evals
from babelpress.errors import BabelpressError, BadCorpus
from babelpress.evals import Texts
from babelpress.evals._windows import check_kind, no_text
from babelpress.judge.evaluate import check_heads, wanted_of
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.accepted import encodes, local_config
from babelpress.runs.places import place_of

SPLIT = "test"  # that is scored


def check(asked: EvaluationSettings, model: str = "", head: str = "") -> None:
    """Raise what the first evaluation that cannot be done would, but for what a model decides.

    Of a `model` that is a folder the config is looked at: an encoder predicts no next token, an
    encoder-decoder has a source, and labels need the head of a task: that which it has, or `head`,
    what the class of the model ends in once a step has put another on it. Test documents are read
    in every language, those of a corpus once for all evaluations of it. Raises BadModel for such a
    model, BadSetting for an option, BadCorpus for a text or a language that is not there, and
    MissingPackage.
    """
    read, wanted = False, wanted_of(asked)
    config = local_config(place_of(model)) if model else None
    if config is not None:
        _check_config(evals.through(asked.on, asked.options), config, head)
    for each in wanted:
        if not each.tags:
            raise BadCorpus(
                f"{each.texts.name} has no language that {each.name} scores. Name another corpus."
            )
        own = evals.EVALUATIONS.defines(each.name, "texts")
        if own or not read:
            _read(each.texts, each.tags, asked)
        read = read or not own
        evals.made_with(each.name, each.options)


def _check_config(on: Sequence[str], config: Mapping[str, Any], head: str) -> None:
    check_kind(on, config, both_sides=encodes(config))
    check_heads(on, head or next(iter(config.get("architectures") or ()), ""))


def _read(texts: Texts, tags: Sequence[str], asked: EvaluationSettings) -> None:
    for tag in tags:
        if not asked.taken(tag, texts.documents(tag, SPLIT)):
            raise no_text(tag)


def errors(
    asked: Sequence[EvaluationSettings], models: Sequence[str] = (), heads: Sequence[str] = ()
) -> list[str]:
    """Why each cannot be scored so, with the `models` that they are for, where these are known, and
    the `heads` that these get.

    Nothing where it can. Equal settings of a model are looked at once.
    """
    known: dict[tuple[str, str, str], str] = {}
    none = [""] * len(asked)
    keys = [
        (each.model_dump_json(), model, head)
        for each, model, head in zip(asked, models or none, heads or none, strict=True)
    ]
    for each, key in zip(asked, keys, strict=True):
        if key in known:
            continue
        try:
            check(each, *key[1:])
            known[key] = ""
        except BabelpressError as error:
            known[key] = str(error)
    return [known[key] for key in keys]
