"""Text to training blocks for our models: pieces of documents, packed per language, in an order.

    python benchmarks/reference/blocks.py TEXT_FOLDER TOKENIZER.json OUT_FOLDER BLOCKS [LANGUAGES]

Writes ids.npy (N blocks of 256 tokens), order.npy (BLOCKS block numbers, at least N) and
shares.json (bytes and tokens of every language, counted on what is trained on: nothing is balanced,
nothing left out but the tail of a language's last block).

Language shares are the same at every moment of the training. The order is shuffled epochs, the last
of them in part, then a whole epoch that within each language runs from scripture to modern prose.
"""

import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from babelpress.text.corpus import Document, open_corpus
from babelpress.text.languages import select

LENGTH = 256  # tokens in a block
PIECE = (2, 8)  # records of one document in a piece: evaluation documents have about four


EDGES = (("<|bos|>", "<|eos|>"), ("<s>", "</s>"))  # around a piece: of babel-mini, of its encoder


def pieces(document: Document, rng: random.Random) -> list[str]:
    """Cut a document into pieces of a few records: books are long, evaluation texts short."""
    records = document.text.split("\n")
    cut: list[str] = []
    while records:
        size = rng.randint(*PIECE)
        cut.append("\n".join(records[:size]))
        records = records[size:]
    return cut


def _edges(tokenizer: Tokenizer) -> Iterator[list[int | None]]:
    for names in EDGES:
        yield [tokenizer.token_to_id(name) for name in names]


def language_blocks(
    documents: list[Document], tokenizer: Tokenizer, seed: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """Blocks (N, LENGTH), whether each is mostly scripture, and the bytes of text."""
    rng = random.Random(seed)
    bos, eos = next(pair for pair in _edges(tokenizer) if None not in pair)
    texts = [(p, d.src == "bible") for d in documents for p in pieces(d, rng)]
    rng.shuffle(texts)
    texts.sort(key=lambda item: item[1])  # so that a block holds one kind of text
    encoded = tokenizer.encode_batch([t for t, _ in texts], add_special_tokens=False)
    stream: list[int] = []
    kinds: list[bool] = []
    for (_, scripture), piece in zip(texts, encoded, strict=True):
        ids = [bos, *piece.ids, eos]
        stream += ids
        kinds += [scripture] * len(ids)
    count = len(stream) // LENGTH
    ids_NT = np.array(stream[: count * LENGTH], dtype=np.uint16).reshape(count, LENGTH)
    scripture_N = np.array(kinds[: count * LENGTH]).reshape(count, LENGTH).mean(1) > 0.5
    return ids_NT, scripture_N, sum(len(t.encode()) for t, _ in texts)


def epoch(scripture_per_language: list[np.ndarray], rng: np.random.Generator, *, late: float):
    """One pass over all blocks: every language evenly spread, modern prose `late` within it."""
    times, first = [], 0
    numbers = []
    for scripture_N in scripture_per_language:
        key_N = rng.random(len(scripture_N)) + np.where(scripture_N, 0.0, late)
        rank_N = key_N.argsort().argsort()
        times.append((rank_N + rng.random(len(rank_N))) / len(rank_N))
        numbers.append(first + np.arange(len(rank_N)))
        first += len(rank_N)
    return np.concatenate(numbers)[np.concatenate(times).argsort(kind="stable")]


def main(text: str, tokenizer_file: str, out: str, num_blocks: str, tags: str = "") -> None:
    corpus, tokenizer = open_corpus(text), Tokenizer.from_file(tokenizer_file)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    blocks, kinds, shares = [], [], {}
    for language in select(tags) if tags else corpus.languages():
        documents = corpus.documents(language, "train")
        ids_NT, scripture_N, num_bytes = language_blocks(documents, tokenizer, f"0/{language}")
        blocks.append(ids_NT)
        kinds.append(scripture_N)
        shares[language] = {"bytes": num_bytes, "tokens": int(ids_NT.size)}
        print(language, *shares[language].values(), f"{scripture_N.mean():.2f}", flush=True)
    rng = np.random.default_rng(0)
    before = int(num_blocks) - sum(map(len, kinds))
    times = max(1, math.ceil(before / sum(map(len, kinds))))
    shuffled = np.concatenate([epoch(kinds, rng, late=0.0) for _ in range(times)])
    order = np.concatenate([shuffled[:before], epoch(kinds, rng, late=0.5)])
    np.save(folder / "ids.npy", np.concatenate(blocks))
    np.save(folder / "order.npy", order.astype(np.int32))
    (folder / "shares.json").write_text(json.dumps(shares, indent=1))
    print(len(order), "blocks,", len(order) * LENGTH, "tokens")


if __name__ == "__main__":
    main(*sys.argv[1:])
