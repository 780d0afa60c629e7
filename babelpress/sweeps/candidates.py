"""What a search would try, and on which text: known before anything is pressed.

Tested in tests/sweeps/test_search.py.
"""

from dataclasses import dataclass, replace
from typing import Any

from babelpress.errors import BadLayer, BadModel, BadSetting
from babelpress.export import FORMATS
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import Opened
from babelpress.runs.fits import chain
from babelpress.runs.open import open_any
from babelpress.runs.recipe import Recipe, of, put
from babelpress.steps import KINDS
from babelpress.steps._trimming import rows_by_floor
from babelpress.sweeps import chains
from babelpress.sweeps.chains import ENGINES, Chain, Engine, Shapes
from babelpress.sweeps.parting import has_english, parted
from babelpress.system.progress import Progress, silent
from babelpress.text.languages import ENGLISH
from babelpress.text.settings import CalibrationSettings

Data = dict[str, Any]

PART = 3  # of the documents one of three chooses
FIRST = 2  # chains that come before what is done mostly


@dataclass(frozen=True, slots=True)
class Asked:
    """What shall come out; `documents` are test documents of each language, a third of which
    choose. `minutes` 0 are as many as it takes.
    """

    model: str
    size: str
    engine: str
    max_loss: float
    minutes: float
    documents: int
    calibration: CalibrationSettings


@dataclass(frozen=True, slots=True)
class Way:
    """A chain to try: what it is foretold to come to, and whether it is what is done mostly."""

    chain: Chain
    foretold: int
    usual: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be tried, and how it is scored."""

    size: int
    dense: int
    engine: Engine
    shapes: Shapes
    ways: tuple[Way, ...]
    chooses: EvaluationSettings
    proves: EvaluationSettings
    notes: tuple[str, ...]

    @property
    def least(self) -> int:
        """How many are tried whatever the time: the first, and what is done mostly."""
        return min(len(self.ways), FIRST + sum(way.usual for way in self.ways))

    @property
    def on(self) -> str:
        """The one evaluation."""
        return self.chooses.on[0]


def prepare(asked: Asked, progress: Progress = silent) -> Plan:
    """Which chains could come to the size, and on what they would be scored.

    Raises BadSetting for a size that none comes to or that the dense model has already, BadCorpus
    for a language without text, BadModel for a model that is no plain dense one.
    """
    engine = ENGINES[asked.engine]
    opened = open_any(asked.model)
    if pressed := [each.kind for each in chain(asked.model) if not _heads(each.kind)]:
        raise BadModel(
            f"{asked.model} is pressed already ({', '.join(pressed)}). Give the dense model that "
            "it was made of."
        )
    engine, refused = _loadable(opened, engine)
    (floors, most), notes = _rows(opened, asked, progress)
    shapes = chains.shapes(opened, floors, most, engine)
    dense = shapes.bytes(Chain())
    size = chains.parse_size(asked.size, dense)
    if size >= dense:
        raise BadSetting(
            f"--size {asked.size} is {size:,} bytes, and {asked.model} has about {dense:,} as it "
            f"is: export it, or ask for less."
        )
    front = [Way(chain, foretold) for chain, foretold in chains.within(shapes, engine, size)]
    chooses, proves = parted(asked.model, asked.calibration, asked.documents, PART)
    common = chains.usual(shapes, engine) if has_english(asked.calibration) else []
    usual = [Way(each, shapes.bytes(each), usual=True) for each in common]
    if asked.calibration.languages == (ENGLISH,):
        usual = []  # it is what is tried anyway
    elif not usual:
        notes += ("today's usual choice, fewer bits calibrated on English, is not tried.",)
    ways = (*front[:FIRST], *usual, *front[FIRST:])
    return Plan(
        size, dense, engine, shapes, ways, chooses, proves, (*refused, *notes, *shapes.notes)
    )


def _loadable(opened: Opened, engine: Engine) -> tuple[Engine, tuple[str, ...]]:
    """The engine, without what it cannot load of this model, and why.

    Raises what the format raises where it can load nothing of it.
    """
    for form in (engine.dense, engine.coded):
        try:
            if (asks := FORMATS.optional(form, "check")) is not None:
                asks(opened)
        except (BadLayer, BadModel) as error:
            if form == engine.dense:
                raise
            return replace(engine, bits=()), (f"no chain quantizes: {error}",)
    return engine, ()


def _heads(kind: str) -> bool:
    """Whether steps of a kind make a model of a task, which is dense still."""
    return bool(KINDS.facts(kind).get("HEADS"))


def _rows(
    opened: Opened, asked: Asked, progress: Progress
) -> tuple[tuple[dict[float, int], int], tuple[str, ...]]:
    """Rows of tokens by floor, and at most; none where the tokenizer cannot be trimmed."""
    settings = KINDS.module("trim").Settings()
    try:
        return rows_by_floor(opened, asked.calibration, settings, progress), ()
    except BadModel as error:
        return ({}, 0), (f"no chain trims: {error}",)


# ---- as recipes ----------------------------------------------------------------------------


def recipe_of(asked: Asked, plan: Plan, way: Way) -> Recipe:
    """One candidate as a recipe."""
    data: Data = {
        "model": asked.model,
        "calibration": asked.calibration.model_dump(mode="json"),
        "steps": [],
    }
    for place, value in own(plan, way).items():
        put(data, place, value)
    return of(data, where=way.chain.label)


def own(plan: Plan, way: Way) -> Data:
    """What a candidate has at the places where candidates differ."""
    english = {"calibration.languages": [ENGLISH]} if way.usual else {}
    return {"steps": way.chain.steps(plan.shapes.group), **english}
