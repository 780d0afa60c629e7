"""Does llama.cpp load our GGUF, agree with transformers, and take our imatrix; and what it scores.

    python benchmarks/engines/llamacpp.py check --engine ENV/bin/python --data TEXTS --out FOLDER
    python benchmarks/engines/llamacpp.py sweep --engine ENV/bin/python --data TEXTS --out FOLDER
    python benchmarks/engines/llamacpp.py table --out FOLDER

ENV is an environment of its own (llamacpp-requirements.txt); TEXTS a corpus folder.

`check`: tokens of all languages; logits against transformers in float32 with the same weights,
first where llama.cpp has dequantized the file to F32 (what it reads out of it), then as the file is
(its kernels round activations to 16 or 8 bits), and the standard deviation of logits; what
llama.cpp makes of K-quants with our imatrix and without.

`sweep`: K-quants by type x calibration x seed, scored by llama.cpp in bits per byte on the first
FLORES articles (documents and windows of evals/bits_per_byte.py), every one a folder that is not
done again. The minimax mixture is found with llama.cpp's own quantizer: every round is quantized by
it, read back, and its damage weighed by the moments of each language. `table` prints what is there,
changes against llama.cpp's own F16.

Shapes: L languages, N sequences, T positions, V vocabulary, D documents.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
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

from babelpress import codes as codes_folder
from babelpress import embeddings, export, gathering, mixtures
from babelpress.compare import compare
from babelpress.corpus import open_corpus
from babelpress.evals import bits_per_byte
from babelpress.evals.bits_per_byte import Prepared
from babelpress.files import read_json, write_json
from babelpress.ggufs import splits
from babelpress.ggufs.names import layout
from babelpress.grids import Codes, Grid
from babelpress.models import Walk, linears, set_weight, weight
from babelpress.moments import Damage, damages
from babelpress.opening import Opened, open_model
from babelpress.press import best, mean_damage, minimax
from babelpress.recipe import Calibration
from babelpress.store import Store
from babelpress.tally import Tally
from babelpress.verdicts import training_shares

TYPES = ("Q2_K", "Q3_K_S", "Q4_K_M")
MIXED = ("english", "proportional:babel-mini", "minimax")
SEEDS = (0, 1, 2)
DOCUMENTS = 90  # FLORES articles: 314 sentences
TOKENS, LENGTH = 16384, 256
ROUNDS = 20  # of the minimax loop
CHECKED = 128  # tokens of each text whose logits are compared
CODED = {
    "2 bits, group 32": Grid(2, 32),
    "3 bits, group 64": Grid(3, 64),
    "4 bits, group 64": Grid(4, 64),
    "4 bits, group 128, asymmetric": Grid(4, 128, symmetric=False),
    "8 bits, channel": Grid(8, "channel"),
}


class Inside:
    """llama.cpp in its own environment, one process a job."""

    def __init__(self, python: str, folder: Path):
        self.python, self.folder = python, folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, do: str, **job: object) -> dict[str, Any]:
        path = self.folder / "job.json"
        words = {
            key: str(value) if isinstance(value, Path) else value for key, value in job.items()
        }
        path.write_text(json.dumps({"do": do, **words}))
        script = Path(__file__).with_name("llamacpp_inside.py")
        subprocess.run([self.python, str(script), str(path)], check=True)
        return json.loads(path.with_suffix(".result.json").read_text())


def write(form: str, source: export.Source, folder: Path, **options: object) -> list[str]:
    """An export into a folder, over what may be there."""
    folder.mkdir(parents=True, exist_ok=True)
    return export.get(form)(source, folder, **options)


# ---- check ---------------------------------------------------------------------------------


def check(given: argparse.Namespace) -> None:
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
    lines = write("gguf", export.Source(name, opened), folder, kind="f16", pre=pre)
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
        compare_logits(
            inside, export.Source("babel-mini", opened), ids, f"babel-mini, {kind}", kind
        )
    for name, grid in CODED.items():
        source = coded(grid, inside.folder / "codes")
        compare_logits(inside, source, ids, f"codes of {name}", "codes")


def coded(grid: Grid, folder: Path) -> export.Source:
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
            codes[f"{walk.path}.{index}.{name}"] = found
    codes_folder.save(folder, codes, walk.path)
    return export.Source("babel-mini", opened, codes=codes_folder.CodesFolder.open(folder))


def token_ids(tokenizer: Any, texts: Mapping[str, Sequence[str]]) -> Tensor:
    """The first tokens of a text in every language, BOS first: (L, T)."""
    rows = [
        [tokenizer.bos_token_id, *tokenizer(" ".join(each), add_special_tokens=False)["input_ids"]]
        for each in texts.values()
    ]
    return torch.tensor([row[:CHECKED] for row in rows])


def compare_logits(
    inside: Inside, source: export.Source, ids: Tensor, name: str, kind: str
) -> None:
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
        source = export.Source(name, Opened(name, model, tokenizer, torch.float32))
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
    source = export.Source("babel-mini", opened, moments=store, shares=shares)
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


# ---- sweep ---------------------------------------------------------------------------------


def sweep(given: argparse.Namespace) -> None:
    out, opened = given.out, open_model(given.model)
    inside = Inside(given.engine, out / f"work-{min(given.seeds)}-{'-'.join(given.types)}")
    flores = open_corpus(f"{given.data}?src=flores")
    texts = {t: flores.documents(t, "test")[: given.documents] for t in flores.languages()}
    prepared = bits_per_byte.prepare(opened.tokenizer, texts, window=LENGTH)
    dense = out / "dense.gguf"
    if not dense.exists():
        write("gguf", export.Source(given.model, opened), inside.folder, kind="f16")
        (inside.folder / "model.gguf").rename(dense)
    score(inside, dense, prepared, out / "F16", {})
    for kind in given.types:
        press(inside, dense, kind, "", prepared, out / f"{kind}-none", {})
    for seed in given.seeds:
        folder = out / f"moments-{seed}"
        sees = cache(lambda seed=seed, folder=folder: moments(opened, given.data, seed, folder))
        for kind in given.types:
            for mixed in MIXED:
                place = out / f"{kind}-{mixed.replace(':', '_')}-{seed}"
                if (place / "manifest.json").exists():
                    continue
                source = export.Source(given.model, opened, moments=sees())
                shares, facts = shares_of(inside, dense, kind, mixed, source, given.rounds)
                write("imatrix", replace(source, shares=shares), inside.folder)
                facts["shares"] = shares
                press(inside, dense, kind, inside.folder / "imatrix.gguf", prepared, place, facts)


def moments(opened: Opened, data: str, seed: int, folder: Path) -> Store:
    """Moments with Gram matrices of the train text, kept in a folder."""
    corpus = open_corpus(data)
    there = tuple(tag for tag in corpus.languages() if corpus.documents(tag, "train"))
    asked = Calibration(corpus=data, languages=there, tokens=TOKENS, length=LENGTH, seed=seed)
    return gathering.calibrate(opened, asked, folder, gram=True)


def press(
    inside: Inside,
    dense: Path,
    kind: str,
    imatrix: Path | str,
    prepared: Mapping[str, Prepared],
    place: Path,
    facts: dict[str, Any],
) -> None:
    if (place / "manifest.json").exists():
        return
    out = inside.folder / "pressed.gguf"
    made = inside("quantize", model=dense, imatrix=imatrix, type=kind, out=out)
    score(inside, out, prepared, place, {**facts, "bytes": made["bytes"]})


def score(
    inside: Inside,
    model: Path,
    prepared: Mapping[str, Prepared],
    place: Path,
    facts: dict[str, Any],
) -> None:
    """Tallies of every language, then the manifest, whose presence means done."""
    if (place / "manifest.json").exists():
        return
    windows = inside.folder / "windows.npz"
    counts = save_windows(prepared, windows)
    found = inside("score", model=model, windows=windows, out=inside.folder / "nats.npy")
    nats = np.split(np.load(inside.folder / "nats.npy"), np.cumsum(counts)[:-1])
    for (tag, one), nats_D in zip(prepared.items(), nats, strict=True):
        tally = Tally(one.documents, nats_D / np.log(2), one.bytes_D)
        tally.save(place / "tallies" / f"bits_per_byte.{tag}.parquet")
    write_json(place / "manifest.json", {**facts, **found})
    speed = f"{found['tokens_per_second']:.0f} tokens/s"
    print(f"{time.strftime('%H:%M:%S')} {place.name} {found['seconds']:.0f} s, {speed}", flush=True)


def save_windows(prepared: Mapping[str, Prepared], path: Path) -> list[int]:
    """All windows one after the other, documents counted through all languages;
    how many each language has."""
    ids, scored, document, counts = [], [], [], []
    for one in prepared.values():
        before = sum(counts)
        for window in one.windows:
            ids.append(window.ids_T)
            scored.append(window.scored)
            document.append(before + window.document)
        counts.append(len(one.documents))
    ends = np.cumsum([len(each) for each in ids])
    np.savez(path, ids=np.concatenate(ids), ends=ends, scored=scored, document=document)
    return counts


# ---- mixtures ------------------------------------------------------------------------------


def shares_of(
    inside: Inside, dense: Path, kind: str, mixed: str, source: export.Source, rounds: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """The shares of a mixture, and what is to be noted about them."""
    assert source.moments is not None
    tags = source.moments.identity["languages"]
    if mixed != "minimax":
        return mixtures.mixture(mixed, tags).shares, {}
    damage_of = damage_by_llamacpp(inside, dense, kind, source)
    trace = minimax(damage_of, tags, rounds=rounds)
    rows = [{"worst": each.worst, "mean": each.mean} for each in trace]
    return best(trace).shares, {"trace": rows, "damage": best(trace).damage}


def damage_by_llamacpp(
    inside: Inside, dense: Path, kind: str, source: export.Source
) -> Callable[[Mapping[str, float]], dict[str, float]]:
    """What each language loses when llama.cpp quantizes with these shares."""

    def damage_of(shares: Mapping[str, float]) -> dict[str, float]:
        write("imatrix", replace(source, shares=shares), inside.folder)
        out = inside.folder / "tried.gguf"
        imatrix = inside.folder / "imatrix.gguf"
        inside("quantize", model=dense, imatrix=imatrix, type=kind, out=out)
        return damage(source, out)

    return damage_of


def damage(source: export.Source, path: Path) -> dict[str, float]:
    """Mean damage over sites of the weights in a GGUF file, by language."""
    assert source.moments is not None
    walk, named = Walk(source.opened.model), layout(source.opened.model)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    sites: list[dict[str, Damage]] = []
    for index, block in enumerate(walk.blocks):
        layers = linears(block)
        for site, seen in source.moments.load(index).items():
            parts = []
            for name in site.linears:
                parameter = f"{walk.path}.{index}.{name}.weight"
                tensor = tensors[named.name(parameter)]
                new = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                old_OI, order = weight(layers[name]), named.order(parameter)
                parts.append(
                    damages(
                        old_OI if order is None else old_OI[order],
                        torch.from_numpy(np.array(new)),
                        seen,
                    )
                )
            sites.append(
                {
                    tag: Damage(
                        sum(part[tag].numerator for part in parts),
                        sum(part[tag].denominator for part in parts),
                    )
                    for tag in seen
                }
            )
    return mean_damage(sites)


# ---- table ---------------------------------------------------------------------------------


def load(folder: Path) -> dict[str, Tally]:
    """Tallies of a scored folder by language."""
    paths = sorted((folder / "tallies").glob("bits_per_byte.*.parquet"))
    return {path.name.split(".")[1]: Tally.load(path) for path in paths}


def table(given: argparse.Namespace) -> None:
    """One line a configuration: every seed, then the hull of their intervals."""
    dense = load(given.out / "F16")
    shares = training_shares(given.model, dense)
    mean = sum(tally.value for tally in dense.values()) / len(dense)
    print(f"F16 in llama.cpp: mean {mean:.4f} bits per byte over {len(dense)} languages\n")
    print(
        "| type | MB | imatrix | mean | worst language | low-resource |\n|---|---|---|---|---|---|"
    )
    for kind in TYPES:
        for mixed in ("none", *MIXED):
            stem = f"{kind}-{mixed.replace(':', '_')}"
            ends = ("",) if mixed == "none" else tuple(f"-{seed}" for seed in SEEDS)
            folders = [given.out / f"{stem}{end}" for end in ends]
            there = [f for f in folders if (f / "manifest.json").exists()]
            if not there:
                continue
            found = [
                {s.name: s for s in compare(dense, load(f), shares=shares).summaries} for f in there
            ]
            cells = [
                cell([each[key] for each in found]) for key in ("mean", "worst", "low_resource")
            ]
            size = read_json(there[0] / "manifest.json")["bytes"] / 1e6
            print(f"| {kind} | {size:.2f} | {mixed} | {' | '.join(cells)} |")


def cell(summaries: Sequence[Any]) -> str:
    """The value of every seed, the hull of their intervals, and the languages they name."""
    values = " / ".join(f"{100 * each.value:+.2f}" for each in summaries)
    low, high = min(each.low for each in summaries), max(each.high for each in summaries)
    named = ", ".join(sorted({each.language for each in summaries if each.language}))
    return f"{values} % [{100 * low:.2f}, {100 * high:.2f}] {named}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=("check", "sweep", "table"))
    parser.add_argument("--engine", default="python", help="python of the llama.cpp environment")
    parser.add_argument("--data", default="text", help="corpus folder with all languages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="babel-mini")
    parser.add_argument("--types", nargs="+", default=list(TYPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="articles a language")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the minimax loop")
    given = parser.parse_args()
    {"check": check, "sweep": sweep, "table": table}[given.do](given)


if __name__ == "__main__":
    main()
