"""What was predicted of a run, held against what was measured: how well it ranks the languages.

Tested in tests/judge/test_verdicts.py.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from babelpress.judge.compare import Comparison
from babelpress.runs import manifest
from babelpress.runs.manifest import Manifest

# What is predicted of the loss itself, and what it is called.
SPOKEN = {"curvature": "curvature", "first_order": "first order", "best": "both"}


def note_prediction(run: Path, on: str, corpus: str, found: Comparison) -> dict[str, Any] | None:
    """Write into the run's manifest how predicted damage ranks the languages beside the truth.

    By evaluation and corpus; what is said of some of the languages replaces nothing of more.
    """
    known = manifest.read_if_there(run)
    if known is None:
        return None
    noted = prediction(known, {c.language: c.change for c in found.changes})
    if noted is None:
        return None
    by_corpus = known.prediction.get(on, {})
    if "spearman" in by_corpus:  # of before corpora were told apart: nobody knows of which it is
        by_corpus = {}
    there = by_corpus.get(corpus)
    if there != noted and (there is None or there["languages"] <= noted["languages"]):
        told = {**known.prediction, on: {**by_corpus, corpus: noted}}
        manifest.write(run, known.model_copy(update={"prediction": told}))
    return noted


def prediction(found: Manifest, changes: Mapping[str, float]) -> dict[str, Any] | None:
    """Rank correlation over languages of a run's predicted damage with a measured change.

    The damage of a chain is summed over its steps. None for fewer than three languages, and where
    all damage or all change is the same, which ranks nothing. `of_loss` has the correlations of
    what was predicted of the loss itself, where it weighed the tokens of every such step.
    """
    parts = [step.damage for step in found.chain if step.damage]
    ranks = _ranks(parts, changes)
    if ranks is None:
        return None
    told = [step.foretold for step in found.chain if step.damage]
    of_loss = {}
    for by in SPOKEN:
        # best is curvature where that is all, and no ranking of its own
        needs = "first_order" if by == "best" else by
        values = [
            {tag: None if each.get(needs) is None else each.get(by) for tag, each in step.items()}
            for step in told
        ]
        known = [{t: v for t, v in step.items() if v is not None} for step in values]
        if own := _ranks(known, changes):
            of_loss[by] = own["spearman"]
    return {**ranks, **({"of_loss": of_loss} if of_loss else {})}


def _ranks(
    parts: Sequence[Mapping[str, float]], changes: Mapping[str, float]
) -> dict[str, Any] | None:
    """Rank correlation of what steps predict together with changes, over languages of both."""
    from scipy.stats import spearmanr

    if not parts:
        return None
    common = [tag for tag in parts[0] if tag in changes and all(tag in part for part in parts)]
    damage_L = np.array([math.fsum(part[tag] for part in parts) for tag in common])
    change_L = np.array([changes[tag] for tag in common])
    if len(common) < 3 or not np.ptp(damage_L) or not np.ptp(change_L):
        return None
    result: Any = spearmanr(damage_L, change_L)
    return {
        "spearman": float(result.statistic),
        "p": float(result.pvalue),
        "languages": len(common),
    }


def ranked(spearman: float) -> str:
    """What a rank correlation of predicted damage with measured changes means."""
    if spearman >= 0.8:
        return "it says well which languages lose most, without scoring any"
    if spearman >= 0.5:
        return "it says roughly which languages lose most; score them to be sure"
    return "it does not say which languages lose most; go by the scores"
