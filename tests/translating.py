"""A small M2M-100 with a tokenizer of NLLB's kind, and parallel text, for tests of translation."""

import json
from typing import Any

import pico
import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

from babelpress.models.open import Opened

CODES = ["eng_Latn", "swh_Latn", "hau_Latn"]
SENTENCES = {
    "en": ["water is life", "the child runs", "it rained", "we sing", "a dog", "come here now"],
    "sw": ["maji ni uhai", "mtoto anakimbia", "mvua ilinyesha", "tunaimba", "mbwa", "njoo hapa"],
    "ha": ["ruwa rai ne", "yaro yana gudu", "an yi ruwa", "muna waka", "kare", "zo nan yanzu"],
}


def tokenizer() -> Any:
    """One token a letter, and one for each of three languages."""
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz_"]
    words = ["<s>", "<pad>", "</s>", "<unk>", *letters]
    vocabulary = {token: number for number, token in enumerate(words)}
    return NllbTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=CODES)


def model(seed: int = 0) -> Any:
    """A random model for that tokenizer, loud enough that its source matters."""
    torch.manual_seed(seed)
    sizes = {**pico._BART, "vocab_size": len(tokenizer())}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    made = M2M100ForConditionalGeneration(M2M100Config(**{**sizes, **ids})).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return made


def opened() -> Opened:
    return Opened("m2m", model(), tokenizer(), torch.float32)


def record(number, text, split="train"):
    return {
        "id": f"s{number}",
        "src": "mine",
        "doc": f"d{number // 2}",
        "split": split,
        "text": text,
    }


def written(folder, test=2, **instead):
    """A corpus of six sentences in three documents a language, the last `test` of them test."""
    folder.mkdir(exist_ok=True)
    for language, texts in {**SENTENCES, **instead}.items():
        split = ["train"] * (len(texts) - test) + ["test"] * test
        rows = [record(n, *both) for n, both in enumerate(zip(texts, split, strict=True))]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{language}.jsonl").write_text(lines)
    return folder
