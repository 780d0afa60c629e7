"""Press the sites of a model in memory: see what the step looks at, find its mixture, press.

Tested in tests/steps/test_step.py.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from babelpress.models.ledger import ledger
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.moments import expert_loads
from babelpress.numerics.grids import Codes
from babelpress.press import blocks, codes
from babelpress.press.blocks import SiteReport
from babelpress.press.method import Method
from babelpress.press.mixture_search import Round, best, minimax
from babelpress.steps import _looking, _measured
from babelpress.steps._kind import Done, MixtureRow, ModelRow
from babelpress.steps._looking import Source
from babelpress.steps._pressing import (
    LookingSettings,
    PressingReport,
    PressingSettings,
    check_weighed,
)
from babelpress.system.cost import measured
from babelpress.system.offload import Hold
from babelpress.system.progress import Progress
from babelpress.text.calibration import CalibrationSet
from babelpress.text.mixtures import MEASURED, MINIMAX, Mixture
from babelpress.text.settings import CalibrationSettings

Allocate = Callable[[Walk, Source, Method, Mapping[str, float]], Method]
Tables = Callable[[PreTrainedModel], dict[str, Codes]]
Seen = Callable[[Source], None]


@dataclass(frozen=True, slots=True)
class Pressed:
    """What a pressing step came to, before a kind puts it into a report of its own."""

    settings: LookingSettings
    model: ModelRow
    calibration: dict[str, Any]
    mixture: MixtureRow
    trace: list[Round]
    sites: list[SiteReport]
    ledger: dict[str, Any]
    cost: dict[str, float]
    held_out: dict[str, dict[str, Any]]

    def done(self, report: type[PressingReport], **own: Any) -> Done:
        """The report of a kind, with what it has of its own, and the ranges."""
        counts = ("zeros", "were_zero", "weights")
        experts = expert_loads.rows((s.block, s.load) for s in self.sites if s.load is not None)
        foretold = self.foretold()
        made = report(
            step=self.settings.model_dump(mode="json"),
            model=self.model,
            calibration=self.calibration,
            mixture=self.mixture,
            trace=[self._round(each) for each in self.trace],
            damage=blocks.damage_of(self.sites),
            sites=[
                {"block": s.block, "site": s.site, "zeros": s.zeros, "weights": s.weights}
                for s in self.sites
            ],
            **{name: sum(getattr(site, name) for site in self.sites) for name in counts},
            ledger=self.ledger,
            cost=self.cost,
            **({"experts": experts} if experts else {}),
            **({"held_out": self.held_out} if self.held_out else {}),
            **({"foretold": foretold} if foretold else {}),
            **own,
        )
        return Done(
            made,
            {f"{s.block}.{s.site}": s.absmax_I.contiguous() for s in self.sites if not s.left},
        )

    def _round(self, tried: Round) -> dict[str, Any]:
        """What is kept of a round; where it was measured, every language's loss."""
        lost = {"lost": tried.lost} if self.held_out else {}
        return {"worst": tried.worst, "mean": tried.mean, "shares": tried.shares, **lost}

    def foretold(self) -> dict[str, dict[str, float | None]]:
        """The shares by which losses are predicted to grow, as a report has them."""
        return {
            tag: {"curvature": each.curvature, "first_order": each.first_order, "best": each.best}
            for tag, each in blocks.foretold_of(self.sites).items()
        }

    def unfolded(self) -> list[str]:
        """The sites whose scales no layer before them can take."""
        return self._named(s for s in self.sites if not s.folded)

    def unordered(self) -> list[str]:
        """The sites whose inputs no layer before them can put in another order."""
        return self._named(s for s in self.sites if not s.ordered)

    def _named(self, sites: Iterable[SiteReport]) -> list[str]:
        names = (expert_loads.name_of(s.block, s.site, s.load) for s in sites)
        return list(dict.fromkeys(names))


def press(
    opened: Opened,
    asked: CalibrationSettings,
    settings: LookingSettings,
    method: Method,
    folder: Path,
    *,
    drawn: CalibrationSet | None = None,
    against: str | None = None,
    seen: Seen | None = None,
    allocate: Allocate | None = None,
    tables: Tables | None = None,
    hold: Hold,
    progress: Progress,
) -> Pressed:
    """Press a model in place; codes are written into `folder` as they are found.

    `drawn` is text that was drawn before, `against` a second moments folder, for a method that
    makes a contrast. `seen` is told what is looked at and may refuse it; `allocate` gives blocks
    methods of their own, `tables` quantizes embedding and head. `hold` is where hidden states and
    pressed blocks lie.
    """
    check_weighed(asked, settings)
    walk = Walk(opened.model)
    model = ModelRow.of(opened)
    with measured() as cost:
        source = _source(opened, model, walk, asked, settings, method, hold, progress, drawn)
        if seen is not None:
            seen(source)
        mixed = _looking.mixture_of(settings.mixture, source, opened.name)
        if against is not None:
            source = _looking.beside(source, opened, against, mixed.shares)
        work = _Work(walk, source, settings, method, allocate, hold)
        found = _shares(opened, asked, work, mixed, folder, progress)
        writer = codes.Writer(folder / codes.FOLDER, walk.index_of)
        sites = work.press(found.shares, progress, writer)
        if tables is not None:
            writer.add(tables(opened.model))
        writer.close()
    size = ledger(
        opened.model, writer.rows, walk.index_of, opened.stored_dtype, carried=opened.carried
    )
    mixture = MixtureRow.of(mixed, found.shares)
    calibration = dict(source.manifest)
    return Pressed(
        settings, model, calibration, mixture, found.trace, sites, size, cost, found.held_out
    )


def _source(
    opened: Opened,
    model: ModelRow,
    walk: Walk,
    asked: CalibrationSettings,
    settings: LookingSettings,
    method: Method,
    hold: Hold,
    progress: Progress,
    drawn: CalibrationSet | None,
) -> Source:
    """What the step looks at: a folder of moments, those that others look at too, or text."""
    gram = method.needs_gram
    if settings.moments is not None:
        return _looking.of_folder(opened, asked, settings, method.name, gram=gram)
    offered = _looking.of_offered(model.fingerprint, asked, settings, gram=gram)
    if offered is not None:
        return offered
    again = settings.looks_twice
    return _looking.of_text(opened, walk, asked, method, again, hold, progress, drawn)


@dataclass(frozen=True, slots=True)
class _Work:
    """What presses a model, whatever the shares of languages."""

    walk: Walk
    source: Source
    settings: LookingSettings
    method: Method
    allocate: Allocate | None
    hold: Hold

    def press(
        self, shares: Mapping[str, float], progress: Progress, writer: codes.Writer | None = None
    ) -> list[SiteReport]:
        """Press all blocks; the codes of each go to the writer as soon as it is done."""
        walk, source, method, hold = self.walk, self.source, self.method, self.hold
        if self.allocate is not None:
            method = self.allocate(walk, source, method, shares)

        def settled(reports: list[SiteReport]) -> list[SiteReport]:
            found = {
                walk.name(site.block, name): each
                for site in reports
                for name, each in site.codes.items()
            }
            if found and writer is not None:
                writer.add(found)
            return [replace(report, codes={}) for report in reports]

        if self.settings.propagate == "dense":
            return blocks.press_dense(
                walk, source.moments, method, shares, hold=hold, settled=settled, progress=progress
            )
        return blocks.press_compressed(
            walk, source.blocks, method, shares, hold=hold, settled=settled, progress=progress
        )


@dataclass(frozen=True, slots=True)
class _Shares:
    """The shares of a mixture; of one that was searched the rounds, and the text held out."""

    shares: dict[str, float]
    trace: list[Round] = field(default_factory=list)
    held_out: dict[str, dict[str, Any]] = field(default_factory=dict)


def _shares(
    opened: Opened,
    asked: CalibrationSettings,
    work: _Work,
    mixed: Mixture,
    folder: Path,
    progress: Progress,
) -> _Shares:
    """The shares of a mixture, searched for where it is one that is found while pressing."""
    walk, source, settings, method = work.walk, work.source, work.settings, work.method
    if mixed.policy == MEASURED:
        assert isinstance(settings, PressingSettings)
        tags = source.languages
        scored = _measured.Scored.of(opened, asked, settings, tags, source.manifest)
        found = _measured.find(
            scored, walk, source, settings, work.press, folder, work.hold, progress
        )
        return _Shares(found.shares, found.trace, found.told(scored))
    if mixed.policy != MINIMAX:
        return _Shares(dict(mixed.shares))
    folds = blocks.find_all_folds(walk, method)
    trace = minimax(
        lambda p: blocks.predicted_damage(walk, source.moments, method, p, folds),
        source.languages,
        rounds=settings.minimax.rounds,
        rate=settings.minimax.rate,
        progress=progress,
    )
    return _Shares(best(trace).shares, trace)
