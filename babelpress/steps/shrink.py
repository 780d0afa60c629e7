"""Shrink a model: whole neurons, groups of attention heads, blocks and channels of the width out.

What goes is chosen by language apart, and what is left has the same shapes in every block, which
its config states, so engines load it. Linears that read what is left are fitted by least squares;
nothing is trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from babelpress.errors import BadModel, BadSetting
from babelpress.shrink import OVER, SCORES, STRUCTURES
from babelpress.shrink._sizes import size
from babelpress.steps._kind import BLOCKS, Done, Estimate, Listing, StepReport, StepSettings, Told
from babelpress.steps._pressing import LookingSettings, fed_by, some
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import setting
from babelpress.text.mixtures import MINIMAX
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = "babelpress shrink babel-mini --ffn 0.75 --blocks 3 --tokens 4096 --length 256 --out run"
NEW_SHAPES = "it gives blocks other shapes"
MIB = 2**20
MULTIPLE = 64
UNITS: dict[str, str] = {each: STRUCTURES.facts(each)["UNITS"] for each in STRUCTURES.names()}
INFLUENCE, LOSS = "influence", "loss"
PAPERS = (
    "The influence of blocks is after Men et al. 2024 (ShortGPT), arXiv:2403.03853, of every "
    "language apart; what is lost when others are fitted is after Optimal Brain Surgeon (Hassibi & "
    "Stork 1993); whole channels go as in Muralidharan et al. 2024 (Minitron), arXiv:2407.14679."
)

Size = Annotated[str | None, BeforeValidator(size)]


class Settings(LookingSettings):
    """One shrinking."""

    ffn: Size = setting(
        None, "Neurons of every MLP that stay: 0.75 is a share, 1536 a number; all by default."
    )
    heads: Size = setting(
        None,
        "Attention heads that stay, a share or a number; groups go whole, with key and value.",
    )
    blocks: Size = setting(None, "Blocks that stay, a share or a number.")
    width: Size = setting(
        None,
        "Channels of the hidden size that stay, a share or a number. It costs most: train "
        "afterwards, as `babelpress distill` does.",
    )
    multiple: int = setting(
        MULTIPLE,
        "Neurons and channels that stay are rounded down to a multiple: 64 suits matrix kernels, "
        "256 the K-quants of llama.cpp.",
        gt=0,
    )
    score: str = setting(
        "energy",
        "What a neuron or group is worth: energy, what it adds to the output, or lost, what goes "
        "with it though the others are fitted (slower; finds what repeats others).",
        offers=SCORES,
    )
    by: str = setting(
        INFLUENCE,
        "What a block is worth: influence, how far it turns its input, or loss, what text lacks "
        "without it.",
        offers=(INFLUENCE, LOSS),
    )
    over: str = setting(
        "max",
        "How languages are joined: max, by the one that something is worth most to, or mean, by "
        "their shares.",
        offers=OVER,
    )
    fit: bool = setting(
        True, "Fit what reads the neurons, heads and channels that are left.", negative="no-fit"
    )
    damp: float = setting(
        0.01,
        "Damping of the fit, in mean diagonals of the Gram matrix.",
        ge=0,
        allow_inf_nan=False,
    )

    @model_validator(mode="after")
    def _known(self) -> "Settings":
        if not any(getattr(self, each) for each in UNITS):
            raise BadSetting(
                "shrink takes nothing out. Say what stays, with --ffn 0.75, --heads 0.5, "
                "--blocks 14 or --width 0.75."
            )
        for flag, words in (
            ("score", SCORES),
            ("by", (INFLUENCE, LOSS)),
            ("over", OVER),
        ):
            if (word := getattr(self, flag)) not in words:
                raise BadSetting(f"--{flag} {word} is not known. Use {' or '.join(words)}.")
        for flag, what in (("blocks", "a block"), ("width", "a channel")):
            if not getattr(self, flag):
                continue
            if self.mixture == MINIMAX:
                raise BadSetting(
                    f"the mixture {MINIMAX} is found by pressing, and --{flag} are chosen without. "
                    "Use uniform, or shrink neurons and heads in a step of their own."
                )
            if self.moments:
                raise BadSetting(
                    f"--{flag} needs text to see what {what} does, and --moments have none. "
                    "Leave --moments out, or do it in two steps."
                )
        return self

    @property
    def narrows(self) -> bool:
        """Whether neurons or heads go."""
        return bool(self.ffn or self.heads)

    @property
    def fits(self) -> bool:
        """Whether weights that stay may change: what was pruned before has zeros there."""
        return self.narrows or bool(self.width)

    @property
    def needs_gram(self) -> bool:
        """Whether Gram matrices are read of a pressing."""
        return self.narrows and (self.fit or self.score == "lost" or bool(self.heads))

    @property
    def shares_moments(self) -> bool:
        """Not where blocks go first: then moments are of a model that nobody else has."""
        return super().shares_moments and not (self.blocks or self.width)


class Report(StepReport):
    """What went.

    `sizes` are how many units there were and are, by structure; `kept` are the blocks that stayed,
    `worth` what each block was found to be worth in each language with a share, `joined` the number
    of them all that decided; `stream` is the share of the stream that the channels that stayed had,
    by language. `parameters` and `bytes` are of
    the model before and after. `apart` is how far cutting out zeros changed the logits, as a share
    of their size; `nats` are those of a scored token by language before and after, on the tokens
    and the text that `looked` says. `few` is a line on text that was too little for the fit.
    `dropped` are tensors that the model's class does not know.
    """

    sizes: dict[str, list[int]] = Field(default_factory=dict)
    kept: list[int] = Field(default_factory=list)
    worth: dict[str, list[float]] = Field(default_factory=dict)
    joined: list[float] = Field(default_factory=list)
    stream: dict[str, float] = Field(default_factory=dict)
    parameters: list[int] = Field(default_factory=list)
    bytes: list[int] = Field(default_factory=list)
    apart: float = 0.0
    few: str = ""
    nats: dict[str, list[float]] = Field(default_factory=dict)
    looked: dict[str, Any] = Field(default_factory=dict)
    sites: list[dict[str, Any]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    writes: bool = False
    dropped: list[str] = Field(default_factory=list)


def say(settings: Settings) -> str:
    """What is asked for, before it is done."""
    asked = {units: getattr(settings, name) for name, units in UNITS.items()}
    parts = [f"{units} {size}" for units, size in asked.items() if size]
    return f"shrink to {', '.join(parts)}, {settings.mixture}, {settings.over} over languages"


def follows(settings: Settings, before: Sequence[tuple[str, StepSettings]]) -> None:
    """Raise BadSetting where it cannot come after the steps `before` it in a recipe."""
    pruned: frozenset[str] = frozenset()
    by = ""
    for kind, step in before:
        had, pruned = BLOCKS in pruned, step.prunes(pruned)
        by = by if had else kind
    if settings.fits and BLOCKS in pruned:
        raise BadSetting(f"shrink cannot come after {by}: {ZEROS} Put shrink before {by}.")


def check_pruned(name: str, settings: Settings, pruned: frozenset[str]) -> None:
    """Raise BadModel for neurons, heads or channels of a model whose blocks were pruned."""
    if settings.fits and BLOCKS in pruned:
        raise BadModel(
            f"{name} was pruned, and neurons, heads or channels go before that: {ZEROS} Shrink the "
            "model that it was made of."
        )


ZEROS = (
    "what is fitted has no zeros left, a pattern such as 2of4 comes apart where neurons go, and "
    "zeros in what goes were chosen in vain."
)


def check(name: str, walk: "Walk", settings: Settings) -> "Walk":
    """Raise BadModel or BadSetting for what a model has not; the model as it will be, in shapes."""
    from babelpress.steps import _shrinking

    return _shrinking.shapes(name, walk, settings)


def do(
    opened: "Opened",
    calibration: CalibrationSettings,
    settings: Settings,
    folder: Path,
    *,
    hold: "Hold",
    progress: Progress = silent,
) -> Done:
    """Shrink a model: blocks first, then heads and neurons of those that are left, then width."""
    from babelpress.steps import _shrinking

    return _shrinking.shrink(opened, calibration, settings, folder, hold, progress)


# ---- how it is told ------------------------------------------------------------------------


def tell(report: Report) -> Told:
    """What stayed, what that saves, what each language lost."""
    step = report.step
    sizes = _sizes(report)
    saved = (report.bytes[0] - report.bytes[1]) / MIB
    return Told(
        done=f"shrink to {sizes}",
        adjective="shrunk",
        means="whole neurons, attention heads, blocks or channels are taken out",
        method=_chosen_by(step),
        how="; ".join(filter(None, (sizes, _by(step)))),
        mixture=report.mixture.policy,
        fed_by=fed_by(step) if report.sites else "",
        left_out=", ".join(report.dropped),
        lines=(
            f"{sizes}: {report.parameters[1]:,} of {report.parameters[0]:,} parameters, "
            f"{saved:,.1f} MiB less.",
            *_kept(report),
            *_stream(report),
            *_lost(report),
            *report.notes,
            *_drift(report),
        ),
        warnings=tuple(_warnings(report)),
        remarks=(*_kept(report), *_stream(report), *_lost(report), PAPERS),
        limits=(
            "Nothing was trained: what is left was fitted to the text of the calibration at most, "
            "and what a language lost is told by an evaluation.",
        ),
        note=(
            "Smaller shapes.",
            "Every block has as many neurons and heads as any other, and the config states them: "
            "engines load the folder as it is, with fewer bytes to read for every token.",
        ),
        listings=tuple(_listings(report)),
    )


def _sizes(report: Report) -> str:
    """How many stayed, in words."""
    return ", ".join(
        f"{after:,} of {before:,} {UNITS[name]}" for name, (before, after) in report.sizes.items()
    )


def _chosen_by(step: Mapping[str, Any]) -> str:
    """What decided."""
    narrows = step["ffn"] or step["heads"]
    channels = ["energy of channels"] * bool(step.get("width"))
    chosen = [step["by"]] * bool(step["blocks"]) + [step["score"]] * bool(narrows)
    return ", ".join(chosen + channels)


def _by(step: Mapping[str, Any]) -> str:
    """How languages were joined, and whether what is left was fitted."""
    fitted = "fitted" if step["fit"] else "not fitted"
    fits = step["ffn"] or step["heads"] or step.get("width")
    return f"{step['over']} over languages{f', {fitted}' if fits else ''}"


def _kept(report: Report) -> list[str]:
    if "blocks" not in report.sizes:
        return []
    went = [each for each in range(report.sizes["blocks"][0]) if each not in report.kept]
    if not went:
        return ["No block went."]
    return [f"Blocks that went, counted from 0: {', '.join(map(str, went))}."]


def _stream(report: Report) -> list[str]:
    """How much of the stream stays, least where it is least."""
    if not report.stream:
        return []
    least = min(report.stream, key=lambda tag: (report.stream[tag], tag))
    mean = sum(report.stream.values()) / len(report.stream)
    return [
        f"The channels that stay have {100 * mean:.1f} % of the stream in the mean of "
        f"{len(report.stream)} languages, {100 * report.stream[least]:.1f} % in {least}."
    ]


def _lost(report: Report) -> list[str]:
    """The languages that lost most, in a sentence."""
    if not report.nats:
        return []
    changed = {tag: after / before - 1 for tag, (before, after) in report.nats.items() if before}
    if not changed:
        return []
    worst = max(changed, key=lambda tag: (changed[tag], tag))
    mean = sum(changed.values()) / len(changed)
    chose = bool(report.step["blocks"]) and report.step["by"] == LOSS
    there = f"{report.looked['text']}{', by which blocks were chosen' if chose else ''}"
    return [
        f"Loss on {there}: {100 * mean:+.1f} % in the mean of {len(changed)} "
        f"languages, {100 * changed[worst]:+.1f} % in {worst}."
    ]


def _drift(report: Report) -> list[str]:
    """Who writes may go on in another language afterwards; only letters can be told here."""
    if not report.writes or not _went(report, "blocks"):
        return []
    return [
        "Whether it still goes on in the language of its prompt, `babelpress eval RUN --on "
        "confusion` tells, beside the model before."
    ]


def _went(report: Report, name: str) -> bool:
    before, after = report.sizes.get(name, (0, 0))
    return after < before


def _warnings(report: Report) -> list[str]:
    lines = [report.few] if report.few else []
    if report.dropped:
        lines.append(
            f"Tensors beside the model that its class does not know, and left out: "
            f"{some(report.dropped)}."
        )
    return lines


def _listings(report: Report) -> list[Listing]:
    found = []
    if report.nats:
        rows = tuple(
            (
                tag,
                f"{report.looked['tokens'][tag]:,}",
                f"{before:.4f}",
                f"{after:.4f}",
                f"{100 * (after / before - 1):+.1f}" if before else "–",
            )
            for tag, (before, after) in report.nats.items()
        )
        head = ("language", "tokens", "before", "after", "change %")
        found.append(Listing(f"nats a token on {report.looked['text']}", head, rows))
    if report.worth:
        found.append(_worth(report))
    return found


def _worth(report: Report) -> Listing:
    """What each block is worth, to the language that it is worth most and in the mean."""
    rows = []
    for index in range(report.sizes["blocks"][0]):
        own = {tag: each[index] for tag, each in report.worth.items()}
        most = max(own, key=lambda tag: (own[tag], tag))
        stays = "stays" if index in report.kept else "goes"
        mean = sum(own.values()) / len(own)
        decided = f"{report.joined[index]:.4f}" if report.joined else "–"
        rows.append((str(index), stays, decided, f"{mean:.4f}", f"{own[most]:.4f}", most))
    title = f"what each block is worth, by {report.step['by']}"
    return Listing(
        title, ("block", "", f"joined, {report.step['over']}", "mean", "most", "in"), tuple(rows)
    )


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    """What shrinking will take, from trying the first block."""
    from babelpress.steps import _shrinking, _worth

    method = None
    if settings.narrows:
        method = _shrinking.method(trial.walk, trial.opened.name, settings)
    return _worth.estimate(trial, settings, method, chained=chained)
