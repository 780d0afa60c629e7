"""Our Wanda and SparseGPT masks beside those of the published codes, on one model and one input.

You fetch the published code into folders outside this repository; it runs as it is:

    git clone https://github.com/locuslab/wanda
    git -C wanda checkout 8e8fc87b4a2f9955baa7e76e64d5fce7fa8724a6
    git clone https://github.com/IST-DASLab/sparsegpt
    git -C sparsegpt checkout 147d2159dc4f3e9f73e47b32c04d7b3708f44436
    python benchmarks/peers/masks.py --wanda wanda --sparsegpt sparsegpt \\
        --model babel-mini --data DATA/text --out masks.json

Both sides compute in float32, count special tokens, and feed every block what the pressed blocks
before it give. The table has the per cent of all weights that are zero on both sides or neither:
on the `walk` of the whole model, where a difference is carried on to later blocks, and on the
`same inputs`, where every block of the published code gets the dense weights and the hidden states
that ours had. `their count` is ours made to prune as many as they do. `reordered` is they against
themselves with the samples in reverse order: nothing but rounding changes.

For the published codes, which expect CUDA and an old transformers, `torch.cuda.synchronize` and
`empty_cache` do nothing, blocks are handed `position_embeddings`, the loader is ours and
`hf_device_map` is empty. They are written for Llama models only.

Shapes: N samples, T positions, H hidden size, O outputs, I inputs of a linear.
"""

import argparse
import importlib
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import asdict, astuple, dataclass
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from babelpress.errors import BabelpressError, BadCorpus, BadSetting
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened, open_model
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments import gather as feeding
from babelpress.moments.store import BlockMoments
from babelpress.numerics.patterns import KeepOf, Pattern, PerGroup, PerRow
from babelpress.press import blocks as press
from babelpress.press.method import Pruner
from babelpress.system.files import write_json
from babelpress.text.calibration import build
from babelpress.text.corpus import open_corpus
from babelpress.text.languages import select
from babelpress.text.token_blocks import TokenBlocks

PATTERNS = {
    "wanda": ("0.5", "0.7", "2of4", "1of4"),
    "sparsegpt": ("0.5/128", "0.7/128", "2of4", "1of4"),
}
SPARSEGPT_DEFAULTS = {
    "percdamp": 0.01,
    "blocksize": 128,
    "wbits": 16,
    "true_sequential": False,
    "minlayer": -1,
    "maxlayer": 1000,
    "prune_only": "",
    "invert": False,
}
MOST_SAMPLES = 128  # the buffer of the published Wanda code holds no more
CPU = torch.device("cpu")

Masks = dict[str, Tensor]  # by linear: True where a weight is zero
Model = Any  # a LlamaForCausalLM, whose own annotations hide its parts


# ---- the published codes -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A pattern in the words of the published codes: n of every m go, or a fraction."""

    fraction: float | Fraction
    n: int
    m: int

    @classmethod
    def of(cls, pattern: Pattern) -> "Asked":
        """Raises BadSetting for a pattern that they do not have."""
        match pattern:
            case KeepOf(keep_count=keep, of=of):
                return cls(0.0, of - keep, of)
            case PerRow(fraction=fraction) | PerGroup(fraction=fraction):
                return cls(fraction, 0, 0)
        raise BadSetting(f"the published codes have no pattern {pattern}.")


Loader = list[tuple[Tensor]]
Peer = Callable[[Model, Loader, Asked], object]


def published_wanda(folder: Path) -> Peer:
    """The `prune_wanda` of the published Wanda code."""
    code = imported(folder, "lib.prune")

    def prune(model: Model, loader: Loader, asked: Asked) -> None:
        options = Namespace(nsamples=len(loader), seed=0, sparsity_ratio=asked.fraction)
        options.use_variant = False
        with patch.object(code, "get_loaders", lambda *_, **__: (loader, None)):
            code.prune_wanda(options, model, None, CPU, prune_n=asked.n, prune_m=asked.m)

    return prune


def published_sparsegpt(folder: Path) -> Peer:
    """The `llama_sequential` of the published SparseGPT code, with its default settings."""
    code = imported(folder, "llama")

    def prune(model: Model, loader: Loader, asked: Asked) -> None:
        share = {"sparsity": asked.fraction, "prunen": asked.n, "prunem": asked.m}
        options = Namespace(nsamples=len(loader), **share, **SPARSEGPT_DEFAULTS)
        with patch.object(code, "args", options, create=True):
            code.llama_sequential(model, loader, CPU)

    return prune


def imported(folder: Path, module: str) -> Any:
    """A module of a folder that is no package. Raises BadSetting where it is not there."""
    if not (folder / f"{module.replace('.', '/')}.py").exists():
        raise BadSetting(f"{folder} holds no {module}: clone it as this file's first lines say.")
    sys.path.insert(0, str(folder))
    return importlib.import_module(module)


@contextmanager
def as_they_expect(model: Model, length: int) -> Iterator[None]:
    """The old transformers and the CUDA that the published codes were written for."""
    rotary = model.model.rotary_emb(torch.zeros(1, 1), torch.arange(length)[None])

    def hand(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "position_embeddings": rotary}

    for block in model.model.layers:
        block.register_forward_pre_hook(hand, with_kwargs=True)
    model.seqlen, model.hf_device_map = length, {}
    idle = [patch.object(torch.cuda, name, lambda: None) for name in ("synchronize", "empty_cache")]
    with idle[0], idle[1], redirect_stdout(StringIO()):
        yield


def theirs(peer: Peer, model: Model, ids_NT: Tensor, asked: Asked) -> Masks:
    """What a published code prunes of a copy of the model."""
    model = deepcopy(model)
    with as_they_expect(model, ids_NT.shape[1]):
        peer(model, [(ids_T[None],) for ids_T in ids_NT], asked)
    return zeros(model.model.layers)


class Known(nn.Module):
    """In place of an embedding: hidden states that are known, for 'tokens' that number them."""

    def __init__(self, hidden_NTH: Tensor):
        super().__init__()
        self.hidden_NTH = hidden_NTH

    def forward(self, number_1T: Tensor) -> Tensor:
        """The hidden states (1, T, H) of one sample."""
        return self.hidden_NTH[number_1T[:, 0]]


def theirs_of_block(
    peer: Peer, model: Model, index: int, hidden_NTH: Tensor, asked: Asked
) -> Masks:
    """What a published code prunes of one block that is given these hidden states."""
    part = deepcopy(model)
    part.model.layers = part.model.layers[index : index + 1]
    part.model.embed_tokens = Known(hidden_NTH)
    number_NT = torch.arange(len(hidden_NTH))[:, None].expand(hidden_NTH.shape[:2])
    masks = theirs(peer, part, number_NT, asked)
    return {f"{index}.{name.removeprefix('0.')}": mask_OI for name, mask_OI in masks.items()}


# ---- ours ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TheirCount(PerGroup):
    """As published: the score of rank floor(n * fraction) from 0 goes, with all not above it."""

    def block_keep(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """True where a weight stays."""
        assert start % self.columns == 0
        assert start < total_columns
        rank = int(score_BO.numel() * self.fraction)
        return score_BO > score_BO.flatten().kthvalue(rank + 1).values


def zeros(blocks: Iterable[nn.Module]) -> Masks:
    """Where the weights of blocks are zero."""
    return {
        f"{index}.{name}": weight(linear) == 0
        for index, block in enumerate(blocks)
        for name, linear in linears(block).items()
    }


def ours(method: Pruner, model: Model, blocks: Mapping[str, TokenBlocks]) -> Masks:
    """What we prune of a copy of the model, walking it as the published codes do."""
    walk = Walk(deepcopy(model))
    press.press_compressed(walk, blocks, method, even(blocks))
    return zeros(walk.blocks)


def ours_of_block(method: Pruner, walk: Walk, index: int, moments: BlockMoments) -> Masks:
    """What we prune of one block; the model is left as it is."""
    trial = Walk(deepcopy(walk.model))
    [languages, *_] = moments.values()
    press.press_block(trial, index, moments, method, even(languages), {})
    return {n: mask_OI for n, mask_OI in zeros(trial.blocks).items() if n.startswith(f"{index}.")}


def even(languages: Collection[str]) -> dict[str, float]:
    """Equal shares: languages have equally many tokens here, so it is the mean over all tokens."""
    return dict.fromkeys(languages, 1 / len(languages))


# ---- side by side --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One method and pattern on both sides: theirs, and what ours is called in the table."""

    peer: Peer
    asked: Asked
    methods: dict[str, Pruner]

    @classmethod
    def of(cls, peer: Peer, name: str, pattern: str) -> "Case":
        """From words."""
        method = Pruner.of(name, pattern)
        methods = {"ours": method}
        if isinstance(method.pattern, PerGroup):
            methods["their count"] = Pruner(name=name, pattern=TheirCount(*astuple(method.pattern)))
        return cls(peer, Asked.of(method.pattern), methods)


Compared = tuple[Masks, dict[str, Masks]]  # theirs; what is held against them, by name


def walked(case: Case, model: Model, blocks: Mapping[str, TokenBlocks]) -> Compared:
    """Both sides walk the whole model, each on its own."""
    ids_NT = torch.cat([each.ids_BT for each in blocks.values()])
    others = {name: ours(method, model, blocks) for name, method in case.methods.items()}
    others["reordered"] = theirs(case.peer, model, ids_NT.flip(0), case.asked)
    return theirs(case.peer, model, ids_NT, case.asked), others


@torch.no_grad()
def on_same_inputs(case: Case, model: Model, blocks: Mapping[str, TokenBlocks]) -> Compared:
    """Every block of all sides is given what our pressed blocks before it pass on."""
    walk = Walk(deepcopy(model))
    method = case.methods["ours"]
    published: Masks = {}
    others: dict[str, Masks] = {name: {} for name in (*case.methods, "reordered")}
    todo = feeding.batches(walk, blocks)
    for index in range(len(walk.blocks)):
        hidden_NTH = torch.cat([batch.hidden_BTH for batch in todo])
        given = (case.peer, walk.model, index)
        published |= theirs_of_block(*given, hidden_NTH, case.asked)
        others["reordered"] |= theirs_of_block(*given, hidden_NTH.flip(0), case.asked)
        moments, _ = feeding.gather(walk, index, list(todo), gram=method.needs_gram)
        for name, each in case.methods.items():
            others[name] |= ours_of_block(each, walk, index, moments)
        press.press_block(walk, index, moments, method, even(blocks), {})
        todo = feeding.pass_on(walk, index, todo)
    return published, others


@dataclass(frozen=True, slots=True)
class Counted:
    """How masks compare with the published ones."""

    entries: int
    differ: int
    published_prunes_more: int

    @property
    def agreement(self) -> float:
        """Per cent of entries that are alike."""
        return 100 * (1 - self.differ / self.entries)


def counted(published: Masks, other: Masks) -> dict[str, Counted]:
    """By linear, and over all linears under the name `all`."""
    pairs = {name: (mask_OI, other[name]) for name, mask_OI in published.items()}
    pairs["all"] = together(published), together({name: other[name] for name in published})
    return {
        name: Counted(a.numel(), int((a != b).sum()), int(a.sum()) - int(b.sum()))
        for name, (a, b) in pairs.items()
    }


def together(masks: Masks) -> Tensor:
    """All entries in one vector."""
    return torch.cat([mask_OI.flatten() for mask_OI in masks.values()])


# ---- the command ---------------------------------------------------------------------------


def samples(model: Opened, given: Namespace) -> dict[str, TokenBlocks]:
    """Equally many full blocks of every language. Raises BadCorpus where the text is short."""
    tags = select(given.languages)
    if given.samples * len(tags) > MOST_SAMPLES:
        raise BadSetting(
            f"{given.samples} samples of {len(tags)} languages are more than the {MOST_SAMPLES} "
            "that the published Wanda code holds: lower --samples."
        )
    blocks = build(
        open_corpus(given.data),
        model.tokenizer,
        tags,
        tokens=given.samples * given.length,
        length=given.length,
        seed=given.seed,
        count_special=True,
    ).blocks
    for tag, each in blocks.items():
        if not each.counted_BT.all():
            raise BadCorpus(f"{tag} does not fill its blocks: lower --samples or leave it out.")
    return blocks


KINDS = ("ours", "their count", "reordered")
LAYOUT = "{:10}{:9}{:12}{:>11}{:>13}{:>13}{:>13}"
Row = tuple[str, str, str]  # method, pattern, on what
Found = dict[Row, dict[str, dict[str, Counted]]]  # by row, what is held against it, linear


def line(row: Row, others: dict[str, dict[str, Counted]]) -> str:
    """A line of the table: the agreement over all linears, in per cent."""
    more = others["ours"]["all"].published_prunes_more
    cells = [f"{others[k]['all'].agreement:.4f}" if k in others else "" for k in KINDS]
    return LAYOUT.format(*row, f"{more:+d}", *cells)


def figures(found: Found) -> list[dict[str, Any]]:
    """The same for JSON, with every linear."""
    return [
        {"method": method, "pattern": pattern, "on": where, "held against": kind, "linear": linear}
        | asdict(each)
        | {"agreement": each.agreement}
        for (method, pattern, where), others in found.items()
        for kind, by_linear in others.items()
        for linear, each in by_linear.items()
    ]


def arguments() -> Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wanda", type=Path, required=True, help="folder of the published code")
    parser.add_argument("--sparsegpt", type=Path, required=True, help="the same")
    parser.add_argument("--model", required=True, help="a Llama: folder, hub id or babel-mini")
    parser.add_argument("--data", required=True, help="a corpus")
    parser.add_argument("--languages", default="eng,deu,swh,hin", help="in the corpus")
    parser.add_argument("--samples", type=int, default=16, help="of each language")
    parser.add_argument("--length", type=int, default=256, help="tokens in a sample")
    parser.add_argument("--seed", type=int, default=0, help="which text is taken")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    return parser.parse_args()


def main() -> None:
    """Run both sides, print the table, write the figures of every linear."""
    given = arguments()
    opened = open_model(given.model, dtype="float32")
    blocks = samples(opened, given)
    wanda, sparsegpt = published_wanda(given.wanda), published_sparsegpt(given.sparsegpt)
    found: Found = {}
    print(LAYOUT.format("method", "pattern", "on", "they prune", *KINDS), flush=True)
    for name, peer in {"wanda": wanda, "sparsegpt": sparsegpt}.items():
        for pattern in PATTERNS[name]:
            case = Case.of(peer, name, pattern)
            for where, compare in {"walk": walked, "same inputs": on_same_inputs}.items():
                row = name, pattern, where
                published, others = compare(case, opened.model, blocks)
                found[row] = {kind: counted(published, masks) for kind, masks in others.items()}
                print(line(row, found[row]), flush=True)
    settings = {name: vars(given)[name] for name in ("languages", "samples", "length", "seed")}
    about = {"model": weights_hash(opened.model), **settings}
    write_json(given.out, {**about, "agreement": figures(found)})


if __name__ == "__main__":
    try:
        main()
    except BabelpressError as error:
        sys.exit(f"masks.py: {error}")
