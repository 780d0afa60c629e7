"""babelpress on one job; speed.py starts this.

`setting` is `dense` or `compressed` (what a block is fed), or `further`: dense, the moments kept,
and then a further configuration on them, timed without loading and saving.
Phases: `gram` sums inputs, `solve` chooses and adapts weights, `damage` weighs what is lost,
`forward` is the rest of a pass.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from clock import Clock
from jobs import Job, save_linears, window

CLOCK = Clock()
FURTHER = {
    "wanda 0.5": "wanda 0.6",
    "sparsegpt 0.5": "sparsegpt 0.6",
    "sparsegpt 2of4": "sparsegpt 1of4",
    "gptq 4/128": "gptq 3/128",
}
LANGUAGE = "und"

with CLOCK.phase("import"):
    import torch

    from babelpress.models.open import open_model
    from babelpress.models.save import save_model
    from babelpress.models.walk import Walk
    from babelpress.moments import gather as feeding
    from babelpress.moments.accumulator import Accumulator
    from babelpress.numerics.grids import Grid
    from babelpress.press import blocks as press
    from babelpress.press import sites as solving
    from babelpress.press.method import Method, Pruner, Quantizer
    from babelpress.text.token_blocks import TokenBlocks

SHARES = {LANGUAGE: 1.0}


def method_of(words: str) -> Method:
    """From the words of a job; SparseGPT's fraction is met over 128 columns, as the peers do."""
    name, _, rest = words.partition(" ")
    if name == "gptq":
        bits, _, group = rest.partition("/")
        return Quantizer.of(name, Grid(int(bits), int(group)))
    fraction = name == "sparsegpt" and "of" not in rest
    return Pruner.of(name, f"{rest}/128" if fraction else rest)


def time_phases() -> None:
    """Put timed functions in the place of ours."""
    CLOCK.side_by_side = min(feeding.AT_ONCE, torch.get_num_threads())
    CLOCK.wrap(feeding, "vectors_of", "gram")
    CLOCK.wrap(Accumulator, "take", "gram")
    CLOCK.wrap(feeding, "gather", "forward")
    CLOCK.wrap(feeding, "batches", "forward")
    CLOCK.wrap(press, "gather", "forward")
    CLOCK.wrap(press, "batches", "forward")
    CLOCK.wrap(press, "pass_on", "forward")
    CLOCK.wrap(press, "press_block", "solve")
    CLOCK.wrap(solving, "site_damage", "damage")
    CLOCK.wrap(solving, "site_energy", "damage")


def without_codes(reports: list[press.SiteReport]) -> list[press.SiteReport]:
    """Codes are not kept: a recipe writes those of a block to its run when it is done."""
    return [replace(report, codes={}) for report in reports]


def dense(walk: Walk, blocks: dict[str, TokenBlocks], method: Method) -> None:
    """Press every block as soon as it has passed its dense output on; moments are not kept."""
    kept = {"gram": method.needs_gram, "vectors": method.vectors}
    coming = feeding.gather_dense(walk, blocks, **kept)
    press.press_dense(walk, lambda _: next(coming)[1], method, SHARES, settled=without_codes)


def further(walk: Walk, blocks: dict[str, TokenBlocks], words: str) -> dict[str, float]:
    """Seconds of a configuration with its moments, and of another one on the same moments."""
    method, other = method_of(words), method_of(FURTHER[words])
    weights = {name: value.clone() for name, value in walk.model.state_dict().items()}
    start = time.perf_counter()
    kept = dict(feeding.gather_dense(walk, blocks, gram=method.needs_gram))
    gathered = time.perf_counter()
    means = solving.Means()
    press.press_dense(walk, kept.__getitem__, method, SHARES, means=means)
    first = time.perf_counter()
    walk.model.load_state_dict(weights)
    again = time.perf_counter()
    press.press_dense(walk, kept.__getitem__, other, SHARES, means=means)
    end = time.perf_counter()
    return {"gather_s": gathered - start, "first_s": first - start, "further_s": end - again}


def main(path: Path) -> None:
    """Load, press, save."""
    job = Job.read(path)
    time_phases()
    with CLOCK.phase("load"):
        opened = open_model(job.model)
        ids_NT = window(job)
        walk = Walk(opened.model)
    blocks = {LANGUAGE: TokenBlocks(LANGUAGE, ids_NT, torch.ones_like(ids_NT, dtype=torch.bool))}
    facts: dict[str, float] = {}
    with torch.no_grad():
        match job.setting:
            case "dense":
                dense(walk, blocks, method_of(job.method))
            case "compressed":
                method = method_of(job.method)
                press.press_compressed(walk, blocks, method, SHARES, settled=without_codes)
            case "further":
                facts = further(walk, blocks, job.method)
    if job.linears:
        save_linears(opened.model, Path(job.linears))
    with CLOCK.phase("save"):
        save_model(opened, Path(job.out))
    CLOCK.write(Path(job.result), **facts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
