"""In which language a model goes on: the share of continuations in the prompt's own language.

A prompt is the beginning of a test document: 80 characters, never more than half of it. The model
writes `tokens` tokens after it, the likeliest one every time, and what it writes is in the language
of the prompt or not (_spoken.py: by its script, and by the package py3langid of the extra `audit`
where it is installed); one without a letter is not. A document counts as one. Multiple choice
cannot see a model drift into English; this can (Marchisio et al. 2024, arXiv:2406.20052, measure it
for prompts with instructions).

What is right is counted, so that a change relative to the dense model is of the larger part.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadSetting
from babelpress.evals import Detail, Document, unheard
from babelpress.evals._spoken import by, instead
from babelpress.evals._windows import prefix_of
from babelpress.evals._writing import Prompt, check_writes, write
from babelpress.models.tokenizers import encode
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text.continuing import beginning

METRIC = "own_language"
SPOKEN = "share of continuations in the prompt's language"
LOWER_IS_BETTER = False
ONE_SIDED = True

CHARACTERS = 80  # of a prompt, at most
LEAST = 2  # characters of a document that can be gone on with


def made_with(_options: Mapping[str, Any]) -> dict[str, str]:
    """Who tells languages apart."""
    return {"languages": by()}


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for no token to write."""
    tokens = options["tokens"]
    if not isinstance(tokens, int) or tokens < 1:
        raise BadSetting(f"tokens is {tokens}. It must be a whole number from 1.")


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    window: int,
    tokens: int = 48,
    memory_mb: int = 256,
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of documents gone on with in their language over documents, per language.

    A document of one character counts nothing. `detail` is told the share of continuations in every
    wrong language. Raises BadSetting where prompt and tokens do not fit the window, BadCorpus for a
    language without a document to go on with, BadModel for a model that does not write, NotFinite.
    """
    check({"tokens": tokens})
    check_writes(model)
    tallies = {}
    for tag, some in documents.items():
        places = [at for at, each in enumerate(some) if len(each.text.strip()) >= LEAST]
        if not places:
            raise BadCorpus(
                f"{tag} has no test document that a model could go on with. Leave the language out "
                "with --languages."
            )
        found = write(
            model,
            tokenizer,
            _prompts(tokenizer, tag, [some[place] for place in places], tokens, window),
            memory_mb=memory_mb,
            told=lambda done, total: progress("confusion", done, total),
        )
        wrong = [instead(tag, text) for text in found]
        own_D, counted_D = np.zeros((2, len(some)))
        own_D[places] = [not each for each in wrong]
        counted_D[places] = 1
        tallies[tag] = Tally(tuple(each.id for each in some), own_D, counted_D)
        others = Counter(filter(None, wrong))
        detail(tag, {f"in {name}": n / len(places) for name, n in sorted(others.items())})
    return tallies


def _prompts(
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    documents: Sequence[Document],
    tokens: int,
    window: int,
) -> list[Prompt]:
    texts = [each.text.strip() for each in documents]
    begun = [beginning(text, min(CHARACTERS, len(text) // 2)) for text in texts]
    first = prefix_of(tokenizer)
    front = [] if first is None else [first]
    prompts = [
        Prompt(f"document '{each.id}' of {tag}", [*front, *ids], tokens)
        for each, ids in zip(documents, encode(tokenizer, begun)["input_ids"], strict=True)
    ]
    longest = max(prompts, key=lambda each: len(each.ids))
    if len(longest.ids) + tokens > window:
        raise BadSetting(
            f"{longest.name} begins with {len(longest.ids)} tokens, and {tokens} more do not fit a "
            f"window of {window}. Give --option tokens={max(1, window - len(longest.ids))} or less."
        )
    return prompts
