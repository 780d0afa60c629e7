"""What pressing does to each language: a pressed model against its dense parent.

The loss of a language is pressed/dense − 1 where lower is better and 1 − pressed/dense where higher
is better, so positive is always worse. Its interval is the percentile bootstrap over documents
(Efron and Tibshirani 1993, chapter 13): a draw takes D of the D documents with replacement, the
same ones for both models and, where all languages share their documents, in all languages.
The two-sided p-value is 2·(k + 1)/(draws + 1), where k draws lie at zero or on the other side of it
(Davison and Hinkley 1997, section 4.2), but never under 2^(1−D): D documents that all agree are no
rarer than that. Holm's step-down (1979) corrects the p-values over languages.

Where every document is right or wrong, the p-value is that of McNemar's exact test (evidence.py),
and the interval is the same.

A score may have floors: what guessing finds, or giving one answer always. A language in which the
dense model's own interval does not lie above its floor is at chance: it has nothing to lose, so its
change is called neither loss nor gain, fails no gate, and counts in no summary where there are
languages that are not. Draws in which it has no dense hit at all are left out of its interval.

Shapes: L languages, D documents, R bootstrap draws.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from babelpress.errors import BadSetting
from babelpress.judge.evidence import (
    ALPHA,
    AT_CHANCE,
    bootstrap_p,
    draws_for,
    holm,
    needed_documents,
)
from babelpress.judge.pairs import Pair, is_shared, losses, pairs_of, some, too_few
from babelpress.numerics.tally import Tally
from babelpress.text import languages

NO_DIFFERENCE = "no significant difference"
TOO_FEW = "too few documents to tell"


@dataclass(frozen=True, slots=True)
class Change:
    """The loss of one language; `low` and `high` bound its 95 % interval.

    `needed` is how many documents it takes before the test can find anything; `at_chance` says that
    the dense model does no better than guessing, and then nothing is significant.
    """

    language: str
    dense: float
    pressed: float
    change: float
    low: float
    high: float
    p: float
    p_holm: float
    significant: bool
    documents: int
    needed: int
    at_chance: bool = False

    @property
    def too_few(self) -> bool:
        """Whether the test can find nothing in so few documents, whatever they say."""
        return self.documents < self.needed

    @property
    def finding(self) -> str:
        """`worse`, `better`, or the words for a difference that is not there or cannot be told.

        `at chance` where there was nothing to lose.
        """
        if self.at_chance:
            return AT_CHANCE
        if self.significant:
            return "worse" if self.change > 0 else "better"
        return TOO_FEW if self.too_few else NO_DIFFERENCE

    @property
    def verdict(self) -> str:
        """The same, and how many documents there are where they are too few."""
        return untold([self]) if self.finding == TOO_FEW else self.finding


@dataclass(frozen=True, slots=True)
class Summary:
    """One number over languages with its 95 % interval; `language` names the worst one.

    `spread` is the standard deviation over languages, `gap` the largest loss less the smallest.
    """

    name: str
    value: float
    low: float
    high: float
    language: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Changes in the order of the dense tallies; groups without a language have no summary."""

    changes: tuple[Change, ...]
    summaries: tuple[Summary, ...]
    draws: int
    seed: int
    paired_across_languages: bool


def compare(
    dense: Mapping[str, Tally],
    pressed: Mapping[str, Tally],
    *,
    lower_is_better: bool = True,
    binary: bool = False,
    floors: Mapping[str, float] | None = None,
    shares: Mapping[str, float] | None = None,
    draws: int = 0,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same documents of the same languages.

    `binary` asks for McNemar's test, and is passed over where a document is more than right or
    wrong. `floors` are the scores of those who know nothing, by language. `shares` are training
    shares: the bottom third is the low-resource group and the top third the high-resource one.
    Without them the resource level of languages.csv decides. `draws` 0 are as many as the number of
    languages needs. BadRun names the language and the difference where the two were not measured on
    the same text.
    """
    pairs = pairs_of(dense, pressed)
    draws = draws_for(len(dense), draws)
    lost = losses(pairs, lower_is_better=lower_is_better, floors=floors, draws=draws, seed=seed)
    change_L, change_RL, at_chance = lost.loss_L, lost.loss_RL, lost.at_chance
    exact = binary and all(pair.is_binary for pair in pairs.values())
    changes = _changes(dense, pressed, pairs, change_L, change_RL, exact=exact, at_chance=at_chance)
    told = [i for i, tag in enumerate(pairs) if tag not in at_chance] or list(range(len(pairs)))
    tags = [tag for i, tag in enumerate(pairs) if i in told]
    groups = _groups(list(pairs), shares)
    there = {name: [tag for tag in members if tag in tags] for name, members in groups.items()}
    sound_R = ~np.isnan(change_RL[:, told]).any(1)
    if not sound_R.any():
        raise too_few(tags[0], len(pairs[tags[0]].documents))
    summaries = _summaries(tags, change_L[told], change_RL[sound_R][:, told], there)
    return Comparison(changes, summaries, draws, seed, is_shared(pairs))


def untold(few: Sequence[Change]) -> str:
    """What is said of several languages in which the test could find nothing."""
    sizes = sorted({change.documents for change in few})
    there = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
    return f"{TOO_FEW} ({there}; at least {max(change.needed for change in few)})"


def gate(comparison: Comparison, max_loss: float, confident: bool = False) -> list[Change]:
    """The languages that lose more than `max_loss` (0.05 is 5 %), worst first; none at chance.

    The point estimate is judged; with `confident` the upper limit of the interval, so that a
    language passes only where the data show that it loses no more.
    """

    def loss(change: Change) -> float:
        return change.high if confident else change.change

    told = [change for change in comparison.changes if not change.at_chance]
    return sorted((c for c in told if loss(c) > max_loss), key=loss, reverse=True)


def _changes(
    dense: Mapping[str, Tally],
    pressed: Mapping[str, Tally],
    pairs: Mapping[str, Pair],
    change_L: np.ndarray,
    change_RL: np.ndarray,
    *,
    exact: bool,
    at_chance: Collection[str],
) -> tuple[Change, ...]:
    documents = [len(pair.documents) for pair in pairs.values()]
    p = [
        pair.exact_p() if exact else bootstrap_p(change, change_R, len(pair.documents))
        for pair, change, change_R in zip(pairs.values(), change_L, change_RL.T, strict=True)
    ]
    low_L, high_L = _interval(change_RL)
    needed = needed_documents(documents, len(change_RL))
    return tuple(
        Change(
            language=tag,
            dense=dense[tag].value,
            pressed=pressed[tag].value,
            change=float(change_L[i]),
            low=float(low_L[i]),
            high=float(high_L[i]),
            p=p[i],
            p_holm=adjusted,
            significant=adjusted < ALPHA and tag not in at_chance,
            documents=documents[i],
            needed=needed[i],
            at_chance=tag in at_chance,
        )
        for i, (tag, adjusted) in enumerate(zip(dense, holm(p), strict=True))
    )


def _interval(draws_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.nanquantile(draws_R, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return low, high


def _groups(tags: Sequence[str], shares: Mapping[str, float] | None) -> dict[str, list[str]]:
    """The languages of every group mean, by the name of its summary row."""
    known = [languages.find(tag) for tag in tags]
    groups = {
        "low_resource": [
            tag for tag, known_as in zip(tags, known, strict=True) if known_as.resource == "low"
        ],
        "high_resource": [
            tag for tag, known_as in zip(tags, known, strict=True) if known_as.resource == "high"
        ],
        "latin": [
            tag for tag, known_as in zip(tags, known, strict=True) if known_as.script == "Latn"
        ],
        "non_latin": [
            tag for tag, known_as in zip(tags, known, strict=True) if known_as.script != "Latn"
        ],
    }
    return groups if shares is None else groups | _thirds(tags, shares)


def _thirds(tags: Sequence[str], shares: Mapping[str, float]) -> dict[str, list[str]]:
    if missing := set(tags) - set(shares):
        raise BadSetting(
            f"there is no training share for {some(missing)}. Give a distribution that has it, or "
            "none, and the resource level of each language decides."
        )
    by_share = sorted(tags, key=lambda tag: (shares[tag], tag))
    third = len(tags) // 3
    return {"low_resource": by_share[:third], "high_resource": by_share[len(tags) - third :]}


def _summaries(
    tags: Sequence[str],
    change_L: np.ndarray,
    change_RL: np.ndarray,
    groups: Mapping[str, list[str]],
) -> tuple[Summary, ...]:
    def row(name: str, value: float, value_R: np.ndarray, language: str | None = None) -> Summary:
        low, high = _interval(value_R)
        return Summary(name, float(value), float(low), float(high), language)

    worst = tags[int(change_L.argmax())]
    rows = [
        row("mean", change_L.mean(), change_RL.mean(1)),
        row("worst", change_L.max(), change_RL.max(1), worst),
    ]
    for name, members in groups.items():
        if members:
            columns = [tags.index(tag) for tag in members]
            rows.append(row(name, change_L[columns].mean(), change_RL[:, columns].mean(1)))
    return (
        *rows,
        row("spread", change_L.std(), change_RL.std(1)),
        row("gap", np.ptp(change_L), np.ptp(change_RL, axis=1)),
    )
