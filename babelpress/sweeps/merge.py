"""Moments of one language at a time, and the folder of all languages that they make together.

Languages are seen apart from each other, so that what one language's run leaves is, bit for bit,
its part of a run over all of them: machines can share the languages of a calibration.

Tested in tests/sweeps/test_plan.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from babelpress.errors import BadMoments
from babelpress.moments.store import BlockMoments, Store
from babelpress.system.files import fingerprint
from babelpress.system.progress import Progress, silent
from babelpress.text.corpus import open_source, read_of
from babelpress.text.demonstrations import identity_of
from babelpress.text.settings import SELF, CalibrationSettings


def merge(
    asked: CalibrationSettings,
    parts: Sequence[Path],
    out: Path,
    *,
    gram: bool,
    progress: Progress = silent,
) -> Store:
    """One moments folder of several, each of one language, in their order.

    Without `gram` it is what a calibration without Gram matrices gives, whether or not the parts
    have some. Raises BadMoments for a part that is damaged or half-written, or whose tokens count
    otherwise than those of the first.
    """
    stores = [Store.open(part) for part in parts]
    if odd := [store for store in stores if store.weigh != stores[0].weigh]:
        raise BadMoments(
            f"{odd[0].folder} weighs tokens {odd[0].weigh} and {stores[0].folder} "
            f"{stores[0].weigh}: they do not go together. Calibrate both with the same --weigh."
        )
    if odd := [store for store in stores if store.first_order != stores[0].first_order]:
        raise BadMoments(
            f"of {odd[0].folder} and {stores[0].folder} only one has gradients by the weights: "
            "they do not go together. Calibrate both with --first-order, or none."
        )
    first = stores[0].manifest
    facts = _calibration(asked, [store.manifest["calibration"] for store in stores])
    identity = {
        **first["identity"],
        **identity_of(facts),
        "languages": [tag for store in stores for tag in store.identity["languages"]],
        "gram": gram,
        "text": fingerprint([store.identity["text"] for store in stores]),
    }
    merged = Store.resume(out, identity, first["surroundings"], first["blocks"])
    _fill(merged, stores, gram=gram, progress=progress)
    seconds = sum(store.manifest["cost"]["seconds"] for store in stores)
    peak = max(store.manifest["cost"]["peak_memory_mib"] for store in stores)
    merged.finish(
        calibration=facts,
        cost={"seconds": round(seconds, 3), "peak_memory_mib": peak},
    )
    return merged


def without_gram(folder: Path, out: Path, *, progress: Progress = silent) -> Store:
    """A moments folder again, as a calibration without Gram matrices gives it.

    Raises BadMoments for one that is damaged or half-written.
    """
    richer = Store.open(folder)
    known = richer.manifest
    identity = {**richer.identity, "gram": False}
    found = Store.resume(out, identity, known["surroundings"], known["blocks"])
    _fill(found, [richer], gram=False, progress=progress)
    found.finish(calibration=known["calibration"], cost=known["cost"])
    return found


def _fill(new: Store, parts: Sequence[Store], *, gram: bool, progress: Progress) -> None:
    """Write the blocks of parts together; Gram matrices are copied as they lie, not unfolded."""
    number = new.manifest["blocks"]
    for index in range(number):
        new.save(index, _union([part.load(index) for part in parts], gram=gram))
        progress("merge: block", index + 1, number)


def _union(parts: Sequence[BlockMoments], *, gram: bool) -> BlockMoments:
    return {
        site: {
            tag: each if gram else each.without_gram()
            for part in parts
            for tag, each in part.get(site, {}).items()
        }
        for site in dict.fromkeys(site for part in parts for site in part)
    }


def _calibration(asked: CalibrationSettings, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of a calibration in all languages, of those in each."""
    rows = {tag: row for part in parts for tag, row in part["languages"].items()}
    if asked.corpus == SELF:
        text = fingerprint([part["fingerprint"] for part in parts])
    else:
        text = open_source(asked.corpus).fingerprint(read_of(asked.corpus, rows))
    findings = [finding for part in parts for finding in part["findings"]]
    return {
        **parts[0],
        "languages": rows,
        # What is said of a corpus is said in every part.
        "findings": [each for n, each in enumerate(findings) if each not in findings[:n]],
        "fingerprint": text,
    }
