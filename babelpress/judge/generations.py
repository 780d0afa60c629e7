"""What a model writes after the beginning of a test document, one for each language.

    generations.jsonl   language, corpus, document, prompt, text, reference, weights, by line

The likeliest token is taken every time, so that equal models write equal text, and a dense and a
pressed one can be read side by side. `text` is what the model wrote, `reference` what the document
goes on with; `weights` say which model it was. Every line has a seal.

Shapes: B texts of one length at once, T positions, V vocabulary.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals import Document
from babelpress.evals._windows import prefix_of
from babelpress.judge.written import FILE, Generation, read
from babelpress.models.open import Opened
from babelpress.models.tokenizers import Tokenizer, check_known, encode, vocabulary_of
from babelpress.models.weights import weights_hash
from babelpress.system.claims import held
from babelpress.system.files import seal, write_text
from babelpress.system.progress import Progress, silent
from babelpress.text.continuing import before, beginning, go_on
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import fitting_length, languages_of

PROMPT = 80  # characters that the model is given, at most; never more than half of the document
SHOWN = 160  # characters that are kept of how the document goes on
ROOM = 1024  # positions that are asked of a model at most


def check_writes(opened: Opened) -> None:
    """Raise BadModel for a model that does not go on from the beginning of a text."""
    if opened.model.config.is_encoder_decoder:
        raise BadModel(
            f"{opened.name} is an encoder-decoder, which writes a text from another one and goes "
            "on from none. Leave --generate out; what it writes is scored with --on translate."
        )


def keep(
    opened: Opened,
    out: Path,
    corpus: str,
    languages: Sequence[str],
    *,
    tokens: int,
    progress: Progress = silent,
) -> list[Generation]:
    """Have a model write `tokens` tokens in every language, and keep it beside its scores.

    What another model wrote is dropped; of this one the languages that are not asked for stay.
    Raises BadSetting for tokens that the model has no room for, BadCorpus where no test document
    is long enough, NotFinite where the model gives no numbers.
    """
    room = fitting_length(opened, ROOM)
    if not 0 < tokens < room:
        raise BadSetting(f"generate is {tokens}. It must be 1 to {room - 1} tokens of this model.")
    texts = open_corpus(corpus)
    tags = languages_of(texts, languages)
    texts.require(tags)
    weights = weights_hash(opened.model)
    new: list[Generation] = []
    for done, tag in enumerate(tags, 1):
        document = _long_enough(tag, texts.documents(tag, "test"))
        new.append(_write(opened, tag, texts.name, document, weights, tokens, room))
        progress("generate", done, len(tags))
    with held(out):
        replaced = {(each.corpus, each.language) for each in new}
        others = [
            each
            for each in read(out)
            if each.weights == weights and (each.corpus, each.language) not in replaced
        ]
        _save(out, [*others, *new])
    return new


def _write(
    opened: Opened,
    tag: str,
    corpus: str,
    document: Document,
    weights: str,
    tokens: int,
    room: int,
) -> Generation:
    prompt, ids = _prompt(opened, document.text, room - tokens)
    tokenizer: Tokenizer = opened.tokenizer
    check_known(max(ids), vocabulary_of(opened.model), f"a test document of {tag}")
    found_BT = go_on(
        opened.model, torch.tensor([ids]), len(ids) + tokens, tokenizer.eos_token_id, _likeliest
    )
    written = before(found_BT[0, len(ids) :].tolist(), tokenizer.eos_token_id)
    return Generation(
        language=tag,
        corpus=corpus,
        document=document.id,
        prompt=prompt,
        text=str(tokenizer.decode(written, skip_special_tokens=True)),
        reference=document.text[len(prompt) :][:SHOWN],
        weights=weights,
    )


def _prompt(opened: Opened, text: str, room: int) -> tuple[str, list[int]]:
    """The beginning of a text and its ids, after BOS, else EOS, as they are scored."""
    first = prefix_of(opened.tokenizer)
    prompt = beginning(text, min(PROMPT, len(text) // 2))
    while True:
        (ids,) = encode(opened.tokenizer, [prompt])["input_ids"]
        whole = [*([] if first is None else [first]), *ids]
        if len(whole) <= room or len(prompt) < 2:
            return prompt, whole
        prompt = prompt[: len(prompt) // 2]


def _long_enough(tag: str, documents: Iterable[Document]) -> Document:
    for document in documents:
        if len(document.text.strip()) > 1:
            return document
    raise BadCorpus(
        f"{tag} has no test document that a model could go on with. Leave the language out with "
        "--languages."
    )


def _likeliest(logits_BV: Tensor) -> Tensor:
    return logits_BV.argmax(dim=1, keepdim=True)


def _save(out: Path, found: Sequence[Generation]) -> None:
    ordered = sorted(found, key=lambda each: (each.corpus, each.language))
    rows = [json.dumps(seal(each.row()), ensure_ascii=False, sort_keys=True) for each in ordered]
    write_text(out / FILE, "".join(row + "\n" for row in rows))
