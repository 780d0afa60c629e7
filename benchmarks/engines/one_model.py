"""Does a model of yours give in llama.cpp what it gives here? By language, for several types.

    python benchmarks/engines/one_model.py MODEL --types f16,q8_0,q4_k_m --out FOLDER

MODEL is anything that babelpress opens, also a trimmed run. Its GGUF files are made as `babelpress
export` makes them and read by llama.cpp (llamacpp-requirements.txt; --engine names the python of
another environment). On the first test documents of every language:

- tokens: of how many documents llama.cpp reads the same tokens;
- |Δ|: how far log-probabilities of the tokens that come lie from those of transformers in float32,
  on the mean, over --positions tokens of one text, BOS first where the model has it;
- same: how often the likeliest token is the same one.

The last line of a type is all languages together, with tokens a second of that pass on one thread,
and the bytes of the file. It ends with 1 where f32 or f16 is further away than BOUND on the mean
of any language, or not a number. Other types round weights, and tokens differ under names
that are known to: both are shown and not judged. llamacpp_check.py looks at formats and families;
this at one model. Types of the quantizer need llama-cpp-python here too.

Shapes: T positions, V vocabulary.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llamacpp import Inside, write

from babelpress.export import _llamacpp as quantizer
from babelpress.export._source import Source
from babelpress.export.gguf import KINDS
from babelpress.models.open import Opened
from babelpress.models.tokenizers import encode
from babelpress.press import codes
from babelpress.runs.open import open_any
from babelpress.runs.places import run_of
from babelpress.text.corpus import open_corpus

BOUND = 0.05  # of |Δ|, in nats; of babel-mini f16 is 0.0007 away and q4_k_m 0.17
JUDGED = ("f32", "f16")  # types that lose next to nothing

Texts = Mapping[str, Sequence[str]]
Ids = Mapping[str, list[int]]


def check(given: argparse.Namespace) -> int:
    """The table; 1 where a type that loses next to nothing is too far away."""
    kinds = given.types.split(",")
    for kind in kinds:
        quantizer.check(kind, KINDS, "", moments=False)  # before any work
    opened = open_any(given.model, dtype="float32")
    corpus = open_corpus(given.data)
    asked = given.languages.split(",") if given.languages else corpus.languages()
    texts = {
        tag: [each.text for each in corpus.documents(tag, "test")[: given.documents]]
        for tag in asked
    }
    ids = beginnings(opened, texts, given.positions)
    expected = {tag: in_transformers(opened, each) for tag, each in ids.items()}
    inside = Inside(given.engine, given.out)
    print("| type | language | tokens | mean abs Δ log-prob | same | tokens/s | bytes |")
    print("|---|---|---|---|---|---|---|")
    wrong: list[str] = []
    for kind in kinds:
        source = Source(given.model, opened, codes=codes_of(given.model))
        for line in write("gguf", source, given.out / kind, kind=kind):
            print(f"{kind}: {line}", file=sys.stderr)
        model = given.out / kind / "model.gguf"
        apart = rows(inside, model, kind, opened, texts, ids, expected)
        if kind in JUDGED:
            wrong += [f"{tag} in {kind}" for tag, mean in apart.items() if not mean <= BOUND]
    if wrong:
        print(f"further away than {BOUND}: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def codes_of(model: str) -> codes.CodesFolder | None:
    """The integers of a quantized run, which the kinds auto and codes carry over."""
    folder = run / codes.FOLDER if (run := run_of(model)) else None
    return codes.CodesFolder.open(folder) if folder and folder.exists() else None


def beginnings(opened: Opened, texts: Texts, positions: int) -> Ids:
    """The first tokens of every language's text."""
    tokenizer: Any = opened.tokenizer
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return {
        tag: [*begin, *encode(tokenizer, [" ".join(each)])["input_ids"][0]][: positions + 1]
        for tag, each in texts.items()
    }


@torch.inference_mode()
def in_transformers(opened: Opened, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of each next token (T), and the likeliest ones (T)."""
    model: Any = opened.model
    log_TV = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0].float().log_softmax(-1)
    target_T1 = torch.tensor(ids[1:])[:, None]
    return log_TV.gather(1, target_T1)[:, 0].numpy(), log_TV.argmax(1).numpy()


def rows(
    inside: Inside,
    model: Path,
    kind: str,
    opened: Opened,
    texts: Texts,
    ids: Ids,
    expected: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, float]:
    """A line for every language and one for all; the mean distance by language."""
    folder = model.parent
    pairs = {
        tag: list(zip(each, encode(opened.tokenizer, list(each))["input_ids"], strict=True))
        for tag, each in texts.items()
    }
    (folder / "texts.json").write_text(json.dumps(pairs))
    (folder / "ids.json").write_text(json.dumps(ids))
    read = inside("tokenize", model=model, texts=folder / "texts.json")
    told = inside("logprobs", model=model, ids=folder / "ids.json", out=folder / "found.npz")
    found = np.load(folder / "found.npz")
    apart, same = {}, {}
    for tag, (log_T, best_T) in expected.items():
        apart[tag] = abs(found[f"{tag}.log"] - log_T)
        same[tag] = found[f"{tag}.best"] == best_T
        tokens = f"{read['equal'][tag]} of {read['texts'][tag]}"
        cells = (kind, tag, tokens, f"{apart[tag].mean():.5f}", f"{same[tag].mean():.1%}", "", "")
        print(f"| {' | '.join(cells)} |", flush=True)
    whole, agree = (np.concatenate(list(each.values())) for each in (apart, same))
    tokens = f"{sum(read['equal'].values())} of {sum(read['texts'].values())}"
    speed, size = f"{told['tokens_per_second']:.0f}", f"{model.stat().st_size:,}"
    cells = (kind, "all", tokens, f"{whole.mean():.5f}", f"{agree.mean():.1%}", speed, size)
    print(f"| {' | '.join(cells)} |", flush=True)
    return {tag: float(each.mean()) for tag, each in apart.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--engine", default=sys.executable, help="python that has llama.cpp")
    parser.add_argument("--data", default="embedded", help="corpus whose test documents are read")
    parser.add_argument("--languages", default="", help="tags, commas between; all by default")
    parser.add_argument("--types", default="f16,q8_0,q4_k_m")
    parser.add_argument("--documents", type=int, default=20, help="documents a language")
    parser.add_argument("--positions", type=int, default=64, help="tokens a language")
    parser.add_argument("--out", type=Path, required=True)
    return check(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
