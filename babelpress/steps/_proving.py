"""What a trimmed model does with text that was not counted, beside what it did before.

Pieces of held-out text before and after, in every language; and of a run of kept tokens of those
that were asked for, states before the head and logits, which are to be equal bit for bit. A state
is computed from the same rows by the same products. Logits are rows of a product that is less wide;
a library may sum such a product in another order, so it is measured.

Tested in tests/steps/test_proving.py.

Shapes: T tokens, V tokens of the vocabulary before, K after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from babelpress.errors import BadCorpus
from babelpress.models.accepted import decodes
from babelpress.models.open import Opened
from babelpress.models.tokenizers import Tokenizer, encode, vocabulary_of
from babelpress.system.progress import Progress
from babelpress.text import usage
from babelpress.text.corpus import Corpus
from babelpress.trim._rules import Rewritten

RUN = 48  # tokens of a language that logits are compared on
LINES = 500  # of a language that are read before and after


@dataclass(frozen=True, slots=True)
class Seen:
    """Held-out text of a language, its ids before, and what the model made of a run of them.

    `split` says which text it is.
    """

    split: str
    texts: tuple[str, ...]
    ids: tuple[list[int], ...]
    run: tuple[int, ...]
    passed: "Passed | None"


@dataclass(frozen=True, slots=True)
class Passed:
    """States before the head, logits of kept tokens where there are any, and loss by token."""

    states: Tensor
    logits: Tensor | None
    nats: Tensor | None


def held_out(
    opened: Opened, corpus: Corpus, asked: Sequence[str], made: Rewritten, progress: Progress
) -> tuple[dict[str, Seen], list[str]]:
    """What the model makes of text that was not counted, and the languages without any.

    Every language there is, those that were `asked` for first; of these a broken file is an error.
    """
    others = [tag for tag in corpus.languages() if tag not in asked]
    if corpus.name.startswith("hub:"):
        others = []  # they would be fetched for this alone
    rows, tags = vocabulary_of(opened.model), [*asked, *others]
    new = {old: number for old, number in made.new.items() if old < rows}
    found: dict[str, Seen] = {}
    progress("read held-out text: language", 0, len(tags))
    for done, tag in enumerate(tags, 1):
        wanted = tag in asked
        split, texts = _lines(corpus, tag, asked=wanted)
        if texts:
            found[tag] = before(opened, split, texts, new, asked=wanted)
        progress("read held-out text: language", done, len(tags))
    return found, [tag for tag in tags if tag not in found]


def _lines(corpus: Corpus, tag: str, *, asked: bool) -> tuple[str, list[str]]:
    """Held-out lines; of a language that nobody asked for a broken file has none."""
    try:
        return usage.held_out(corpus, tag, LINES)
    except BadCorpus:
        if asked:
            raise
        return "", []


def held(
    found: Opened,
    opened: Opened,
    seen: Mapping[str, Seen],
    made: Rewritten,
    rows: int,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """What became of that text; `opened` has the tokenizer that was, of so many `rows`."""
    new = {old: number for old, number in made.new.items() if old < rows}
    told: dict[str, dict[str, Any]] = {}
    progress("prove: language", 0, len(seen))
    for done, (tag, each) in enumerate(seen.items(), 1):
        told[tag] = after(found, opened.tokenizer, each, new)
        if each.passed is not None:
            told[tag]["logits"]["rounding"] = _rounding(each.passed.logits)
        progress("prove: language", done, len(seen))
    return told


def _rounding(logits: torch.Tensor | None) -> float:
    """How far apart sums of the same products in another order may be."""
    if logits is None:
        return 0.0
    step = max(2 * torch.finfo(logits.dtype).eps, 64 * torch.finfo(torch.float32).eps)
    return step * float(logits.abs().max())


def before(
    opened: Opened,
    split: str,
    texts: Sequence[str],
    new: Mapping[int, int],
    *,
    asked: bool,
) -> Seen:
    """What is known of a language before the model is trimmed; `new` are the ids that stay."""
    ids = encode(opened.tokenizer, texts)["input_ids"]
    run = longest_run(ids, new) if asked else ()
    begin: Any = opened.tokenizer.bos_token_id
    if run and begin in new:  # without it a decoder may say next to nothing
        run = (begin, *run)
    passed = _pass(opened.model, run, kept=list(new)) if run else None
    return Seen(split, tuple(texts), tuple(ids), run, passed)


def longest_run(ids: Sequence[Sequence[int]], new: Mapping[int, int]) -> tuple[int, ...]:
    """The first RUN kept tokens in a row of a line, or else the most that there are."""
    best: list[int] = []
    for line in ids:
        run: list[int] = []
        for each in line:
            run = [*run, each] if each in new else []
            if len(run) > len(best):
                best = run
            if len(best) == RUN:
                return tuple(best)
    return tuple(best)


@torch.inference_mode()
def _pass(model: PreTrainedModel, run: Sequence[int], *, kept: Sequence[int] | None) -> Passed:
    """A pass over a run of ids; of its logits those of `kept` tokens, or all."""
    ids_1T = torch.tensor([list(run)], device=model.device)
    sides: dict[str, Any] = {"attention_mask": torch.ones_like(ids_1T)}
    if model.config.is_encoder_decoder:
        sides["decoder_input_ids"] = ids_1T
    asked: Any = model
    found = asked(ids_1T, use_cache=False, output_hidden_states=True, **sides)
    every = found.get("decoder_hidden_states") or found["hidden_states"]
    logits_TV = found.get("logits")
    if logits_TV is None or logits_TV.shape[-1] != vocabulary_of(model):
        return Passed(every[-1][0].cpu(), None if logits_TV is None else logits_TV[0].cpu(), None)
    logits_TV = logits_TV[0].cpu()
    nats = _nats(logits_TV, run) if decodes(model.config.to_dict()) else None
    columns = logits_TV if kept is None else logits_TV[:, list(kept)]
    return Passed(every[-1][0].cpu(), columns, nats)


def _nats(logits_TV: Tensor, run: Sequence[int]) -> Tensor:
    """The negative log-likelihood of every token but the first, in double precision."""
    rows = zip(logits_TV[:-1], run[1:], strict=True)
    return torch.stack([row.double().logsumexp(0) - row[number].double() for row, number in rows])


def after(opened: Opened, old: Tokenizer, seen: Seen, new: Mapping[int, int]) -> dict[str, Any]:
    """What became of it, as the report keeps it; `old` is the tokenizer before.

    `whole` are lines whose pieces are all kept, `same` those that have the same pieces now,
    `odd` those of the first that are not of the second, `read` those that decode to the same text.
    """
    ids = encode(opened.tokenizer, seen.texts)["input_ids"]
    whole = [all(each in new for each in one) for one in seen.ids]
    same = [
        kept and [new[each] for each in one] == other
        for one, other, kept in zip(seen.ids, ids, whole, strict=True)
    ]
    read = [
        old.decode(one) == opened.tokenizer.decode(other)
        for one, other in zip(seen.ids, ids, strict=True)
    ]
    size = sum(len(text.encode()) for text in seen.texts)
    tokens = sum(map(len, seen.ids))
    return {
        "split": seen.split,
        "lines": len(seen.texts),
        "tokens": tokens,
        "coverage": sum(each in new for one in seen.ids for each in one) / max(1, tokens),
        "whole": sum(whole),
        "same": sum(same),
        "odd": sum(w and not s for w, s in zip(whole, same, strict=True)),
        "read": sum(read),
        "tokens_per_byte": [tokens / size, sum(map(len, ids)) / size],
        "unknown": [_unknown(old, seen.ids), _unknown(opened.tokenizer, ids)],
        "logits": None if seen.passed is None else _compared(opened, seen, seen.passed, new),
    }


def _unknown(tokenizer: Tokenizer, ids: Sequence[Sequence[int]]) -> float:
    unknown = tokenizer.unk_token_id
    return sum(list(one).count(unknown) for one in ids) / max(1, sum(map(len, ids)))


def _compared(opened: Opened, seen: Seen, passed: Passed, new: Mapping[int, int]) -> dict[str, Any]:
    """Numbers before and after; `rose` counts tokens that are less likely than they were."""
    now = _pass(opened.model, [new[each] for each in seen.run], kept=None)
    found: dict[str, Any] = {
        "tokens": len(seen.run),
        "states": torch.equal(now.states, passed.states),
        "numbers": 0,
        "equal": 0,
        "apart": 0.0,
        "rose": 0,
        "nats": [],
    }
    if now.logits is not None and passed.logits is not None:
        apart = (now.logits.double() - passed.logits.double()).abs()
        found |= {
            "numbers": now.logits.numel(),
            "equal": int((now.logits == passed.logits).sum()),
            "apart": float(apart.max()),
        }
    if now.nats is not None and passed.nats is not None and len(now.nats):
        limit = 2 * found["apart"]  # what logits that are not equal may change
        found |= {
            "rose": int((now.nats > passed.nats + limit).sum()),
            "nats": [float(passed.nats.mean()), float(now.nats.mean())],
        }
    return found
