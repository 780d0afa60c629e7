"""How often text uses each token: against a plain loop, and of train documents alone."""

import json
from collections import Counter

import pico
import pytest
import trimming

from babelpress.errors import BadCorpus
from babelpress.models.tokenizers import encode
from babelpress.text import usage
from babelpress.text.corpus import open_corpus


@pytest.fixture
def corpus(tmp_path):
    rows = [("train", "aab\n\nb"), ("train", "a"), ("valid", "x\n \ny"), ("test", "z")]
    lines = [json.dumps({"id": f"{n}", "split": s, "text": t}) for n, (s, t) in enumerate(rows)]
    (tmp_path / "sw.jsonl").write_text("\n".join(lines))
    (tmp_path / "fr.jsonl").write_text('{"text": "q", "split": "test"}')
    return open_corpus(str(tmp_path))


def test_train_documents_alone_are_counted(corpus):
    tokenizer = pico.tokenizer()

    counts, read = usage.counted(tokenizer, corpus, "swh_Latn")

    named = {tokenizer.convert_ids_to_tokens(number): count for number, count in counts.items()}
    assert named == {"a": 3, "b": 2, "Ċ": 2}
    assert read == {"documents": 2, "bytes": 7, "tokens": 7}


def test_counts_of_many_texts_are_those_of_a_plain_loop(monkeypatch):
    monkeypatch.setattr(usage, "BATCH", 7)
    tokenizer, texts = trimming.tokenizer("unigram"), trimming.lines()[:40]
    expected = Counter()
    for text in texts:
        for number in encode(tokenizer, [text])["input_ids"][0]:
            expected[number] += 1

    assert usage.counts_of(tokenizer, texts) == expected


def test_lines_that_were_not_counted_are_valid_ones_or_else_test_ones(corpus):
    assert usage.held_out(corpus, "swh_Latn", 5) == ("valid", ["x", "y"])
    assert usage.held_out(corpus, "swh_Latn", 1) == ("valid", ["x"])
    assert usage.held_out(corpus, "fra_Latn", 5) == ("test", ["q"])


def test_a_language_without_train_text_is_one_line(corpus):
    with pytest.raises(BadCorpus, match="has no train text in fra_Latn to count pieces of"):
        usage.counted(pico.tokenizer(), corpus, "fra_Latn")
