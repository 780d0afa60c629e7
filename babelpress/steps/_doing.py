"""Press the sites of a model in memory: see what the step looks at, find its mixture, press.

Tested in tests/steps/test_step.py.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
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
from babelpress.steps import _looking
from babelpress.steps._kind import Done, MixtureRow, ModelRow
from babelpress.steps._looking import Source
from babelpress.steps._pressing import LookingSettings, PressingReport, check_weighed
from babelpress.system.cost import measured
from babelpress.system.offload import Hold
from babelpress.system.progress import Progress
from babelpress.text.calibration import CalibrationSet
from babelpress.text.mixtures import MINIMAX, Mixture
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
            trace=[{"worst": r.worst, "mean": r.mean, "shares": r.shares} for r in self.trace],
            damage=blocks.damage_of(self.sites),
            sites=[
                {"block": s.block, "site": s.site, "zeros": s.zeros, "weights": s.weights}
                for s in self.sites
            ],
            **{name: sum(getattr(site, name) for site in self.sites) for name in counts},
            ledger=self.ledger,
            cost=self.cost,
            **({"experts": experts} if experts else {}),
            **({"foretold": foretold} if foretold else {}),
            **own,
        )
        return Done(
            made,
            {f"{s.block}.{s.site}": s.absmax_I.contiguous() for s in self.sites if not s.left},
        )

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
        gram, known = method.needs_gram, model.fingerprint
        if settings.moments is not None:
            source = _looking.of_folder(opened, asked, settings, method.name, gram=gram)
        elif (offered := _looking.of_offered(known, asked, settings, gram=gram)) is not None:
            source = offered
        else:
            again = settings.looks_twice
            source = _looking.of_text(opened, walk, asked, method, again, hold, progress, drawn)
        if seen is not None:
            seen(source)
        mixed = _looking.mixture_of(settings.mixture, source, opened.name)
        if against is not None:
            source = _looking.beside(source, opened, against, mixed.shares)
        shares, trace = _shares(walk, source, mixed, settings, method, progress)
        if allocate is not None:
            method = allocate(walk, source, method, shares)
        writer = codes.Writer(folder / codes.FOLDER, walk.index_of)
        sites = _press(walk, source, settings, method, shares, writer, hold, progress)
        if tables is not None:
            writer.add(tables(opened.model))
        writer.close()
    size = ledger(
        opened.model, writer.rows, walk.index_of, opened.stored_dtype, carried=opened.carried
    )
    calibration = dict(source.manifest)
    return Pressed(
        settings, model, calibration, MixtureRow.of(mixed, shares), trace, sites, size, cost
    )


def _press(
    walk: Walk,
    source: Source,
    settings: LookingSettings,
    method: Method,
    shares: Mapping[str, float],
    writer: codes.Writer,
    hold: Hold,
    progress: Progress,
) -> list[SiteReport]:
    """Press all blocks; the codes of each go to the writer as soon as it is done."""

    def settled(reports: list[SiteReport]) -> list[SiteReport]:
        found = {
            walk.name(site.block, name): each
            for site in reports
            for name, each in site.codes.items()
        }
        if found:
            writer.add(found)
        return [replace(report, codes={}) for report in reports]

    if settings.propagate == "dense":
        return blocks.press_dense(
            walk, source.moments, method, shares, hold=hold, settled=settled, progress=progress
        )
    return blocks.press_compressed(
        walk, source.blocks, method, shares, hold=hold, settled=settled, progress=progress
    )


def _shares(
    walk: Walk,
    source: Source,
    mixed: Mixture,
    settings: LookingSettings,
    method: Method,
    progress: Progress,
) -> tuple[dict[str, float], list[Round]]:
    """The shares of a mixture, and the rounds of the loop that found them."""
    if mixed.policy != MINIMAX:
        return dict(mixed.shares), []
    folds = blocks.find_all_folds(walk, method)
    trace = minimax(
        lambda p: blocks.predicted_damage(walk, source.moments, method, p, folds),
        source.languages,
        rounds=settings.minimax.rounds,
        rate=settings.minimax.rate,
        progress=progress,
    )
    return best(trace).shares, trace
