"""How often text of a language uses each token: what a vocabulary is trimmed by.

Read are the train documents; nothing of a test split is ever counted.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from babelpress.errors import BadCorpus
from babelpress.models.tokenizers import Tokenizer, encode
from babelpress.text.corpus import Corpus
from babelpress.text.readers import listed

BATCH = 256  # documents that are read as tokens at once


def counted(tokenizer: Tokenizer, corpus: Corpus, tag: str) -> tuple[Counter[int], dict[str, int]]:
    """Times that each token id is used in train text, and what there was of documents and bytes.

    Raises BadCorpus where a language has no train text, or the tokenizer sees none of it.
    """
    documents = corpus.documents(tag, "train")
    if not documents:
        raise BadCorpus(
            f"{corpus.name} has no train text in {tag} to count pieces of; it has "
            f"{listed(corpus.languages())}. Add some, or leave it out of --languages."
        )
    counts = counts_of(tokenizer, [each.text for each in documents])
    if not counts:
        raise BadCorpus(
            f"the tokenizer drops every character of {tag}. Leave the language out, or take a "
            "model that was made for it."
        )
    size = sum(len(each.text.encode()) for each in documents)
    return counts, {"documents": len(documents), "bytes": size, "tokens": counts.total()}


def counts_of(tokenizer: Tokenizer, texts: Sequence[str]) -> Counter[int]:
    """Times that each token id is used in some texts, without those around them."""
    found: Counter[int] = Counter()
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        found.update(chain.from_iterable(encode(tokenizer, batch)["input_ids"]))
    return found


def held_out(corpus: Corpus, tag: str, most: int) -> tuple[str, list[str]]:
    """The first lines of text that was not counted: of valid documents, without any of test ones.

    Which split they are of comes with them; without any it is "". No more is read than it takes.
    """
    found: dict[str, list[str]] = {"valid": [], "test": []}
    for each in corpus.sentences(tag):
        if each.split in found:
            found[each.split] += [line for line in each.text.splitlines() if line.strip()]
        if len(found["valid"]) >= most:
            break
    split = next((name for name, lines in found.items() if lines), "")
    return split, found.get(split, [])[:most]
