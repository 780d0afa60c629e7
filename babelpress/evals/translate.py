"""Translation: how like the reference a model translates into and out of English from examples.

The model is shown `shots` sentences with their translations and then one without, and writes its
translation. `metric=chrf` is the mean over sentences of chrF++ (Popović 2017: character 6-grams,
word 2-grams, β = 2), `bleu` that of BLEU (effective order, exponential smoothing), both from 0 to
100 as sacrebleu has them; `on_target` is the share of translations in the language asked for, by
script and, with the extra `audit`, by an identifier (_spoken.py). `into=english` translates into
English, `language` out of it, and `both` is the mean over the sentences of both directions.

Examples are the first pairs of the train split of the corpus, else of its test split, which then
are not scored (_parallel.py); 8 are set aside whatever `shots` is. A corpus needs English, and
sentences with the ids of English ones, as FLORES has them.

The prompt, of which the last line is to be ended:

    Swahili: …
    English: …

    Swahili: …
    English:

An encoder-decoder is shown no examples, whatever `shots` is: it reads the sentence with the marks
of both languages that its tokenizer has (text/marks.py), and its translation is what it writes of
it by itself.

The likeliest token is taken every time, to the end of the line, EOS, or a cap: twice the tokens
that the sentence would have in translation by the longest ratio of the examples, and 16.

The score of a whole corpus is no ratio of two sums over sentences, so it cannot be drawn by
document. It is what is published mostly, and is told beside, as `corpus`. The off-target rate of
Mohammadshahi et al. (2022, arXiv:2205.10828) is 1 − `on_target`, and is told beside every score; an
empty translation is in no language. What is right is tallied because a dense model often has no
output off target, and then there is no relative change to give.

Words of BLEU are those of sacrebleu's 13a, single characters where a script puts no space between
words, and its `zh` for Chinese.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadSetting, MissingPackage
from babelpress.evals import Detail, unheard
from babelpress.evals._parallel import Pair, PairedDocument, Parallel, open_parallel
from babelpress.evals._spoken import by, instead
from babelpress.evals._translating import translated
from babelpress.evals._windows import prefix_of
from babelpress.evals._writing import Prompt, check_writes, write
from babelpress.models.tokenizers import encode
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text import languages
from babelpress.text.languages import ENGLISH, INTO, sides
from babelpress.text.marks import Marks

METRIC = "chrf"
SPOKEN = "translation score"
LOWER_IS_BETTER = False
ONE_SIDED = True
PAIRED = True
COMPARED_WITH = "eng_Latn"

METRICS = ("chrf", "bleu", "on_target")
DIRECTIONS = ("english", "language", "both")
ASIDE = 8  # pairs that are set aside as examples
SPARE = 16  # tokens that a translation may have beyond twice its expected length
BEGIN = 2  # tokens that a translation may begin with: the decoder's first, and a language's
# How BLEU parts words in scripts that put no space between them; others as 13a.
WORDS = {
    "Hans": "zh",
    "Hant": "zh",
    "Jpan": "char",
    "Khmr": "char",
    "Laoo": "char",
    "Mymr": "char",
    "Thai": "char",
    "Tibt": "char",
}


def texts(corpus: str) -> Parallel:
    """Pairs of every language with English, of the test split of a corpus."""
    return open_parallel(corpus, examples=ASIDE)


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for a metric or a direction that is none, or too many examples."""
    _check(options["metric"], options["into"], options["shots"])


def made_with(options: Mapping[str, Any]) -> dict[str, str]:
    """How translations are written, who tells languages, and the signatures of sacrebleu, one for
    each way to part words.
    """
    check(options)
    found = {"search": "likeliest token", "languages": by()}
    if options["metric"] == "on_target":
        return found
    signatures = []
    for script in ("Latn", *(WORDS if options["metric"] == "bleu" else ())):
        scorer = _scorer(options["metric"], script)
        scorer.sentence_score("a", ["a"])  # only then does it know how many references there are
        signatures.append(str(scorer.get_signature()))
    return {"sacrebleu": " ".join(dict.fromkeys(signatures)), **found}


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[PairedDocument]],
    *,
    window: int,
    metric: str = METRIC,
    into: str = "english",
    shots: int = 4,
    memory_mb: int = 256,
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of sentence scores over sentences per language.

    `into` is english, language or both. `detail` is told, by direction, the score of the corpus as
    a whole, the off-target rate and the share of translations in every wrong language. Raises
    BadSetting for options out of range or a prompt that does not fit the window, BadModel for a
    model that does not write, NotFinite naming the document.
    """
    _check(metric, into, shots)
    pair = model.config.is_encoder_decoder
    if not pair:
        check_writes(model)
    tallies = {}
    for tag, some in documents.items():
        tasks = _tasks(tag, some, into)
        given: dict[str, Any] = {
            "memory_mb": memory_mb,
            "told": lambda done, total: progress("translate", done, total),
        }
        if pair:
            found = _by_pairs(model, tokenizer, tasks, some[0].examples, window, given)
        else:
            prompts = _prompts(tokenizer, tasks, some[0].examples, shots, window)
            found = write(model, tokenizer, prompts, line=True, **given)
        wrong = [instead(task.target, text) for task, text in zip(tasks, found, strict=True)]
        tallies[tag] = _tally(some, tasks, _scores(metric, tasks, found, wrong))
        detail(tag, _parts(metric, tasks, found, wrong))
    return tallies


def _check(metric: object, into: object, shots: object) -> None:
    for name, value, allowed in (("metric", metric, METRICS), ("into", into, DIRECTIONS)):
        if value not in allowed:
            raise BadSetting(
                f"translate has no {name} '{value}'. Choose one of {', '.join(allowed)}."
            )
    if not isinstance(shots, int) or not 0 <= shots <= ASIDE:
        raise BadSetting(f"shots is {shots}. It must be a whole number from 0 to {ASIDE}.")


@dataclass(frozen=True, slots=True)
class _Task:
    """One sentence to translate from a language into another; `document` is its place."""

    document: int
    name: str
    source: str
    target: str
    text: str
    reference: str


def _tasks(tag: str, documents: Sequence[PairedDocument], into: str) -> list[_Task]:
    found = []
    for place, document in enumerate(documents):
        for pair in document.pairs:
            name = f"'{pair.id}' of {tag}"
            if into != "language":
                found.append(_Task(place, name, tag, ENGLISH, pair.text, pair.english))
            if into != "english":
                found.append(_Task(place, name, ENGLISH, tag, pair.english, pair.text))
    return found


# ---- prompts -------------------------------------------------------------------------------


def _prompts(
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[_Task],
    examples: Sequence[Pair],
    shots: int,
    window: int,
) -> list[Prompt]:
    """What the model is to go on with, sentence by sentence, each with its cap.

    Raises BadSetting where there are fewer examples, or a prompt and its translation do not fit.
    """
    if shots > len(examples):
        raise BadSetting(
            f"shots is {shots}, and there are {len(examples)} pairs to be examples of "
            f"{tasks[0].name.partition(' of ')[2]}. Give --option shots={len(examples)} or less."
        )
    prompts = _with(tokenizer, tasks, examples[:shots], examples)
    worst = max(prompts, key=_size)
    if _size(worst) > window:
        fitting = (
            fewer
            for fewer in range(shots - 1, -1, -1)
            if max(map(_size, _with(tokenizer, tasks, examples[:fewer], examples))) <= window
        )
        fewer = next(fitting, None)
        cure = "shorter text" if fewer is None else f"--option shots={fewer}"
        raise BadSetting(
            f"with {shots} examples, sentence {worst.name} takes {len(worst.ids)} tokens and up to "
            f"{worst.most} for its translation, and the window has {window}. Give {cure} or, where "
            "the model has more positions, a larger --window."
        )
    return prompts


def _by_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[_Task],
    examples: Sequence[Pair],
    window: int,
    given: Mapping[str, Any],
) -> list[str]:
    """What an encoder-decoder writes of every sentence, one direction after the other.

    Raises BadSetting for a direction that the tokenizer has no token for, or a sentence that does
    not fit the window.
    """
    marks = Marks.of(tokenizer, model.config.model_type)
    by_way: dict[str, list[int]] = {}
    for place, task in enumerate(tasks):
        by_way.setdefault(f"{task.source}{INTO}{task.target}", []).append(place)
    marks.check(list(by_way))
    found = [""] * len(tasks)
    for way, places in by_way.items():
        ratio = _ratio(tokenizer, examples, sides(way)[1] == ENGLISH)
        read = marks.source(way, [tasks[place].text for place in places])
        longest = max(range(len(places)), key=lambda at: len(read[at]))
        if len(read[longest]) > window:
            raise BadSetting(
                f"sentence {tasks[places[longest]].name} takes {len(read[longest])} tokens, and "
                f"the window has {window}. Give shorter text or, where the model has more "
                "positions, a larger --window."
            )
        sources = [
            Prompt(tasks[p].name, ids, min(window - BEGIN, math.ceil(2 * ratio * len(ids)) + SPARE))
            for p, ids in zip(places, read, strict=True)
        ]
        written = translated(model, tokenizer, sources, marks.forced(way), **given)
        for place, text in zip(places, written, strict=True):
            found[place] = text
    return found


def _size(prompt: Prompt) -> int:
    """Tokens that a prompt and its translation take at most."""
    return len(prompt.ids) + prompt.most


def _with(
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[_Task],
    shown: Sequence[Pair],
    examples: Sequence[Pair],
) -> list[Prompt]:
    """The prompts with these examples shown; all examples say how long a translation gets."""
    first = prefix_of(tokenizer)
    front = [] if first is None else [first]
    whole = [prompt_of(each.source, each.target, shown, each.text) for each in tasks]
    lengths = [len(each) for each in encode(tokenizer, [t.text for t in tasks])["input_ids"]]
    targets = {task.target for task in tasks}
    ratio = {tag: _ratio(tokenizer, examples, tag == ENGLISH) for tag in targets}
    return [
        Prompt(task.name, [*front, *ids], math.ceil(2 * ratio[task.target] * length) + SPARE)
        for task, ids, length in zip(
            tasks, encode(tokenizer, whole)["input_ids"], lengths, strict=True
        )
    ]


def prompt_of(source: str, target: str, examples: Sequence[Pair], text: str) -> str:
    """Examples and a sentence, up to where its translation begins."""
    names = [languages.find(tag).name for tag in (source, target)]
    sides = [
        (each.text, each.english) if target == ENGLISH else (each.english, each.text)
        for each in examples
    ]
    shown = [f"{names[0]}: {one}\n{names[1]}: {other}\n\n" for one, other in sides]
    return "".join(shown) + f"{names[0]}: {text}\n{names[1]}:"


def _ratio(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Pair], english: bool) -> float:
    """The most tokens that a token of an example becomes in translation; 1 without examples."""
    if not examples:
        return 1.0
    mine, theirs = (
        [max(1, len(ids)) for ids in encode(tokenizer, side)["input_ids"]]
        for side in ([each.text for each in examples], [each.english for each in examples])
    )
    before, after = (mine, theirs) if english else (theirs, mine)
    return max(b / a for a, b in zip(before, after, strict=True))


# ---- scores --------------------------------------------------------------------------------


def _scores(
    metric: str, tasks: Sequence[_Task], found: Sequence[str], wrong: Sequence[str]
) -> list[float]:
    """The score of every sentence."""
    if metric == "on_target":
        return [float(not each) for each in wrong]
    scorer = {tag: _scorer(metric, languages.find(tag).script) for tag in {t.target for t in tasks}}
    return [
        float(scorer[task.target].sentence_score(text, [task.reference]).score)
        for task, text in zip(tasks, found, strict=True)
    ]


def _tally(
    documents: Sequence[PairedDocument], tasks: Sequence[_Task], scores: Sequence[float]
) -> Tally:
    """Sentence scores over sentences of each document."""
    sum_D, tasks_D = np.zeros((2, len(documents)))
    for task, score in zip(tasks, scores, strict=True):
        sum_D[task.document] += score
        tasks_D[task.document] += 1
    return Tally(tuple(each.id for each in documents), sum_D, tasks_D)


def _parts(
    metric: str, tasks: Sequence[_Task], found: Sequence[str], wrong: Sequence[str]
) -> dict[str, float]:
    """By direction: the corpus score, the off-target rate, the share in every wrong language."""
    parts: dict[str, float] = {}
    for target in dict.fromkeys(task.target for task in tasks):
        places = [place for place, task in enumerate(tasks) if task.target == target]
        into = "into English" if target == ENGLISH else "out of English"
        if metric != "on_target":
            scorer = _scorer(metric, languages.find(target).script)
            references = [tasks[place].reference for place in places]
            whole = scorer.corpus_score([found[place] for place in places], [references])
            parts[f"{into}: corpus"] = float(whole.score)
        others = Counter(wrong[place] for place in places if wrong[place])
        parts[f"{into}: off target"] = others.total() / len(places)
        parts |= {f"{into}: in {name}": n / len(places) for name, n in sorted(others.items())}
    return parts


def _scorer(metric: str, script: str) -> Any:
    """The scorer of sacrebleu for text of a script."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError as error:
        raise MissingPackage("sacrebleu") from error
    if metric == "chrf":
        return CHRF(word_order=2)
    return BLEU(tokenize=WORDS.get(script, "13a"), effective_order=True)
