"""Calibration text that the model writes itself, for languages of which there is none at hand.

Ancestral sampling (Williams et al. 2024, arXiv:2410.17170) at temperature 1, from a seed for each
language: BOS and the first PROMPT_TOKENS tokens of an embedded train sentence, or the language's
own name where no sentence is embedded. The paper starts from BOS alone, which in a multilingual
model gives its largest language nearly always.

Token ids are kept as they were sampled: decoded and encoded again they could differ.
Equal model, seed, batch and thread count give equal text.

Shapes: B documents at once, T positions, V vocabulary.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.models.tokenizers import Tokenizer, check_known, encode, vocabulary_of
from babelpress.text import languages as registry
from babelpress.text.continuing import before, go_on
from babelpress.text.corpus import Corpus, open_corpus

PROMPT_TOKENS = 4


def write(
    model: Any,
    tokenizer: Tokenizer,
    languages: Iterable[str],
    *,
    tokens: int,
    length: int,
    seed: int,
    top_p: float = 1.0,
    batch: int = 32,
) -> dict[str, list[list[int]]]:
    """Documents of at most `length` ids, at least `tokens` ids of each language, for `from_ids`.

    A document begins with its prompt, has no BOS and ends before EOS. `model` is a causal model of
    transformers. Raises NotFinite where the model gives no probabilities, BadModel where it has no
    embedding for a prompt.
    """
    if not (0 < top_p <= 1 and length > PROMPT_TOKENS and batch > 0):
        raise BadSetting(
            f"top_p={top_p}, length={length}, batch={batch} cannot be sampled with. Use 0 < top_p "
            f"<= 1, a length above {PROMPT_TOKENS} and a batch of at least 1."
        )
    examples = open_corpus("embedded")
    was_training = model.training
    model.eval()
    try:
        return {
            tag: _one_language(
                model,
                tokenizer,
                _prompts(examples, tokenizer, tag, seed, batch),
                tokens=tokens,
                length=length,
                top_p=top_p,
                generator=torch.Generator().manual_seed(_number(seed, tag)),
            )
            for tag in dict.fromkeys(languages)
        }
    finally:
        model.train(was_training)


def _one_language(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Iterator[list[list[int]]],
    *,
    tokens: int,
    length: int,
    top_p: float,
    generator: torch.Generator,
) -> list[list[int]]:
    eos = tokenizer.eos_token_id
    start = eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    known = vocabulary_of(model)
    draw = partial(_draw, top_p=top_p, generator=generator)
    documents: list[list[int]] = []
    have = 0
    while have < tokens:
        prompt_BT = torch.tensor(next(prompts))
        if start is not None:
            prompt_BT = torch.cat([prompt_BT.new_full((len(prompt_BT), 1), start), prompt_BT], 1)
        check_known(int(prompt_BT.max()), known, "the prompt of a text of its own")
        skipped = int(start is not None)
        ids_BT = go_on(model, prompt_BT, length + skipped, eos, draw)[:, skipped:]
        documents += [before(ids, eos) for ids in ids_BT.tolist()]
        have = sum(map(len, documents))
    return documents


def _draw(logits_BV: Tensor, *, top_p: float, generator: torch.Generator) -> Tensor:
    """One id a row, from the smallest set of likeliest ids whose probability reaches top_p."""
    probability_BV = logits_BV.softmax(dim=1)
    if top_p < 1:
        sorted_BV, order_BV = probability_BV.sort(dim=1, descending=True, stable=True)
        outside_BV = sorted_BV.cumsum(dim=1) - sorted_BV >= top_p
        kept_BV = sorted_BV.masked_fill(outside_BV, 0)
        probability_BV = torch.zeros_like(kept_BV).scatter(1, order_BV, kept_BV)
    return torch.multinomial(probability_BV, 1, generator=generator)


def _prompts(
    examples: Corpus, tokenizer: Tokenizer, tag: str, seed: int, batch: int
) -> Iterator[list[list[int]]]:
    """Batches of prompts of equal length, round and round."""
    texts = [registry.find(tag).autonym or registry.find(tag).name]
    if tag in examples.languages():
        found = [document.text for document in examples.documents(tag, "train")]
        texts = sorted(found, key=lambda text: _number(seed, text)) or texts
    encoded: Sequence[list[int]] = encode(tokenizer, texts)["input_ids"]
    beginnings = itertools.cycle([ids[:PROMPT_TOKENS] for ids in encoded if ids])
    while True:
        chosen = list(itertools.islice(beginnings, batch))
        shortest = min(map(len, chosen))
        yield [ids[:shortest] for ids in chosen]


def _number(seed: int, text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{text}".encode()).digest()[:8]) >> 1
