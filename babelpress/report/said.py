"""What models wrote before and after pressing, side by side: three languages of them.

Tested in tests/report/test_said.py.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from babelpress.judge import scores, written
from babelpress.judge.written import Generation
from babelpress.report import data
from babelpress.report.data import Passage, Pressed, Said

FEW = 4  # models that all are shown; of more those whose worst language loses least and most
DENSE = "dense"


def passages(
    dense: Path, runs: Sequence[Path], pressed: Sequence[Pressed], on: str, corpus: str
) -> tuple[Passage, ...]:
    """The language that loses most, the middle one, and the one that loses least.

    Only what the models wrote whose scores are shown, after equal prompts; none where the dense
    model or every run keeps nothing of a language.
    """
    before = _kept(dense, on, corpus)
    if not before:
        return ()
    labels = data.labels(tuple(pressed))
    after = {
        label: _kept(run, on, corpus)
        for run, label in zip(runs, _chosen(pressed, labels), strict=True)
        if label
    }
    order = [tag for tag in _worst_first(pressed) if _common(before, after, tag)]
    if not order:
        return ()
    shown = dict.fromkeys((order[0], order[len(order) // 2], order[-1]))
    return tuple(_passage(before, after, tag) for tag in shown)


def _kept(folder: Path, on: str, corpus: str) -> dict[str, Generation]:
    """What the model wrote whose scores are in a folder, by language."""
    found = written.read(folder)
    if not found:
        return {}
    corpus = scores.prefer(folder, on, corpus)
    weights = scores.identity_of(folder, on, corpus).get("model")
    own = [each for each in found if each.weights == weights and each.corpus == corpus]
    return {each.language: each for each in own}


def _chosen(pressed: Sequence[Pressed], labels: Sequence[str]) -> list[str]:
    """The labels of models that are shown; "" for the others."""
    if len(pressed) <= FEW:
        return list(labels)
    worst = [max(change.change for change in model.comparison.changes) for model in pressed]
    ends = {worst.index(min(worst)), worst.index(max(worst))}
    return [label if place in ends else "" for place, label in enumerate(labels)]


def _worst_first(pressed: Sequence[Pressed]) -> list[str]:
    most: dict[str, float] = {}
    for change in (c for model in pressed for c in model.comparison.changes):
        most[change.language] = max(change.change, most.get(change.language, -math.inf))
    return sorted(most, key=lambda tag: (-most[tag], tag))


def _common(
    before: Mapping[str, Generation], after: Mapping[str, Mapping[str, Generation]], tag: str
) -> list[str]:
    """The models that went on with the same prompt as the dense one."""
    if tag not in before:
        return []
    return [
        label
        for label, each in after.items()
        if tag in each and each[tag].prompt == before[tag].prompt
    ]


def _passage(
    before: Mapping[str, Generation], after: Mapping[str, Mapping[str, Generation]], tag: str
) -> Passage:
    first = before[tag]
    others = tuple(Said(label, after[label][tag].text) for label in _common(before, after, tag))
    return Passage(tag, first.prompt, first.reference, (Said(DENSE, first.text), *others))
