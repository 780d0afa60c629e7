"""What every kind of step has: settings, a report, words for it, an estimate.

Tested in tests/steps/test_step.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from babelpress.system.settings import Strict

if TYPE_CHECKING:
    from torch import Tensor

    from babelpress.models.open import Opened
    from babelpress.text.mixtures import Mixture

BLOCKS, TABLE = "blocks", "token embeddings"  # the parts of a model that may be pruned
TRAINING = "training"  # in the folder of a step that is at it: what it goes on with when killed


class StepSettings(Strict):
    """Base of the settings of every kind."""

    @property
    def needs_gram(self) -> bool:
        """Whether the step reads Gram matrices."""
        return False

    @property
    def shares_moments(self) -> bool:
        """Whether it reads moments of the dense model that others may read too."""
        return False

    @property
    def leaves_work(self) -> bool:
        """Whether it leaves in its folder, under TRAINING, what a killed attempt goes on with.

        Kinds that always do say RESUMES.
        """
        return False

    @property
    def unread(self) -> dict[str, str]:
        """Settings of a calibration that it has no use for, each with the option that says why."""
        return {}

    def prunes(self, before: frozenset[str]) -> frozenset[str]:
        """What is to have zeros that stay, of a model in which that had some `before`."""
        return before


class _Row(BaseModel):
    """A part of a manifest; what a newer version wrote beside what is known here stays there."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ModelRow(_Row):
    """The model that a step was done to; of a GGUF file the types that its matrices lie on."""

    name: str
    fingerprint: str = ""
    lies_on: dict[str, dict[str, int]] = Field(default_factory=dict)

    @classmethod
    def of(cls, opened: "Opened") -> "ModelRow":
        """An open model, with the hash of all its weights."""
        from babelpress.models.weights import weights_hash

        known: dict[str, Any] = {"name": opened.name, "fingerprint": weights_hash(opened.model)}
        if opened.lies_on:
            known["lies_on"] = {part: dict(found) for part, found in opened.lies_on.items()}
        return cls(**known)


class MixtureRow(_Row):
    """The mixture of a step: what was asked for, and the shares that it came to."""

    policy: str = ""
    shares: dict[str, float] = Field(default_factory=dict)
    distribution: str | None = None
    unit: str = ""
    stage: str = ""
    source: str = ""
    note: str = ""
    counts: dict[str, int] | None = None

    @classmethod
    def of(cls, mixed: "Mixture", shares: "Mapping[str, float]") -> "MixtureRow":
        """A mixture, with the shares that it came to in the end."""
        return cls(
            policy=mixed.policy,
            shares=dict(shares),
            distribution=mixed.distribution,
            unit=mixed.unit,
            stage=mixed.stage,
            source=mixed.source,
            note=mixed.note,
            counts=mixed.counts,
        )


class StepReport(_Row):
    """What a finished step leaves behind: what was asked for, to which model, and its cost.

    `calibration` and `mixture` are empty for a kind that looks at no text; `damage` is the share of
    its layers' outputs that each language was predicted to lose, and `foretold` the share by which
    its loss was predicted to grow, where that weighed the tokens: by curvature, to first order, and
    by both, or what there is of them; `carried` are the tensors that the
    model's class does not know, which the files have as they were; `tokenizer` is the class of it
    that they no longer name.
    """

    kind: str = "prune"
    step: dict[str, Any] = Field(default_factory=dict)
    model: ModelRow
    calibration: dict[str, Any] = Field(default_factory=dict)
    mixture: MixtureRow = MixtureRow()
    damage: dict[str, float] = Field(default_factory=dict)
    foretold: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    ledger: dict[str, Any] = Field(default_factory=dict)
    carried: list[str] = Field(default_factory=list)
    tokenizer: str = ""
    cost: dict[str, float] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)

    def pruned(self, before: frozenset[str]) -> frozenset[str]:
        """What has zeros that are to stay, of a model in which that had some `before`."""
        return before

    @property
    def dev(self) -> dict[str, float]:
        """Scores by language on texts that were held apart; of a kind that takes none, nothing."""
        return {}

    @property
    def distance(self) -> dict[str, float]:
        """How far each language still is from the teacher, of a kind that has one."""
        return {}

    @property
    def covered(self) -> dict[str, float]:
        """The share of each language's tokens that it still has, of a kind that drops some."""
        return {}

    @property
    def served(self) -> tuple[str, ...]:
        """The languages that it was done for, of a kind that has no mixture of them."""
        return ()


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: its report, and the largest inputs of sites by BLOCK.SITE.

    `opened` is what it made, where that is another model than the one it was given.
    """

    report: StepReport
    ranges: "Mapping[str, Tensor]"
    opened: "Opened | None" = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A table of words that a step tells: its title, heads of columns, rows of cells."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Told:
    """How terminal, card and report page speak of a finished step.

    `done` is the step in two or three words, `method` and `how` the same in two cells of a table;
    `adjective` is what the model is now, `means` that word in a sentence. `lines` are for the
    terminal when it is done, `warnings` what did not go as it was asked for; `remarks` are for the
    card, `limits` for what the model is not good for, `note` (a title and a sentence) for the
    report page. `relation` is the hub's word for what the model is to its base model. `listings`
    are tables of its own, for all three.
    """

    done: str
    adjective: str
    means: str = ""
    method: str = ""
    how: str = ""
    mixture: str = ""
    fed_by: str = ""
    left_out: str = ""
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    note: tuple[str, str] | None = None
    relation: str = ""
    listings: tuple[Listing, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step will take: seconds by phase, and bytes at the worst moment."""

    phases: dict[str, float]
    memory_bytes: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """All phases."""
        return math.fsum(self.phases.values())
