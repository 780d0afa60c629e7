"""The proof of a trimming: what it finds, and that it would notice a wrong row."""

import math

import pytest
import small
import torch

from babelpress.models import vocabulary
from babelpress.steps import _proving

TEXTS = ["the rain in Spain", "ju juu ju", "a"]


def kept_of(opened, *, without=()):
    """All tokens but some, by their new ids."""
    rows = vocabulary.vocabulary_of(opened.model)
    old = [each for each in range(rows) if each not in without]
    return {each: number for number, each in enumerate(old)}


def proof(opened, seen, new, *, spoil=None):
    """After the rows of the others went; the tokenizer is the old one, whose ids are the new."""
    vocabulary.keep_rows(opened.model, list(new))
    if spoil is not None:
        opened.model.lm_head.weight.data[spoil] += 1
    return _proving._compared(opened, seen, seen.passed, new)


def test_nothing_is_lost_of_a_run_whose_tokens_are_kept():
    opened = small.opened()
    new = kept_of(opened, without=(266, 267, 268))
    seen = _proving.before(opened, "valid", TEXTS, new, asked=True)
    logits = opened.model(torch.tensor([seen.run])).logits[0].double().tolist()

    found = proof(opened, seen, new)

    assert seen.run[0] == opened.tokenizer.bos_token_id
    assert found["tokens"] == len(seen.run) == 1 + 17
    assert found["states"] is True
    assert found["equal"] == found["numbers"] == len(seen.run) * len(new)
    assert found["rose"] == 0
    # the definition, a token at a time
    for which, columns in enumerate((range(270), list(new))):
        nats = [
            math.log(sum(math.exp(row[c]) for c in columns)) - row[seen.run[place + 1]]
            for place, row in enumerate(logits[:-1])
        ]
        assert found["nats"][which] == pytest.approx(sum(nats) / len(nats), abs=1e-5)
    assert found["nats"][1] < found["nats"][0]


def test_a_wrong_row_is_noticed():
    opened = small.opened()
    new = kept_of(opened, without=(266,))
    seen = _proving.before(opened, "valid", TEXTS, new, asked=True)

    found = proof(opened, seen, new, spoil=5)

    assert found["states"] is True
    assert found["numbers"] - found["equal"] == len(seen.run)
    assert found["apart"] > 1e-3


def test_the_longest_run_of_kept_tokens_is_taken():
    new = {1: 0, 2: 1, 3: 2}

    assert _proving.longest_run([[1, 9, 2, 3], [3, 3, 3, 9, 1]], new) == (3, 3, 3)
    assert _proving.longest_run([[9], []], new) == ()
    assert _proving.longest_run([[2] * 100], new) == (2,) * _proving.RUN


def test_lines_are_told_apart_by_whether_their_pieces_are_kept():
    """juu has a piece of its own, which is gone: that line is read as more."""
    opened = small.opened()
    gone = opened.tokenizer.convert_tokens_to_ids("juu")
    new = kept_of(opened, without=(gone,))
    seen = _proving.before(opened, "valid", TEXTS, new, asked=False)
    assert seen.passed is None

    found = _proving.after(opened, opened.tokenizer, seen, new)

    assert (found["lines"], found["whole"]) == (3, 2)
    assert found["logits"] is None
    size = sum(map(len, TEXTS))
    tokens = sum(map(len, seen.ids))
    assert found["coverage"] == 1 - 1 / tokens
    assert found["tokens_per_byte"] == [tokens / size] * 2
    assert found["read"] == 3
