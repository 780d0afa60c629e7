"""Trim: count, choose, rewrite the tokenizer, take out rows, and prove what was promised.

Nothing of a model is changed before the new tokenizer was read and does what its file says.

Tested in tests/steps/test_trim.py.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.models import token_ids, vocabulary
from babelpress.models.ledger import ledger
from babelpress.models.open import Opened
from babelpress.models.quiet import quiet
from babelpress.models.tokenizers import (
    RULES,
    Tokenizer,
    check_known,
    read_tokenizer,
    save_tokenizer,
    vocabulary_of,
)
from babelpress.models.walk import Walk
from babelpress.press.trial import timed
from babelpress.steps import _proving
from babelpress.steps._estimating import Trial
from babelpress.steps._kind import Done, Estimate, ModelRow
from babelpress.steps.trim import Report, Settings
from babelpress.system.cost import measured
from babelpress.system.files import read_json
from babelpress.system.progress import Progress
from babelpress.text import usage
from babelpress.text.corpus import Corpus, open_corpus, refuse_shots
from babelpress.text.draw import languages_of
from babelpress.text.languages import sides
from babelpress.text.settings import SELF, CalibrationSettings
from babelpress.trim import _choosing, _files, _rules, trimmer
from babelpress.trim._pieces import of_scripts, scripts_of, staying
from babelpress.trim._rules import Known, Rewritten
from babelpress.trim._template import written

OPTIONS = {"trust_remote_code": False, "local_files_only": True, "revision": "main"}
SAMPLE = 100  # documents that are read as tokens to see how long all take


@dataclass(frozen=True, slots=True)
class _Text:
    """A corpus, the languages that were asked for, and what each uses, by token."""

    corpus: Corpus
    tags: list[str]
    counts: dict[str, dict[str, int]]
    read: dict[str, dict[str, int]]


def trim(
    opened: Opened, asked: CalibrationSettings, settings: Settings, progress: Progress
) -> Done:
    """The model with fewer tokens, in place, and its new tokenizer.

    Raises BadModel for a tokenizer or a model that cannot be trimmed safely, BadCorpus for a
    language without text, BadSetting for a size in which a floor cannot be met: all before anything
    is changed.
    """
    known, by = _trimmable(opened)
    model = ModelRow.of(opened)
    with measured() as cost:
        text = _counted(opened, asked, settings, known, progress)
        order, idle = _ordered(opened, settings, known, by, text)
        extra = _extra(opened, known)
        number = _number(order, settings, len(extra))
        made = _with_extra(opened, _rules.rewrite(known, by, order.pieces[:number]), extra)
        before = vocabulary_of(opened.model)
        row = vocabulary.row_bytes(opened.model, opened.stored_dtype)
        seen, unread = _proving.held_out(opened, text.corpus, text.tags, made, progress)
        found, gone = _changed(opened, known, made)
        held = _proving.held(found, opened, seen, made, before, progress)
    rows = vocabulary_of(found.model)
    taken = order.point(number)
    points = {each.pieces: each for each in (*order.trade_off(), taken)}
    spare = rows - number  # rows without a token, that a config names
    walk = Walk(found.model)
    report = Report(
        step=settings.model_dump(mode="json"),
        model=model,
        ledger=ledger(found.model, {}, walk.index_of, opened.stored_dtype, carried=opened.carried),
        cost=cost,
        pieces=by.__name__.rpartition(".")[2],
        tokens=[before, rows],
        always=order.ends[0] + spare,
        placeholders=len(idle) if settings.placeholders else 0,
        row_bytes=row,
        corpus=text.corpus.name,
        fingerprint=text.corpus.fingerprint(text.tags),
        text=text.read,
        coverage=dict(taken.coverage),
        points=[
            {"tokens": pieces + spare, "coverage": dict(points[pieces].coverage)}
            for pieces in sorted(points)
        ],
        held=held,
        unread=unread,
        gone=gone,
        notes=_notes(text),
    )
    return Done(report, {}, found)


def rows_by_floor(
    opened: Opened, asked: CalibrationSettings, settings: Settings, progress: Progress
) -> tuple[dict[float, int], int]:
    """How many rows a trimmed model has, by the share of tokens that every language keeps; and how
    many it has at most, with all pieces in the languages' scripts.

    Nothing is changed. Raises BadModel and BadCorpus as `trim` does.
    """
    known, by = _trimmable(opened)
    text = _counted(opened, asked, settings, known, progress)
    order, _ = _ordered(opened, settings, known, by, text)
    beside = len(_extra(opened, known))
    floors = {level: order.floor(level) + beside for level in _choosing.LEVELS}
    return floors, order.ends[-1] + beside


# ---- what there is -------------------------------------------------------------------------


def _trimmable(opened: Opened) -> tuple[Known, Any]:
    """The tokenizer's rules, and who trims it. Raises BadModel where that, or the model, cannot be
    trimmed safely.
    """
    known = _known(opened)
    by = trimmer(known.rules, opened.name)
    _rules.check(known.rules, known.ids)
    vocabulary.check(opened.name, opened.model, opened.carried)
    return known, by


def _ordered(
    opened: Opened, settings: Settings, known: Known, by: Any, text: _Text
) -> tuple[_choosing.Order, set[str]]:
    """All pieces in the order in which they stay, and those that nobody has given a use yet."""
    always, idle = _always(opened, settings, known, by, text.tags)
    rest = of_scripts(_by_number(known, idle), by.spelled, scripts_of(text.tags))
    parts = by.parts(known.rules["model"])
    return _choosing.order(text.counts, sorted(always), parts, rest), idle


def check_tokenizer(name: str, model: PreTrainedModel) -> None:
    """Raise BadModel for a tokenizer that cannot be rewritten, where its file lies at hand."""
    place = model.name_or_path
    if not place or not (Path(place) / RULES).is_file():
        return  # known when it is opened
    rules = read_json(Path(place) / RULES, error=BadModel)
    trimmer(rules, name)
    _rules.check(rules)


def open_text(src: str, wanted: Sequence[str]) -> tuple[Corpus, list[str]]:
    """A corpus, and the tags of languages in it. Raises BadCorpus for one without a language."""
    if src == SELF:
        raise BadCorpus(
            "what a model writes by itself is no text to count pieces of. Name a corpus with "
            "--corpus."
        )
    refuse_shots(src)
    corpus = open_corpus(src)
    # a translator's calibration may name directions: both sides of each are kept
    tags = languages_of(corpus, [side for each in wanted for side in sides(each)])
    corpus.require(tags)
    return corpus, tags


def _known(opened: Opened) -> Known:
    """The tokenizer.json of a model, or what it would be, with every token that its tokenizer has.

    Raises BadModel for a tokenizer that has no rules.
    """
    tokenizer: Any = opened.tokenizer
    if not tokenizer.is_fast:
        raise BadModel(
            f"the tokenizer of {opened.name} ({type(tokenizer).__name__}) has no {RULES}, and "
            "trimming rewrites that. Save it as a fast tokenizer of transformers, or leave out "
            "trim."
        )
    if RULES in opened.files:
        known = Known.of(json.loads(opened.files[RULES]))
        if known.ids == tokenizer.get_vocab():
            return known
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return Known.of({**rules, "truncation": None, "padding": None})


def _counted(
    opened: Opened,
    asked: CalibrationSettings,
    settings: Settings,
    known: Known,
    progress: Progress,
) -> _Text:
    corpus, tags = _asked(asked, settings)
    by_id = {number: token for token, number in known.ids.items()}
    counts, read = {}, {}
    progress("count: language", 0, len(tags))
    for done, tag in enumerate(tags, 1):
        ids, read[tag] = usage.counted(opened.tokenizer, corpus, tag)
        check_known(max(ids), vocabulary_of(opened.model), tag)
        counts[tag] = {by_id[number]: count for number, count in ids.items()}
        progress("count: language", done, len(tags))
    return _Text(corpus, tags, counts, read)


def _asked(calibration: CalibrationSettings, settings: Settings) -> tuple[Corpus, list[str]]:
    """The text of the step, or of the recipe's calibration where it names none."""
    if settings.corpus is not None:
        return open_text(settings.corpus, settings.languages)
    return open_text(calibration.corpus, settings.languages or calibration.languages)


def _notes(text: _Text) -> list[str]:
    if text.corpus.name.startswith("hub:"):
        return ["Languages that were not asked for were not read: the corpus lies on a hub."]
    return []


# ---- what stays ----------------------------------------------------------------------------


def _always(
    opened: Opened, settings: Settings, known: Known, by: Any, tags: Sequence[str]
) -> tuple[set[str], set[str]]:
    """The tokens that stay whatever the text uses, and those that are placeholders."""
    tokenizer: Any = opened.tokenizer
    by_id = {number: token for token, number in known.ids.items()}
    ids = _named(opened, known) | set(tokenizer.all_special_ids) | vocabulary.padding(opened.model)
    for text in written(tokenizer):
        ids |= set(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids |= set(usage.counts_of(tokenizer, settings.also))
    named = {by_id[each] for each in ids if each in by_id}
    idle = known.placeholders - named
    own = known.special | idle if settings.placeholders else known.special - idle
    read = staying(
        known.ids.keys() - idle,
        by.spelled,
        scripts_of(tags),
        lossless=by.LOSSLESS,
        every=settings.characters == "all",
    )
    return by.always(known.rules["model"]) | named | own | read, idle


def _by_number(known: Known, idle: Collection[str]) -> list[str]:
    """All tokens but placeholders, by id, which is about their order by frequency."""
    return [token for token in sorted(known.ids, key=known.ids.__getitem__) if token not in idle]


def _named(opened: Opened, known: Known) -> set[int]:
    """The ids that configs and the rules name."""
    generation: Any = getattr(opened.model, "generation_config", None)
    found = token_ids.named(opened.model.config.to_dict()) | known.named
    if generation is not None:
        found |= token_ids.named(generation.to_dict())
    if _files.GENERATION in opened.files:
        found |= token_ids.named(json.loads(opened.files[_files.GENERATION]))
    return found


def _extra(opened: Opened, known: Known) -> list[int]:
    """Rows that a config names and no token has."""
    with_token, rows = set(known.ids.values()), vocabulary_of(opened.model)
    return sorted(each for each in _named(opened, known) if each < rows and each not in with_token)


def _with_extra(opened: Opened, made: Rewritten, extra: Sequence[int]) -> Rewritten:
    """The same with rows that a config names and no token has, at the end."""
    rows = vocabulary_of(opened.model)
    beyond = [old for old in made.old if old >= rows]
    if beyond and (extra or list(made.old[-len(beyond) :]) != beyond):
        raise BadModel(
            f"the tokenizer of {opened.name} has {len(beyond)} tokens that the model has no rows "
            "for, between others. Give the tokenizer that belongs to the model, or leave out trim."
        )
    return replace(made, old=(*made.old, *extra))


def _number(order: _choosing.Order, settings: Settings, extra: int) -> int:
    """How many pieces are taken, beside `extra` rows. Raises BadSetting for a floor not met."""
    least = order.floor(settings.level)
    if settings.size is None:
        return least
    room = settings.size - extra
    if least > room:
        raise BadSetting(_choosing.too_few(order, settings.size, settings.level, least + extra))
    found = order.within(room)
    assert found is not None
    return found


# ---- what changes --------------------------------------------------------------------------


def _changed(opened: Opened, known: Known, made: Rewritten) -> tuple[Opened, list[str]]:
    """The trimmed model, and the files that had to go."""
    rows = vocabulary_of(opened.model)
    stays = set(made.old)
    dropped = {token for token, number in known.ids.items() if number not in stays}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_tokenizer(opened.tokenizer, folder, opened.files)
        files = dict(opened.files) or {each.name: each.read_bytes() for each in folder.iterdir()}
        files, gone = _files.rewrite(files, made, dropped)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_tokenizer(opened.tokenizer, folder, files)
        with quiet():
            opened.model.config.save_pretrained(folder)
            read = read_tokenizer(str(folder), OPTIONS)
    _check_read(opened.name, read.tokenizer, known, made)
    read.tokenizer.name_or_path = opened.tokenizer.name_or_path
    vocabulary.keep_rows(opened.model, [each for each in made.old if each < rows])
    token_ids.renumber(opened.model.config, made.new)
    if (generation := getattr(opened.model, "generation_config", None)) is not None:
        token_ids.renumber(generation, made.new)
    replaced = read.replaced or opened.replaced
    return replace(opened, tokenizer=read.tokenizer, files=read.files, replaced=replaced), gone


def _check_read(name: str, tokenizer: Tokenizer, known: Known, made: Rewritten) -> None:
    """Raise BadModel where a tokenizer has other ids than were made: rows would be of others."""
    new = made.new
    if tokenizer.get_vocab() != {
        t: new[number] for t, number in known.ids.items() if number in new
    }:
        raise BadModel(
            f"the trimmed tokenizer of {name} has other tokens as {type(tokenizer).__name__} than "
            f"in its {RULES}, and rows would belong to others. Leave out trim."
        )


# ---- before it is done ---------------------------------------------------------------------


def estimate(trial: Trial, settings: Settings, *, chained: bool) -> Estimate:
    """What trimming will take: text is read, and some of it as tokens."""
    (corpus, tags), opening = timed(lambda: _asked(trial.asked, settings))
    reading = encoding = 0.0
    sizes: Counter[str] = Counter()
    for tag in tags:
        documents, seconds = timed(lambda tag=tag: corpus.documents(tag, "train"))
        sizes[tag] = sum(len(each.text) for each in documents)
        some = [each.text for each in documents[:SAMPLE]]
        _, took = timed(lambda some=some: usage.counts_of(trial.opened.tokenizer, some))
        reading += seconds
        encoding += took * sizes[tag] / max(1, sum(map(len, some)))
    model = trial.opened.model
    stored = trial.opened.stored_dtype.itemsize
    numbers = sum(each.numel() for each in model.parameters())
    phases = {
        "open": trial.hash_seconds + (trial.open_again if chained else trial.open_seconds),
        "text": opening + reading,
        "count": encoding,
    }
    table = sum(each.numel() * each.itemsize for each in vocabulary.tables(model))
    return Estimate(phases, trial.base + table, numbers * stored)
