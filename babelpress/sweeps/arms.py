"""Ways to press a model by as much, as data: which are compared, and which follow from what won.

At first every method with `uniform` mixture, and the first method with one thing changed: the
mixture, what tokens weigh in the moments, what each block gives. What was better than the first
method as it is comes together in the next round: with the method that did best, each by itself and
all at once; and two that cost rounds of their own, the mixture `measured` and `minimax` allocation.

Tested in tests/sweeps/test_advice.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from babelpress.text.languages import ENGLISH

PRUNE, QUANTIZE = "prune", "quantize"
METHODS = {PRUNE: ("sparsegpt", "wanda", "ria"), QUANTIZE: ("gptq", "awq", "rtn")}
RULES = {PRUNE: ("owl", "dlp"), QUANTIZE: ()}  # of allocation, that cost nothing
UNIFORM, MEASURED, MINIMAX = "uniform", "measured", "minimax"
EVENLY, LOSS = "evenly", "loss"
NOT_GRAM = ("wanda", "ria", "rtn")  # methods whose moments are no Gram matrices


@dataclass(frozen=True, slots=True)
class Arm:
    """One way: a method, its mixture, what tokens weigh, what blocks give."""

    method: str
    mixture: str = UNIFORM
    weigh: str = EVENLY
    allocate: str = UNIFORM

    @property
    def label(self) -> str:
        """The way in words."""
        parts = [
            self.method,
            f"{self.mixture} mixture",
            "" if self.weigh == EVENLY else "tokens weighed by the loss",
            "" if self.allocate == UNIFORM else f"{self.allocate} allocation",
        ]
        return ", ".join(filter(None, parts))

    @property
    def changes(self) -> dict[str, str]:
        """What is not as it is without asking."""
        usual = Arm(self.method)
        names = ("mixture", "weigh", "allocate")
        return {name: getattr(self, name) for name in names if self._other(usual, name)}

    def _other(self, usual: "Arm", name: str) -> bool:
        return getattr(self, name) != getattr(usual, name)

    def own(self, kind: str, amount: Mapping[str, Any]) -> dict[str, Any]:
        """What it has at the places of a recipe where arms differ; `amount` is how much goes."""
        step = {"method": self.method, "mixture": self.mixture, "propagate": "dense", **amount}
        if self.allocate != UNIFORM:
            step["allocate"] = self.allocate
        found: dict[str, Any] = {"steps": [{kind: step}]}
        if self.mixture == "english":
            found["calibration.languages"] = [ENGLISH]
        if self.weigh != EVENLY:
            found["calibration.weigh"] = self.weigh
        return found

    def flags(self, amount: Mapping[str, Any]) -> list[str]:
        """The same as options of the step's command."""
        words = ["--method", self.method, "--mixture", self.mixture, "--propagate", "dense"]
        for name, value in amount.items():
            words += [f"--{name}", str(value)]
        if self.allocate != UNIFORM:
            words += ["--allocate", self.allocate]
        return [*words, *(["--weigh", self.weigh] if self.weigh != EVENLY else [])]


def first(kind: str, *, english: bool, prior: bool) -> list[Arm]:
    """The arms of the first round, the plain one first; `prior` says whether shares are known."""
    methods = METHODS[kind]
    plain = Arm(methods[0])
    found = [Arm(method) for method in methods]
    found += [replace(plain, mixture="english")] if english else []
    found += [replace(plain, mixture="proportional")] if prior else []
    found.append(replace(plain, weigh=LOSS))
    return [*found, *(replace(plain, allocate=rule) for rule in RULES[kind])]


def crossed(kind: str, losses: Mapping[Arm, float]) -> list[Arm]:
    """Arms that were not tried yet and follow from what the first round lost in worst languages.

    What was no better than the plain arm is not carried on.
    """
    plain = Arm(METHODS[kind][0])
    bound = losses.get(plain, float("inf"))
    methods = [arm for arm in losses if not arm.changes]
    best = min(methods, key=lambda arm: losses[arm], default=plain)
    better = sorted(
        (arm for arm in losses if arm.changes and losses[arm] < bound), key=lambda a: losses[a]
    )
    found = [replace(best, **arm.changes) for arm in better]
    every: dict[str, str] = {}
    for arm in better:  # of several mixtures, or rules, the one that did best
        every = {**arm.changes, **every}
    found.append(replace(best, **every))
    plus = {name: value for name, value in every.items() if name == "weigh"}
    found.append(replace(best, mixture=MEASURED, **plus))
    found.append(replace(best, allocate=MINIMAX, **plus))
    return [arm for arm in dict.fromkeys(found) if arm not in losses]


def halved(losses: Mapping[Arm, float], keep: Sequence[Arm]) -> list[Arm]:
    """The better half, the best first, and whatever is to stay."""
    order = sorted(losses, key=lambda arm: losses[arm])
    return list(dict.fromkeys([*order[: -(-len(order) // 2)], *keep]))
