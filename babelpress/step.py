"""One step of a recipe on a model in memory: see what it looks at, find its mixture, press.

Mixtures that go by training shares go by those of the model that a chain began with.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from babelpress import codes, embeddings, loads, mixtures, opening, press
from babelpress.calibration import tokenizer_hash
from babelpress.errors import BadMoments, BadSetting
from babelpress.feeding import Progress, gather_dense, silent
from babelpress.gathering import measured, text
from babelpress.grids import Codes
from babelpress.languages import select
from babelpress.ledger import ledger
from babelpress.methods import Method, Pruner, Quantizer
from babelpress.minimax import Round, best, minimax
from babelpress.mixtures import Mixture
from babelpress.models import Walk
from babelpress.offload import Hold, in_memory
from babelpress.opening import Opened
from babelpress.packing import Blocks
from babelpress.press import SiteReport
from babelpress.recipe import Calibration, Prune, Quantize
from babelpress.store import BlockMoments, Store

MINIMAX = "minimax"


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: its report, and the largest inputs of sites by BLOCK.SITE."""

    report: dict[str, Any]
    ranges: dict[str, Tensor]


def method_of(step: Prune | Quantize) -> Method:
    """The method that a step asks for."""
    if isinstance(step, Prune):
        return Pruner.of(
            step.method, step.pattern, step.options, step.skip, min_tokens=step.min_tokens
        )
    return Quantizer.of(
        step.method,
        step.grid,
        step.options,
        step.skip,
        keep_zeros=step.keep_zeros,
        min_tokens=step.min_tokens,
    )


def do_step(
    opened: Opened,
    asked: Calibration,
    step: Prune | Quantize,
    folder: Path,
    *,
    hold: Hold = in_memory,
    progress: Progress = silent,
) -> Done:
    """Press a model in place and report what was done: exact counts, shares, damage by language.

    Codes are written into `folder` as they are found. `hold` is where hidden states and pressed
    blocks lie.
    """
    method = method_of(step)
    walk = Walk(opened.model)
    before = opening.fingerprint(opened.model)
    with measured() as cost:
        source = _source(opened, walk, asked, step, method, hold, progress)
        mixed = _mixture(step.mixture, source, opened.name)
        shares, trace = _shares(walk, source, mixed, step, method, progress)
        writer = codes.Writer(folder / codes.FOLDER, walk.path)

        def settled(reports: list[SiteReport]) -> list[SiteReport]:
            if found := _codes(walk, reports):
                writer.add(found)
            return [replace(report, codes={}) for report in reports]

        kept: dict[str, Any] = {"hold": hold, "settled": settled, "progress": progress}
        if step.propagate == "dense":
            sites = press.press_dense(walk, source.moments, method, shares, **kept)
        else:
            sites = press.press_compressed(walk, source.blocks, method, shares, **kept)
        if isinstance(step, Quantize) and step.embeddings == "8bit":
            writer.add(embeddings.quantize_tables(opened.model))
        writer.close()
    report = {
        "kind": type(step).__name__.lower(),
        "step": step.model_dump(mode="json"),
        "model": {"name": opened.name, "fingerprint": before},
        "calibration": source.manifest,
        "mixture": _mixture_row(mixed, shares),
        "trace": [{"worst": r.worst, "mean": r.mean, "shares": r.shares} for r in trace],
        **_outcome(step, sites),
        "ledger": ledger(opened.model, writer.rows, walk.path, opened.stored_dtype),
        "cost": cost,
    }
    return Done(
        report, {f"{s.block}.{s.site}": s.absmax_I.contiguous() for s in sites if not s.left}
    )


def _source(
    opened: Opened,
    walk: Walk,
    asked: Calibration,
    step: Prune | Quantize,
    method: Method,
    hold: Hold,
    progress: Progress,
) -> "_Source":
    if step.moments is not None:
        return _of_folder(opened, asked, step, gram=method.needs_gram)
    again = step.mixture == MINIMAX
    return _of_text(opened, walk, asked, method, again, hold, progress)


def _shares(
    walk: Walk,
    source: "_Source",
    mixed: Mixture,
    step: Prune | Quantize,
    method: Method,
    progress: Progress,
) -> tuple[dict[str, float], list[Round]]:
    """The shares of a mixture, and the rounds of the loop that found them."""
    if mixed.policy != MINIMAX:
        return dict(mixed.shares), []
    folds = press.find_all_folds(walk, method)
    trace = minimax(
        lambda p: press.predicted_damage(walk, source.moments, method, p, folds),
        source.languages,
        rounds=step.minimax.rounds,
        rate=step.minimax.rate,
        progress=progress,
    )
    return best(trace).shares, trace


def _outcome(step: Prune | Quantize, sites: list[SiteReport]) -> dict[str, Any]:
    """What a report says of the sites: damage by language, exact counts, what was left alone."""
    counts = ("zeros", "were_zero", "weights")
    found: dict[str, Any] = {
        "damage": press.damage_of(sites),
        "sites": [
            {"block": s.block, "site": s.site, "zeros": s.zeros, "weights": s.weights}
            for s in sites
        ],
        **{name: sum(getattr(site, name) for site in sites) for name in counts},
    }
    if isinstance(step, Quantize):
        found["grid"] = str(step.grid)
        names = (loads.name_of(s.block, s.site, s.load) for s in sites if not s.folded)
        found["unfolded"] = list(dict.fromkeys(names))
    if experts := loads.rows((s.block, s.load) for s in sites if s.load is not None):
        found["experts"] = experts
    return found


def _codes(walk: Walk, sites: list[SiteReport]) -> dict[str, Codes]:
    """The codes of all sites by full name."""
    return {
        f"{walk.path}.{site.block}.{name}": codes
        for site in sites
        for name, codes in site.codes.items()
    }


@dataclass(frozen=True, slots=True)
class _Source:
    """What a step looks at: its languages, their text, and dense moments by block.

    `there` are all languages with moments; `blocks` is empty where the moments are of a folder.
    """

    languages: list[str]
    there: list[str]
    blocks: Mapping[str, Blocks]
    manifest: Mapping[str, Any]
    moments: Callable[[int], BlockMoments]


def _of_text(
    opened: Opened,
    walk: Walk,
    asked: Calibration,
    method: Method,
    again: bool,
    hold: Hold,
    progress: Progress,
) -> _Source:
    """Text, and its dense moments if they are asked for: for `dense` and for the minimax loop.

    Only with `again` are moments kept, for whoever asks for a block a second time.
    """
    found = text(opened, asked)
    gathered: dict[int, BlockMoments] = {}
    coming: list[Iterator[tuple[int, BlockMoments]]] = []
    kept: dict[str, Any] = {"gram": method.needs_gram, "vectors": method.reads}

    def moments(index: int) -> BlockMoments:
        if not coming:
            coming.append(gather_dense(walk, found.blocks, **kept, hold=hold, progress=progress))
        if index not in gathered:
            if not again:
                gathered.clear()
            gathered.update((at, _held(each, hold, again)) for at, each in _until(coming[0], index))
        return gathered[index]

    tags = list(found.blocks)
    return _Source(tags, tags, found.blocks, found.manifest, moments)


def _until(
    coming: Iterator[tuple[int, BlockMoments]], index: int
) -> Iterator[tuple[int, BlockMoments]]:
    """The next moments, up to those of a block."""
    for at, each in coming:
        yield at, each
        if at == index:
            return


def _held(moments: BlockMoments, hold: Hold, again: bool) -> BlockMoments:
    """Gram matrices of every block are more than one model: they lie where hidden states do."""
    if not again:
        return moments
    return {
        site: {
            tag: each if each.gram_II is None else replace(each, gram_II=hold(each.gram_II))
            for tag, each in seen.items()
        }
        for site, seen in moments.items()
    }


def _of_folder(
    opened: Opened, asked: Calibration, step: Prune | Quantize, *, gram: bool
) -> _Source:
    """Moments that were saved. Raises BadMoments or BadSetting where they are no use here."""
    assert step.moments is not None
    store = Store.open(Path(step.moments))
    if step.propagate != "dense":
        raise BadSetting(
            "moments of a folder are of the dense model: use propagate dense, or drop moments."
        )
    store.check(
        model=opening.fingerprint(opened.model),
        tokenizer=tokenizer_hash(opened.tokenizer),
        dtype=str(opened.model.dtype),
    )
    if gram and not store.identity["gram"]:
        raise BadSetting(
            f"{step.method} needs Gram matrices, which {step.moments} has not. "
            "Calibrate again with --gram."
        )
    there = store.identity["languages"]
    languages = select(asked.languages, among=there) if asked.languages else there
    if missing := [tag for tag in languages if tag not in there]:
        raise BadMoments(
            f"{step.moments} has no moments of {', '.join(missing)}; it has {', '.join(there)}. "
            "Calibrate with them, or leave them out of --languages."
        )
    return _Source(languages, there, {}, store.manifest["calibration"], store.load)


def _mixture(policy: str, source: _Source, model: str) -> Mixture:
    """The mixture of a step. Raises BadSetting for a share of a language that nothing was seen of.

    Moments may take hours to gather, so this is known first.
    """
    mixed = mixtures.mixture(policy, source.languages, model=model)
    wanted = [tag for tag, share in mixed.shares.items() if share > 0]
    if missing := [tag for tag in wanted if tag not in source.there]:
        raise BadSetting(
            f"the mixture {policy} gives a share to {', '.join(missing)}, which is not among the "
            f"languages of this calibration: {', '.join(source.there)}. Add it with --languages."
        )
    return mixed


def _mixture_row(mixed: Mixture, shares: Mapping[str, float]) -> dict[str, Any]:
    return {
        "policy": mixed.policy,
        "shares": dict(shares),
        "distribution": mixed.distribution,
        "unit": mixed.unit,
        "stage": mixed.stage,
        "source": mixed.source,
        "note": mixed.note,
        "counts": mixed.counts,
    }
