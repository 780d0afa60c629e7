"""Make the model and the tokens that every side of the speed benchmark is given.

    python benchmarks/speed/shape.py --out FOLDER [--hidden 768] [--blocks 12] [--samples 128]

A Llama with random weights (hidden 768, intermediate 2048, 12 blocks, 12 heads, vocabulary 32,000,
bfloat16: 135 M parameters) as an ordinary transformers folder with a tokenizer of whole words that
stand for themselves, and `tokens.safetensors` with `ids` (samples, length). Equal arguments give
equal bytes with equal versions of torch. Residual outputs are scaled down with depth as in
training, so that activations of the last block are finite and of ordinary size.

Shapes: N samples, T tokens of a sample.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<bos>", "<eos>", "<pad>")
TOKENS = "tokens.safetensors"
HEAD = 64  # width of an attention head
SPREAD = 0.02  # standard deviation of the weights


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model and its tokens look like; the intermediate size is 8/3 of hidden, in 128s."""

    hidden: int = 768
    blocks: int = 12
    vocabulary: int = 32_000
    samples: int = 128
    length: int = 512
    seed: int = 0

    @property
    def intermediate(self) -> int:
        """2048 for 768."""
        return self.hidden * 8 // 3 // 128 * 128

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.samples * self.length


def make(shape: Shape, folder: Path) -> Path:
    """The folder, made where it is not there yet."""
    if (folder / TOKENS).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    model(shape).save_pretrained(folder)
    tokenizer(shape).save_pretrained(folder)
    save_file({"ids": ids(shape)}, folder / TOKENS)  # last: its presence means done
    return folder


def model(shape: Shape) -> LlamaForCausalLM:
    """Random weights."""
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.hidden // HEAD,
        num_key_value_heads=shape.hidden // HEAD,
        vocab_size=shape.vocabulary,
        max_position_embeddings=max(2048, shape.length),
        tie_word_embeddings=False,
        initializer_range=SPREAD,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(shape.seed)
    made: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.div_((2 * shape.blocks) ** 0.5)
    return made.to(torch.bfloat16)


def tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    """Every id is a word of its own; nobody tokenises here, but everybody wants a tokenizer."""
    words = [*SPECIAL, *(f"w{index}" for index in range(len(SPECIAL), shape.vocabulary))]
    whole = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=SPECIAL[2]))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=whole, **named)


def ids(shape: Shape) -> Tensor:
    """Token ids (N, T): BOS, then words of which a few are frequent, as in text."""
    lot = torch.Generator().manual_seed(shape.seed + 1)
    draw_NT = torch.rand(shape.samples, shape.length, generator=lot, dtype=torch.float64)
    words = shape.vocabulary - len(SPECIAL)
    ids_NT = (words**draw_NT).long().clamp(max=words) + len(SPECIAL) - 1
    ids_NT[:, 0] = 0
    return ids_NT


def load_ids(folder: Path, samples: int) -> Tensor:
    """The first samples of a folder."""
    return load_file(folder / TOKENS)["ids"][:samples]


def main() -> None:
    """Make one folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    for field in fields(Shape):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    out = given.pop("out")
    print(make(Shape(**given), out))


if __name__ == "__main__":
    main()
