"""Score fine-tuned models of a sweep as engines run them in 8 bits: onnxruntime and bitsandbytes.

    python -m benchmarks.papers.engines benchmarks/papers/awobade/ner.yaml --set model=MODEL OUT

For every model that recipes of the sweep begin with: dynamic int8 in onnxruntime and LLM.int8 in
bitsandbytes, scored on what the sweep scores, beside the model itself as PyTorch runs it. Bytes are
of the file of weights, times the median of single sentences on one thread. Scores stay in
OUT/engines; what is there is not done again.
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from babelpress.commands.exporting import export
from babelpress.judge import scores, verdicts
from babelpress.judge.evaluate import evaluate, wanted_of
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import Opened
from babelpress.models.weights import weights_hash
from babelpress.runs.open import open_any
from babelpress.sweeps import plan
from babelpress.sweeps.found import DENSE
from babelpress.sweeps.jobs import Begin
from benchmarks.papers.encoders import told_in
from benchmarks.papers.swept import percent, table

TIMED = 40  # sentences
WAYS = {"onnxruntime, dynamic int8": "onnx", "LLM.int8": "bitsandbytes"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--only", default=0, type=int, help="of so many models; 0: of all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    asked = plan.load(args.sweep, changes=args.set)
    begins = {b.name: b for e in asked.entries if (b := Begin.of(e.recipe)) is not None}
    tuned = [b for b in begins.values() if [s.kind for s in b.plan.steps] == ["finetune"]]
    evaluation = asked.entries[0].evaluate[0]
    rows: list[list[str]] = []
    for begin in tuned[: args.only or None]:
        rows += _rows(begin, _there(begin, args.out.absolute()), evaluation)
    head = ["way", "seed", "score", "mean loss, %", "worst, %", "smaller, %", "ms a sentence"]
    print(table(head, rows))


def _there(begin: Begin, out: Path) -> Path:
    """The folder of the sweep. SystemExit where it has not the model yet."""
    if not begin.folder(out).exists():
        raise SystemExit(f"{begin.folder(out)} is not there ({begin.label}): finish the sweep.")
    return out


def _rows(begin: Begin, out: Path, asked: EvaluationSettings) -> Iterator[list[str]]:
    """A row a way of running, that of PyTorch first."""
    folder = begin.folder(out)
    opened = open_any(str(folder))
    on, seed = asked.on[0], str(begin.plan.steps[0].work.seed)
    dense = _scores_of(out, weights_hash(opened.model), on)
    texts = _texts(asked)
    size = _size(folder / "model")
    before = {tag: each.value for tag, each in scores.tallies(dense, on).items()}
    told = told_in(dense, on)
    mean = float(np.mean(list(before.values())))
    yield ["PyTorch", seed, f"{mean:.3f}", "–", "–", "–", f"{_time(opened, texts):.1f}"]
    for way, form in WAYS.items():
        place = out / "engines" / f"{form}-{folder.name}"
        served = place / "served"
        if not served.exists():
            option = ["int8=dynamic"] if form == "onnx" else []
            export(str(folder), format=form, option=option, out=served)
        if form == "onnx":
            runs = _served(open_any(str(folder)), served)
        else:
            runs = open_any(str(served), quantized=True)
        kept = place / _kept(served)
        evaluate(runs, kept, asked)
        after = scores.tallies(kept, on)
        score = float(np.mean([each.value for each in after.values()]))
        losses = _losses(dense, kept, on, told)
        smaller = 1 - _size(served) / size
        cells = [percent(float(of(losses))) if losses else "–" for of in (np.mean, np.max)]
        cells += [f"{100 * smaller:.1f}", f"{_time(runs, texts):.1f}"]
        yield [way, seed, f"{score:.3f}", *cells]


def _kept(served: Path) -> str:
    """The folder of the scores of what is served.

    Scores in onnxruntime go by the weights of the model in PyTorch, so its file stands in the name.
    """
    path = served / "model.onnx"
    if not path.exists():
        return "scores"
    with path.open("rb") as file:
        return f"scores-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _losses(dense: Path, run: Path, on: str, told: list[str]) -> list[float]:
    """Relative ones, of the languages in which the dense model is not at chance."""
    found = verdicts.against(dense, run, on=on, languages=told).changes if told else ()
    return [each.change for each in found if not each.at_chance]


def _scores_of(out: Path, weights: str, on: str) -> Path:
    """The scores of the fine-tuned model that the sweep took."""
    for place in sorted((out / DENSE).iterdir()):
        there = scores.corpora(place, on)
        if (
            there
            and scores.identity_of(place, on, scores.prefer(place, on, ""))["model"] == weights
        ):
            return place
    raise SystemExit(f"{out} has no {on} scores of a fine-tuned model: finish the sweep first.")


def _served(opened: Opened, folder: Path) -> Opened:
    """A model that onnxruntime runs where PyTorch would."""
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(folder / "model.onnx"), options)

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        feed = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        (logits,) = session.run(["logits"], feed)
        return SimpleNamespace(logits=torch.from_numpy(logits))

    model: Any = opened.model
    model.forward = forward
    return opened


def _texts(asked: EvaluationSettings) -> list[str]:
    """Sentences of all languages in turn."""
    (first, *_) = wanted_of(asked)
    each = [first.texts.documents(tag, "test") for tag in first.tags]
    found = [" ".join(document.words) for some in zip(*each, strict=False) for document in some]
    return found[:TIMED]


def _time(opened: Opened, texts: list[str]) -> float:
    """Milliseconds of a sentence, the median."""
    feeds = [opened.tokenizer(text, return_tensors="pt") for text in texts]
    model: Callable[..., Any] = opened.model
    taken: list[float] = []
    with torch.inference_mode():
        for feed in feeds:
            began = time.perf_counter()
            model(input_ids=feed["input_ids"], attention_mask=feed["attention_mask"])
            taken.append(time.perf_counter() - began)
    return 1000 * float(np.median(taken))


def _size(folder: Path) -> int:
    """Bytes of the files of weights."""
    ends = (".safetensors", ".onnx", ".data")
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.endswith(ends))


if __name__ == "__main__":
    main()
