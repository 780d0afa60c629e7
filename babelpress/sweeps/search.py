"""Languages and a size in, a model and its proof out: which chain loses least for the worst-off.

    OUT/runs/FINGERPRINT/      every candidate, an ordinary run with its scores; OUT is a sweep
    OUT/repaired/FINGERPRINT/  the best of them, repaired
    OUT/best/                  the run that was chosen, scored on text that chose nothing
    OUT/proof/                 the dense model on that text
    OUT/exported/              what the program loads

Chains that are foretold to fit (chains.py) are pressed and scored on the first test documents of
each language, as long as half of the time lasts; of those whose exported folder really fits the two
that lose least in their worst language are repaired; the best of all is then scored beside the
dense model on the test documents behind those that chose. Nothing but files tells what is done: the
same call goes on, and with more time tries more.

Tested in tests/sweeps/test_search.py.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from babelpress.errors import BadLayer, BadModel, BadRun, BadSetting
from babelpress.export import _write
from babelpress.judge import costs, verdicts
from babelpress.judge.compare import Change, Comparison, Summary, gate
from babelpress.sweeps import chains
from babelpress.sweeps.again import Repair, recover_step, repair, score
from babelpress.sweeps.candidates import Asked, Plan, Way, own
from babelpress.sweeps.chains import FULL
from babelpress.sweeps.found import DENSE
from babelpress.sweeps.jobs import Score
from babelpress.sweeps.rounds import Rounds, Tried, base_of
from babelpress.sweeps.setup import Hands, Setup
from babelpress.system.claims import LOCK_NAME, PARTIAL, held, remove_partials
from babelpress.system.files import link, new_folder, read_json, write_json
from babelpress.system.progress import Progress, remark, silent

BEST, PROOF, EXPORTED, WEIGHED = "best", "proof", "exported", "weighed"
CHOSEN = "fit.json"  # which run was proved and exported, and what serves it
UNLOADABLE = (BadLayer, BadModel, BadSetting)  # what exports raise for what a program cannot load
FINALISTS = 2
PRESSING, REPAIRING = 0.5, 0.3  # shares of the time
PROGRAMS = {"vllm": "vLLM"}  # engines that formats call otherwise
WIDER = (1.25, 1.6, 2.0, 3.0)  # sizes that are tried where the promise is broken, times that asked


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that was scored: bytes as stored, what its worst language loses, the mean of all."""

    way: Way
    folder: Path
    stored: int
    worst: Summary
    mean: Summary
    repaired: bool = False

    @property
    def label(self) -> str:
        """What was done, in words."""
        return self.way.chain.label + (", repaired" if self.repaired else "")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of it. `dense` has the dense model's scores on the text that chose.

    `bytes` are those of the exported folder, `failed` the languages that lose more than was
    promised; then `nearest` are the candidates that keep to it, the smallest first.
    """

    dense: Path
    best: Candidate
    candidates: tuple[Candidate, ...]
    proof: Comparison
    failed: tuple[Change, ...]
    bytes: int
    nearest: tuple[Candidate, ...]
    serve: str
    notes: tuple[str, ...]


# ---- doing it ------------------------------------------------------------------------------


class Search:
    """A search in a folder, with hands that do its jobs."""

    def __init__(
        self, asked: Asked, plan: Plan, setup: Setup, hands: Hands, progress: Progress = silent
    ):
        self.asked, self.plan, self.out, self.progress = asked, plan, setup.out, progress
        self.rounds = Rounds(setup, hands, asked.minutes, progress, [*plan.notes])
        self.notes = self.rounds.notes
        self.dense = self.out / DENSE / Score(asked.model, (plan.chooses,)).key

    def do(self) -> Fitted:
        """Search, prove and export.

        Raises BadRun where no candidate fits or could be made, or what lies in OUT is not ours.
        """
        _check_ours(self.out)
        candidates = self._pressed(self.plan.ways, self.plan.least)
        if not candidates:
            raise BadRun(f"no candidate could be made. {self.rounds.wrong}")
        with held(self.out):  # as the sweep does while it works
            finalists = self._fitting(candidates)
            repaired = self._repaired(finalists)
            best = min((*finalists, *repaired), key=lambda each: each.worst.value)
            proof = self._proved(best)
            size, serve = self._exported(best)
        failed = tuple(gate(proof, self.asked.max_loss))
        everyone, nearest = [*candidates, *repaired], ()
        if failed:
            everyone += self._wider(everyone, best)
            nearest = tuple(sorted(self._keeping(everyone, best), key=lambda each: each.stored))
        notes = tuple(dict.fromkeys(self.notes))
        return Fitted(self.dense, best, tuple(everyone), proof, failed, size, nearest, serve, notes)

    # ---- pressing

    def _pressed(self, ways: Sequence[Way], least: int) -> list[Candidate]:
        """Candidates that were pressed and scored, one after the other while time lasts."""
        some = [Tried(way.chain.label, own(self.plan, way)) for way in ways]
        base = base_of(self.asked.model, self.asked.calibration, self.plan.chooses)
        runs = self.rounds.pressed(base, some, least=least, share=PRESSING)
        return [self._candidate(ways[place], folder) for place, folder in runs.items()]

    def _candidate(self, way: Way, folder: Path, *, repaired: bool = False) -> Candidate:
        compared = verdicts.against(self.dense, folder, on=self.plan.on)
        known = {each.name: each for each in compared.summaries}
        stored = costs.of(folder)["bytes_stored"]
        return Candidate(way, folder, stored, known["worst"], known["mean"], repaired)

    # ---- sizes

    def _fitting(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The best whose exported folder is no larger than asked for."""
        remove_partials(self.out / WEIGHED)
        fit: list[Candidate] = []
        least: tuple[int, str] | None = None
        why = ""
        own = [each for each in candidates if not each.way.usual]
        for each in sorted(own, key=lambda one: one.worst.value):
            try:
                size = self._weighed(each)
            except UNLOADABLE as error:
                why = f"{each.label} is not what {self.asked.engine} loads: {error}"
                self.notes.append(why)
                continue
            if size > self.plan.size:
                self.notes.append(f"{each.label} came to {size:,} bytes, and is too large.")
                least = min(least or (size, each.label), (size, each.label))
                continue
            fit.append(each)
            if len(fit) == FINALISTS:
                break
        if not fit:
            raise BadRun(self._none_fits(own, least, why))
        return fit

    def _none_fits(self, own: Sequence[Candidate], least: tuple[int, str] | None, why: str) -> str:
        """Why nobody fits: nothing was made, nothing is loaded, or all is too large."""
        if not own:
            return f"no candidate of this size could be made. {' '.join(self.notes)}"
        if least is None:
            return f"{self.asked.engine} loads none of the candidates. {why}"
        return (
            f"no candidate comes to --size {self.asked.size} in the folder that "
            f"{self.asked.engine} loads. The least is {least[1]}, {least[0]:,} bytes. Give more, "
            "or --minutes to try more."
        )

    def _form(self, each: Candidate) -> str:
        return self.plan.engine.format(each.way.chain.bits)

    def _weighed(self, each: Candidate) -> int:
        """Bytes of what would be exported; known from before where it was weighed."""
        path = self.out / WEIGHED / f"{each.folder.name}-{self.asked.engine}.json"
        if path.exists():
            return int(read_json(path)["bytes"])
        path.parent.mkdir(exist_ok=True)
        begun = f".{path.stem}."
        with TemporaryDirectory(PARTIAL.removeprefix(".*"), begun, path.parent) as place:
            folder = Path(place) / EXPORTED
            _write.write(
                str(each.folder),
                folder,
                self._form(each),
                against=self.dense,  # so that its card is as long as that of the best
                progress=self.progress,
            )
            size = _bytes(folder)
        write_json(path, {"bytes": size})
        return size

    # ---- repair

    def _repaired(self, finalists: Sequence[Candidate]) -> list[Candidate]:
        if self.rounds.late(1 - REPAIRING / 2):
            self.notes.append("nothing was repaired, for want of time (--minutes).")
            return []
        minutes = REPAIRING * self.asked.minutes / len(finalists)
        jobs = {each.label: self._repair(each, recover_step(minutes)) for each in finalists}
        done = self.rounds.done(jobs)
        return [
            self._candidate(each.way, jobs[each.label].folder, repaired=True)
            for each in finalists
            if each.label in done
        ]

    def _repair(self, each: Candidate, step: dict[str, Any]) -> Repair:
        """What lost neurons is repaired before it is quantized: then all weights can learn."""
        calibration, chooses = self.asked.calibration, self.plan.chooses
        chain = each.way.chain
        if chain.ffn == 1 or chain.bits == FULL:
            return repair(self.out, str(each.folder), [step], calibration, chooses)
        *before, last = chain.steps(self.plan.shapes.group)
        return repair(self.out, self.asked.model, [*before, step, last], calibration, chooses)

    # ---- proof

    def _proved(self, best: Candidate) -> Comparison:
        """The best run in a folder of its own, and the dense model, on text that chose nothing.

        What is known of both goes first and comes last, so that no half is taken for a whole.
        """
        place, proof, chosen = self.out / BEST, self.out / PROOF, self._chosen(best)
        there = _known(self.out)
        if not (place.exists() and chosen.items() <= there.items()):
            write_json(self.out / CHOSEN, {})
            shutil.rmtree(place, ignore_errors=True)
            if any(there.get(key) != chosen[key] for key in ("model", "proved")):
                shutil.rmtree(proof, ignore_errors=True)
            with new_folder(place) as new:
                ignore = shutil.ignore_patterns(LOCK_NAME, "results.jsonl", "tallies")
                shutil.copytree(
                    best.folder, new, ignore=ignore, copy_function=link, dirs_exist_ok=True
                )
            write_json(self.out / CHOSEN, chosen)
        proves, device = self.plan.proves, self.rounds.setup.device
        score(self.asked.model, proof, proves, device, self.progress)
        score(str(place), place, proves, device, self.progress)
        return verdicts.against(proof, place, on=self.plan.on)

    def _chosen(self, best: Candidate) -> dict[str, Any]:
        """Which run was proved, and how."""
        proved = self.plan.proves.model_dump(mode="json")
        return {"run": best.folder.name, "model": self.asked.model, "proved": proved}

    def _exported(self, best: Candidate) -> tuple[int, str]:
        """Bytes of the exported folder, and what serves it; the same is not written again."""
        folder, chosen, there = self.out / EXPORTED, self._chosen(best), _known(self.out)
        if not (folder.exists() and there.get("engine") == self.asked.engine):
            write_json(self.out / CHOSEN, chosen)
            shutil.rmtree(folder, ignore_errors=True)
            _, serve = _write.write(
                str(self.out / BEST),
                folder,
                self._form(best),
                against=self.out / PROOF,
                program=PROGRAMS.get(self.asked.engine, self.asked.engine),
                progress=self.progress,
            )
            there = {**chosen, "engine": self.asked.engine, "serve": serve}
            write_json(self.out / CHOSEN, there)
        if (size := _bytes(folder)) > self.plan.size:
            self.notes.append(f"with its card it came to {size:,} bytes, which is too large.")
        return size, there["serve"]

    # ---- where the promise is broken

    def _keeping(self, some: Sequence[Candidate], best: Candidate) -> list[Candidate]:
        """Those that keep the promise where they were chosen, and are larger than what broke it."""
        larger = [each for each in some if each.stored > best.stored]
        return [each for each in larger if each.worst.value <= self.asked.max_loss]

    def _wider(self, there: Sequence[Candidate], best: Candidate) -> list[Candidate]:
        """Candidates that are larger than asked for, until one keeps the promise."""
        tried = {each.way.chain for each in there}
        more: list[Candidate] = []
        for times in WIDER:
            own = [each for each in (*there, *more) if not each.way.usual]
            if self._keeping(own, best):
                break
            if self.rounds.late(1) or times * self.plan.size >= self.plan.dense:
                break
            size = round(times * self.plan.size)
            front = chains.within(self.plan.shapes, self.plan.engine, size)
            chain, foretold = next(((c, s) for c, s in front if c not in tried), (None, 0))
            if chain is None:
                continue
            tried.add(chain)
            remark(self.progress, f"fit: trying a larger one: {chain.label}")
            more += self._pressed([Way(chain, foretold)], 1)
        return more


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _known(out: Path) -> dict[str, Any]:
    """Which run lies in OUT/best, how it was proved and what OUT/exported is; or nothing."""
    path = out / CHOSEN
    return dict(read_json(path)) if path.exists() else {}


def _check_ours(out: Path) -> None:
    """Raise BadRun for folders that are in the way: what no search made is not removed."""
    for path in (out / BEST, out / PROOF, out / EXPORTED):
        if path.exists() and not (out / CHOSEN).exists():
            raise BadRun(
                f"{path} is there already, and of no search. Choose another --out, or move it."
            )
