"""A finished run in words, as its kinds of steps tell of themselves.

Tested in tests/report/test_card.py and tests/report/test_report.py.
"""

from collections.abc import Mapping
from typing import Any

from babelpress.runs.manifest import Manifest
from babelpress.steps import KINDS
from babelpress.steps._kind import Listing, StepReport, Told

TABLES = ("embedding", "head")
EIGHT = 9  # bits of a weight with its scale, at most, in what is at eight bits already
WORTH = 0.1  # of the file: what is less is not worth a word


def tell(step: StepReport) -> Told:
    """How a step is spoken of."""
    return KINDS.module(step.kind).tell(step)


def done(found: Manifest) -> str:
    """What was done to a run, step by step: `wanda 0.5 then gptq 4 bits, group 64`."""
    return " then ".join(tell(step).done for step in found.chain)


def adjectives(found: Manifest) -> tuple[str, ...]:
    """What the model is now, each once: pruned, quantized."""
    return tuple(dict.fromkeys(tell(step).adjective for step in found.chain))


def policies(found: Manifest) -> str:
    """The mixtures of its steps, once where they are one: `only:sw then uniform`."""
    named = [step.mixture.policy for step in found.chain if step.mixture.policy]
    return " then ".join(named if len(set(named)) > 1 else named[:1])


def steps(found: Manifest) -> list[str]:
    """Every step in a line: what was done, with which mixture, on which text."""
    return [f"step {number}: {_step(step)}" for number, step in enumerate(found.chain, 1)]


def _step(step: StepReport) -> str:
    on = step.calibration.get("languages", {})
    tokens = sum(each.get("tokens", 0) for each in on.values())
    text = f"{tokens:,} tokens of {step.calibration.get('corpus', 'unknown text')}" if on else ""
    many = f"in {len(on)} languages, seed {step.calibration.get('seed', 'unknown')}" if on else ""
    mixture = f"mixture {step.mixture.policy}" if step.mixture.policy else ""
    weighed = f"weighed by {by}" if (by := step.calibration.get("weigh")) else ""
    return ", ".join(filter(None, (tell(step).done, mixture, f"{text} {many}".strip(), weighed)))


def kinds(found: Manifest) -> dict[str, str]:
    """What the model is now, and what each of these words means."""
    told = [tell(step) for step in found.chain]
    return {each.adjective: each.means for each in told}


def machine(found: Manifest) -> str:
    """What a run was done on: device, instruction set, threads; "" where it does not say."""
    known = found.surroundings
    threads = known.get("threads")
    parts = [known.get("device", ""), known.get("instructions", "")]
    if threads:
        parts.append(f"{threads} thread{'s' if threads > 1 else ''}")
    return ", ".join(str(part) for part in parts if part)


def notes(found: Manifest) -> tuple[tuple[str, str], ...]:
    """What a reader of a report must know of such models, each once."""
    told = [tell(step).note for step in found.chain]
    return tuple(dict.fromkeys(note for note in told if note))


def listings(found: Manifest) -> tuple[Listing, ...]:
    """The tables that steps tell, in their order."""
    return tuple(each for step in found.chain for each in tell(step).listings)


def mostly(ledger: Mapping[str, Any]) -> str:
    """A sentence where more than half of what is stored is no layer; else nothing."""
    largest = max(ledger["parts"], key=lambda part: part["bytes_stored"])
    share = largest["bytes_stored"] / ledger["bytes_stored"]
    if largest["part"] == "blocks" or share <= 0.5:
        return ""
    return f"Most of the file, {part_of(share)}, is the {largest['part']}, not the layers."


def cheaper(ledger: Mapping[str, Any]) -> str:
    """What eight bits for embedding and head would make of a quantized model, where they weigh."""
    whole, dense = ledger["bytes_stored"], ledger["bytes_dense"]
    tables = [each for each in ledger["parts"] if each["part"] in TABLES and each["bits"] > EIGHT]
    saved = sum(each["bytes_stored"] - each["parameters"] for each in tables)
    if whole >= dense or saved < WORTH * whole:
        return ""
    bits = 8 * (whole - saved) / ledger["parameters"]
    return (
        f"With --embeddings 8bit it is about {bits:.1f} bits a weight in a GGUF file, where "
        "llama.cpp has the family."
    )


def on_size(ledger: Mapping[str, Any]) -> str:
    """What there is to say of where the bytes are."""
    return " ".join(filter(None, (mostly(ledger), cheaper(ledger))))


def zeros(ledger: Mapping[str, Any]) -> str:
    """How many parameters are not zero, and what the weights are compressed; "" of an older run."""
    if "nonzero" not in ledger:
        return ""
    share = part_of(ledger["nonzero"] / ledger["parameters"])
    return (
        f"{ledger['nonzero']:,} parameters ({share}) are not zero; compressed with "
        f"{ledger['compressor']}, as a download may be, the weights are "
        f"{ledger['bytes_compressed']:,} bytes."
    )


def part_of(value: float) -> str:
    """A share in per cent: three digits, never an exponent."""
    if value == 0 or value >= 0.1:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.4f} %" if value < 0.001 else f"{100 * value:.2f} %"
