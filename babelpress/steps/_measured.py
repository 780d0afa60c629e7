"""The measured mixture: press, score text held out of every language, move the shares, press again.

What a language loses is its loss on that text, in nats a scored token, as a share beyond the loss
of the model before the step on the same tokens. The rounds are those of press/mixture_search.py.

    training/checkpoint-rounds.json     the rounds so far, in the folder of a step that is at it

Rounds are kept as they are done, so that a run that was killed goes on with the next one.

Tested in tests/steps/test_measured.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from babelpress.errors import BadCorpus, BadModel
from babelpress.models.open import Opened
from babelpress.models.reshaped import META
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments.calibrate import text_hash
from babelpress.press.mixture_search import Round, best, search
from babelpress.press.undone import undone
from babelpress.steps import _holding
from babelpress.steps._learnt import marks_of
from babelpress.steps._looking import Source
from babelpress.steps._pressing import PressingSettings
from babelpress.steps._training import checkpoints
from babelpress.system.files import read_json, write_sealed
from babelpress.system.offload import Hold
from babelpress.system.progress import Progress, remark, silent, within
from babelpress.text.held_out import HeldOut
from babelpress.text.mixtures import MEASURED
from babelpress.text.settings import CalibrationSettings
from babelpress.train.batches import Blocks
from babelpress.train.likelihood import nats
from babelpress.train.reading import Reader, answers_of

KEPT = "checkpoint-rounds.json"
Press = Callable[[Mapping[str, float], Progress], object]  # in place, with these shares


@dataclass(frozen=True, slots=True)
class Scored:
    """A model and the text that it is scored on."""

    reader: Reader
    held: Mapping[str, HeldOut]
    text: Blocks

    @classmethod
    def of(
        cls,
        opened: Opened,
        asked: CalibrationSettings,
        settings: PressingSettings,
        tags: Sequence[str],
        read: Mapping[str, Any],
    ) -> "Scored":
        """With text of the corpus of which `read`, the manifest of a calibration, is.

        Raises BadModel for a model without a head that predicts tokens of one text, BadSetting or
        BadCorpus where no text is held out.
        """
        reader = Reader.of(opened.model)  # pairs are refused by their mixture (text/mixtures.py)
        _check_answers(opened.name, opened.model, reader.answers)
        marks, scores = marks_of(opened, reader.answers)
        held = _holding.held(opened, asked, settings, tags, read)
        text = Blocks({tag: each.blocks for tag, each in held.items()}, marks, scores)
        return cls(reader, held, text)

    def nats(self, progress: Progress = silent) -> dict[str, float]:
        """The loss of each language now, in nats a scored token."""
        return nats(self.reader, self.text, progress=progress)


def check(name: str, model: PreTrainedModel) -> None:
    """Raise BadModel for a model without a head that predicts tokens of one text.

    Of one without weights that is not always seen.
    """
    pairs = model.config.is_encoder_decoder
    answers = "" if pairs else answers_of(model)
    if answers or pairs or model.device.type != META:
        _check_answers(name, model, answers)


def _check_answers(name: str, model: PreTrainedModel, answers: str) -> None:
    if answers != "tokens":
        raise BadModel(
            f"the mixture {MEASURED} scores next or hidden tokens of one text, and {name} "
            f"({type(model).__name__}) does not predict them. Use uniform."
        )


def tried(
    opened: Opened, asked: CalibrationSettings, settings: PressingSettings, tag: str
) -> Callable[[], object]:
    """What scores one language, which stands for all of them in an estimate."""
    one = asked.model_copy(update={"languages": (tag,)})
    read = _holding.read_of(opened, one, settings)
    return Scored.of(opened, one, settings, [tag], read).nats


# ---- the rounds ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """All rounds, and the loss of the model before them."""

    trace: list[Round]
    dense: dict[str, float]

    @property
    def shares(self) -> dict[str, float]:
        """Those whose worst language lost least."""
        return best(self.trace).shares

    def told(self, scored: Scored) -> dict[str, dict[str, Any]]:
        """What a report has of the text, by language."""
        return {
            tag: {"tokens": each.tokens, "split": each.split, "nats": self.dense[tag]}
            for tag, each in scored.held.items()
        }


def find(
    scored: Scored,
    walk: Walk,
    source: Source,
    settings: PressingSettings,
    press: Press,
    folder: Path,
    hold: Hold,
    progress: Progress,
) -> Found:
    """Do the rounds; the model is then as it was before.

    `folder` is that of the step. Raises NotFinite for a pressed model that gives no numbers.
    """
    tags, asked = list(scored.held), settings.measured
    place = checkpoints(
        folder, _work(scored, source, settings), progress, "the rounds so far stand"
    )
    dense = scored.nats(within(progress, "before"))
    if sure := [tag for tag, loss in dense.items() if loss <= 0]:
        raise BadCorpus(
            f"the model before loses nothing on text of {', '.join(sure)} that was held out, so "
            "there is nothing to hold a loss against. Give other text, or leave it out."
        )
    trace: list[Round] = []

    def lost_of(shares: Mapping[str, float]) -> dict[str, float]:
        if trace and trace[-1].shares == shares:  # nothing was moved
            return trace[-1].lost
        told = within(progress, f"round {len(trace) + 1} of {asked.rounds}")
        with undone(walk.blocks, hold):
            press(shares, told)
            return {tag: loss / dense[tag] - 1 for tag, loss in scored.nats(told).items()}

    done = _kept(place / KEPT, tags)
    progress("measured: round", 0, asked.rounds)
    for each in search(lost_of, tags, rounds=asked.rounds, rate=asked.rate, done=done):
        trace.append(each)
        if len(trace) > len(done):
            _keep(place / KEPT, tags, trace)
            remark(progress, _line(trace, asked.rounds))
        progress("measured: round", len(trace), asked.rounds)
    return Found(trace, dense)


def _line(trace: Sequence[Round], rounds: int) -> str:
    last = trace[-1]
    worst = max(last.lost, key=lambda tag: last.lost[tag])
    kept = ", the best so far" if best(trace) is last else ""
    return (
        f"round {len(trace)} of {rounds}: loss {100 * last.worst:+.2f} % in {worst}, the worst, "
        f"{100 * last.mean:+.2f} % in the mean{kept}"
    )


# ---- what is kept of them ------------------------------------------------------------------


def _work(scored: Scored, source: Source, settings: PressingSettings) -> dict[str, Any]:
    """All that a round hangs on."""
    return {
        "model": weights_hash(scored.reader.model),
        "step": settings.model_dump(mode="json"),
        "calibration": source.manifest,
        "languages": list(scored.held),
        "text": text_hash({tag: each.blocks for tag, each in scored.held.items()}),
    }


def _keep(path: Path, tags: Sequence[str], trace: Sequence[Round]) -> None:
    """In the order of the languages, on which sums hang: JSON is written with sorted keys."""
    rows = [{"shares": _in(tags, each.shares), "lost": _in(tags, each.lost)} for each in trace]
    write_sealed(path, {"rounds": rows})


def _in(tags: Sequence[str], of: Mapping[str, float]) -> list[float]:
    return [of[tag] for tag in tags]


def _kept(path: Path, tags: Sequence[str]) -> list[Round]:
    """The rounds that a killed attempt had done."""
    rows = read_json(path)["rounds"] if path.exists() else []
    return [
        Round(
            dict(zip(tags, row["shares"], strict=True)), dict(zip(tags, row["lost"], strict=True))
        )
        for row in rows
    ]
