"""A finished run in words, as its kinds of steps tell of themselves.

Tested in tests/report/test_card.py and tests/report/test_report.py.
"""

from collections.abc import Mapping
from typing import Any

from babelpress.runs.manifest import Manifest
from babelpress.steps import KINDS
from babelpress.steps._kind import StepReport, Told


def tell(step: StepReport) -> Told:
    """How a step is spoken of."""
    return KINDS.module(step.kind).tell(step)


def done(found: Manifest) -> str:
    """What was done to a run, step by step: `wanda 0.5 then gptq 4 bits, group 64`."""
    return " then ".join(tell(step).done for step in found.chain)


def adjectives(found: Manifest) -> tuple[str, ...]:
    """What the model is now, each once: pruned, quantized."""
    return tuple(dict.fromkeys(tell(step).adjective for step in found.chain))


def notes(found: Manifest) -> tuple[tuple[str, str], ...]:
    """What a reader of a report must know of such models, each once."""
    told = [tell(step).note for step in found.chain]
    return tuple(dict.fromkeys(note for note in told if note))


def mostly(ledger: Mapping[str, Any]) -> str:
    """A sentence where more than half of what is stored is no layer; else nothing."""
    largest = max(ledger["parts"], key=lambda part: part["bytes_stored"])
    share = largest["bytes_stored"] / ledger["bytes_stored"]
    if largest["part"] == "blocks" or share <= 0.5:
        return ""
    return f"Most of the file, {part_of(share)}, is the {largest['part']}, not the layers."


def part_of(value: float) -> str:
    """A share in per cent: three digits, never an exponent."""
    if value == 0 or value >= 0.1:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.4f} %" if value < 0.001 else f"{100 * value:.2f} %"
