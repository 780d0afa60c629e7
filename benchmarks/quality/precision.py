"""What Gram matrices in fewer bits would do to masks, codes and bits per byte of every language.

    python benchmarks/quality/precision.py --out OUT [--model MODEL] [--corpus SRC] [--scored SRC]

Moments are taken once. The same folder is written again with every Gram matrix rounded (and kept as
float32, so that only the rounding differs), and SparseGPT 0.5 and GPTQ at 3 bits press from each:

    bfloat16   each number rounded
    float16    C rounded, where G = D·C·D and D² is the diagonal, which stays as it is
    other text not rounded, but taken of other text (the next seed): what chance does anyway

Every row is held against the same press from exact moments: the share of weights whose being zero,
or of codes that, differ, and the change of bits per byte, in the mean and in the language that
loses most. Runs that are there are not done again.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import babelpress as bp
from babelpress.errors import BabelpressError
from babelpress.models.linears import linears, weight
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.moments import Moments
from babelpress.moments.store import Store
from babelpress.press.codes import CodesFolder
from babelpress.runs import manifest

PRESSES: dict[str, tuple[str, dict[str, Any]]] = {
    "sparsegpt 0.5": ("prune", {"method": "sparsegpt", "pattern": "0.5"}),
    "gptq 3 bits": ("quantize", {"method": "gptq", "bits": 3}),
}
EXACT, OTHER = "exact", "other text"


def bfloat16(gram_II: Tensor) -> Tensor:
    """Each number rounded."""
    return gram_II.bfloat16().to(gram_II.dtype)


def float16(gram_II: Tensor) -> Tensor:
    """Numbers rounded as shares of the roots of their two diagonal ones; the diagonal stays."""
    root_I = gram_II.diagonal().double().sqrt()
    scale_II = root_I[:, None] * root_I
    shares_II = (gram_II.double() / scale_II).nan_to_num_(0)  # of an input that was never used
    rounded_II = shares_II.half().double().mul_(scale_II).to(gram_II.dtype)
    rounded_II.diagonal().copy_(gram_II.diagonal())
    return rounded_II


FORMS: dict[str, Callable[[Tensor], Tensor]] = {"bfloat16": bfloat16, "float16": float16}


def rewritten(exact: Path, out: Path, form: Callable[[Tensor], Tensor]) -> None:
    """A moments folder again, with Gram matrices in another form."""
    source = Store.open(exact)
    known = source.manifest
    new = Store.resume(out, source.identity, known["surroundings"], known["blocks"])
    if new.finished:
        return
    for index in range(known["blocks"]):
        block = source.load(index)
        new.save(
            index,
            {
                site: {tag: _formed(each, form) for tag, each in seen.items()}
                for site, seen in block.items()
            },
        )
    new.finish(calibration=known["calibration"], cost=known["cost"])


def _formed(moments: Moments, form: Callable[[Tensor], Tensor]) -> Moments:
    gram_II = moments.gram_II
    assert gram_II is not None
    return replace(moments, gram=form(gram_II))


def pressed(given: argparse.Namespace, press: str, moments: Path) -> Path:
    """A run from moments, scored."""
    kind, options = PRESSES[press]
    run = given.out / "runs" / f"{press} {moments.name}".replace(" ", "-")
    if not manifest.is_finished(run):
        getattr(bp, kind)(given.model, moments=moments, out=run, **options)
    return run


def scores(given: argparse.Namespace, run: Path) -> Mapping[str, float]:
    """Bits per byte by language."""
    asked: dict[str, Any] = {"corpus": given.scored, "languages": given.languages}
    if given.documents:
        asked["documents"] = given.documents
    found = bp.evaluate(str(run), on="bits_per_byte", **asked).rows
    return {row["language"]: row["value"] for row in found}


def differing(one: Path, other: Path) -> float:
    """The share of codes that differ, or of weights of linears of which just one run's is zero."""
    parts = zip(_choices(one), _choices(other), strict=True)
    different = [(int((a != b).sum()), a.numel()) for a, b in parts]
    return sum(d for d, _ in different) / sum(n for _, n in different)


def _choices(run: Path) -> list[Tensor]:
    """What was chosen in every linear of the blocks: codes where there are some, else zeros."""
    if (run / "codes").exists():
        folder = CodesFolder.open(run / "codes")
        return [folder.load(name).codes_OI for name in folder.names()]
    walk = Walk(open_model(str(run / "model")).model)
    return [weight(each) == 0 for block in walk.blocks for each in linears(block).values()]


def rows(given: argparse.Namespace) -> list[list[str]]:
    """A row for every press and form."""
    places = {name: given.out / name.replace(" ", "-") for name in (EXACT, *FORMS, OTHER)}
    text: dict[str, Any] = {
        "corpus": given.corpus,
        "languages": given.languages,
        "tokens": given.tokens,
    }
    for name, seed in ((EXACT, given.seed), (OTHER, given.seed + 1)):
        bp.calibrate(
            given.model, out=places[name], length=given.length, seed=seed, gram=True, **text
        )
    for name, form in FORMS.items():
        rewritten(places[EXACT], places[name], form)
    found: list[list[str]] = []
    for press in PRESSES:
        exact = pressed(given, press, places[EXACT])
        before = scores(given, exact)
        for name in (*FORMS, OTHER):
            try:
                run = pressed(given, press, places[name])
            except BabelpressError as error:
                found.append([press, name, "–", "–", "–", str(error).split(". ")[0]])
                continue
            after = scores(given, run)
            change = {tag: after[tag] / before[tag] - 1 for tag in before}
            worst = max(change, key=lambda tag: change[tag])
            mean = sum(change.values()) / len(change)
            share = f"{100 * differing(exact, run):.3f} %"
            found.append(
                [press, name, share, f"{mean:+.3%}", f"{change[worst]:+.3%}", f"{worst} loses most"]
            )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="babel-mini")
    parser.add_argument("--corpus", default="embedded", help="whose train text is calibrated on")
    parser.add_argument("--scored", default="embedded", help="whose test text is scored")
    parser.add_argument("--languages", default="en,sw,hi,th")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="of the text; give each its own --out")
    parser.add_argument("--documents", type=int, default=0, help="of each language; 0 is all")
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    print("| press | Gram matrices | differ | mean | worst | |")
    print("| --- | --- | --: | --: | --: | --- |")
    for row in rows(given):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
