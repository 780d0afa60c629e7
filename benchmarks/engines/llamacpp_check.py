"""Does llama.cpp load our GGUF, agree with transformers, and take our imatrix?

    python benchmarks/engines/llamacpp_check.py --engine ENV/bin/python --data TEXTS --out FOLDER

ENV is an environment of its own (llamacpp-requirements.txt); TEXTS a corpus folder. Tables of

- tokens: FLORES texts of all languages, by the names for ways to cut text (models/gguf_splits.py);
- logits: against transformers in float32 with the same weights, first where llama.cpp has
  dequantized the file to F32 (what it reads out of it), then as the file is (its kernels round
  activations to 16 or 8 bits); `same` is how often the likeliest token is the same one;
- K-quants with our imatrix and without: how many entries llama.cpp took, and the damage by moments.

Shapes: L languages, T positions, O outputs, I inputs, G groups.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llamacpp import TYPES, Inside, damage, moments, write
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from babelpress.export._source import Source
from babelpress.models import gguf_splits as splits
from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.open import Opened, open_model
from babelpress.models.walk import Walk
from babelpress.numerics.grids import Codes, Grid
from babelpress.press import codes as codes_folder
from babelpress.press import embeddings
from babelpress.text import mixtures
from babelpress.text.corpus import open_corpus

CHECKED = 128  # tokens of each text whose logits are compared
CODED = {
    "2 bits, group 32": Grid(2, 32),
    "3 bits, group 64": Grid(3, 64),
    "4 bits, group 64": Grid(4, 64),
    "4 bits, group 128, asymmetric": Grid(4, 128, symmetric=False),
    "8 bits, channel": Grid(8, "channel"),
}


def check(given: argparse.Namespace) -> None:
    """All tables."""
    inside = Inside(given.engine, given.out / "check")
    corpus = open_corpus(f"{given.data}?src=flores")
    texts = {t: [d.text for d in corpus.documents(t, "test")] for t in corpus.languages()}
    texts = {tag: each[: given.documents] for tag, each in texts.items()}
    print(
        "| tokenizer | pre | texts with equal tokens | languages that differ |\n|---|---|---|---|"
    )
    check_tokens(inside, texts)
    print("\n| weights | matrices | as F32: max | mean | same | as is: max | mean | same |")
    print("|---|---|---|---|---|---|---|---|")
    check_logits(inside, texts)
    check_families(inside, texts)
    check_imatrix(inside, given.data, given.out)


def check_tokens(inside: Inside, texts: Mapping[str, Sequence[str]]) -> None:
    opened = open_model("babel-mini")
    for pre in ("", "gpt-4o"):
        compare_tokens(inside, "babel-mini", opened, texts, pre)
    for pre in splits.KNOWN:
        tokenizer = trained(pre, [each[-1] for each in texts.values()])
        small = Opened(
            "small", family(LlamaForCausalLM, LlamaConfig, tokenizer), tokenizer, torch.float32
        )
        compare_tokens(inside, "trained here", small, texts, pre.name)


def compare_tokens(
    inside: Inside, name: str, opened: Opened, texts: Mapping[str, Sequence[str]], pre: str
) -> None:
    folder = inside.folder / "tokens"
    lines = write("gguf", Source(name, opened), folder, kind="f16", pre=pre)
    used = next(line for line in lines if line.startswith("tokenizer")).split()[-1]
    encode: Any = opened.tokenizer
    expected = {
        tag: [
            (text, encode(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
            for text in each
        ]
        for tag, each in texts.items()
    }
    (folder / "texts.json").write_text(json.dumps(expected))
    found = inside("tokenize", model=folder / "model.gguf", texts=folder / "texts.json")
    equal, all_of = found["equal"], found["texts"]
    wrong = [f"{t} {all_of[t] - n}" for t, n in equal.items() if n < all_of[t]]
    counted = f"{sum(equal.values())} of {sum(all_of.values())}"
    print(f"| {name} | {used} | {counted} | {', '.join(wrong) or 'none'} |", flush=True)


def trained(pre: splits.Pre, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A small BPE that cuts text by these regexes."""
    backend = Tokenizer(models.BPE(ignore_merges=pre.ignore_merges))
    cuts: list[Any] = [pre_tokenizers.Split(Regex(each), "isolated") for each in pre.regexes]
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cuts, whole])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=["<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")


def check_logits(inside: Inside, texts: Mapping[str, Sequence[str]]) -> None:
    """babel-mini as F16 and Q8_0, then with linears as codes of several grids."""
    opened = open_model("babel-mini", dtype="float32")
    ids = token_ids(opened.tokenizer, texts)
    for kind in ("f16", "q8_0"):
        compare_logits(inside, Source("babel-mini", opened), ids, f"babel-mini, {kind}", kind)
    for name, grid in CODED.items():
        source = coded(grid, inside.folder / "codes")
        compare_logits(inside, source, ids, f"codes of {name}", "codes")


def coded(grid: Grid, folder: Path) -> Source:
    """babel-mini in float32 with linears and embeddings as they are rounded to nearest."""
    opened = open_model("babel-mini", dtype="float32")
    walk = Walk(opened.model)
    codes: dict[str, Codes] = embeddings.quantize_tables(opened.model)
    for index, block in enumerate(walk.blocks):
        for name, linear in linears(block).items():
            weight_OI = weight(linear)
            scale_OG, zero_OG = grid.fit_groups(weight_OI, name)
            wide = [
                each.repeat_interleave(grid.width(weight_OI.shape[1], name), 1)
                for each in (scale_OG, zero_OG)
            ]
            found = Codes.of(grid, grid.code(weight_OI, *wide), scale_OG, zero_OG)
            set_weight(linear, found.dequantize())
            codes[walk.name(index, name)] = found
    shutil.rmtree(folder, ignore_errors=True)
    codes_folder.save(folder, codes, walk.index_of)
    return Source("babel-mini", opened, codes=codes_folder.CodesFolder.open(folder))


def token_ids(tokenizer: Any, texts: Mapping[str, Sequence[str]]) -> Tensor:
    """The first tokens of a text in every language, BOS first: (L, T)."""
    rows = [
        [tokenizer.bos_token_id, *tokenizer(" ".join(each), add_special_tokens=False)["input_ids"]]
        for each in texts.values()
    ]
    return torch.tensor([row[:CHECKED] for row in rows])


def compare_logits(inside: Inside, source: Source, ids: Tensor, name: str, kind: str) -> None:
    folder = inside.folder / "logits"
    lines = write("gguf", source, folder, kind=kind)
    with torch.no_grad():
        expected = source.opened.model(ids, use_cache=False).logits.float()
    np.savez(folder / "expected.npz", ids=ids.numpy(), logits=expected.numpy())
    model, wide = folder / "model.gguf", folder / "wide.gguf"
    inside("quantize", model=model, imatrix="", type="F32", out=wide)
    matrices = lines[0].removeprefix("matrices: ")
    cells = [f"{name} (logits ± {expected.std():.1f})", matrices]
    for path in (wide, model):
        found = inside("logits", model=path, expected=folder / "expected.npz")
        cells += [f"{found['max']:.2g}", f"{found['mean']:.2g}", f"{found['greedy']:.2%}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def check_families(inside: Inside, texts: Mapping[str, Sequence[str]]) -> None:
    """Small random models of every family and way to turn heads, as F16."""
    tokenizer = trained(splits.KNOWN[0], [each[-1] for each in texts.values()])
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    several = {
        "llama": (LlamaForCausalLM, LlamaConfig, {}),
        "llama, biases, tied": (
            LlamaForCausalLM,
            LlamaConfig,
            {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        ),
        "llama, scaled positions": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": scaled}),
        "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"head_dim": 16}),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    }
    for name, (kind, config, options) in several.items():
        model = family(kind, config, tokenizer, **options)
        source = Source(name, Opened(name, model, tokenizer, torch.float32))
        compare_logits(inside, source, token_ids(tokenizer, texts), f"random {name}", "f16")


def family(kind: Any, config: Any, tokenizer: PreTrainedTokenizerFast, **options: Any):
    """A random model whose weights F16 holds exactly, biases and norms among them."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 512,
    }
    model: PreTrainedModel = kind(config(**{**shape, **options}))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2).copy_(parameter.half().float())
    return model.eval()


def check_imatrix(inside: Inside, data: str, folder: Path) -> None:
    """What llama.cpp makes of babel-mini with our imatrix and without."""
    opened = open_model("babel-mini")
    store = moments(opened, data, 0, folder / "moments-0")
    shares = mixtures.mixture("proportional:babel-mini", store.identity["languages"]).shares
    source = Source("babel-mini", opened, moments=store, shares=shares)
    write("gguf", source, inside.folder, kind="f16")
    lines = write("imatrix", source, inside.folder)
    print(f"\nimatrix.gguf: {lines[0]}\n")
    print("| type | entries taken | bytes | seconds | mean damage | worst damage |")
    print("|---|---|---|---|---|---|")
    for kind in (*TYPES, "IQ2_XS"):
        for imatrix in ("", inside.folder / "imatrix.gguf"):
            if kind == "IQ2_XS" and not imatrix:
                continue  # llama.cpp makes none without
            out = inside.folder / "pressed.gguf"
            dense = inside.folder / "model.gguf"
            found = inside("quantize", model=dense, imatrix=imatrix, type=kind, out=out)
            lost = damage(source, out)
            mean, worst = sum(lost.values()) / len(lost), max(lost.values())
            print(
                f"| {kind} | {found['entries']} | {found['bytes']} | {found['seconds']:.1f} "
                f"| {mean:.4f} | {worst:.4f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True, help="python of the llama.cpp environment")
    parser.add_argument("--data", required=True, help="corpus folder with all languages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=20, help="articles a language")
    check(parser.parse_args())


if __name__ == "__main__":
    main()
