"""Score a run only until it is known whether any language loses more than it may.

`babelpress eval RUN --against DENSE --until-known --max-loss 0.05` scores the documents of every
language in an order that is drawn once, the same for all runs, in rounds. After each it is asked
what known.py says can be known by then. A language that is known is scored no further, and once one
is known to lose more no language is.

The dense model has to be scored on all of the text: then a round of the run says most, and it is
done once for all runs. What is scored stays, so that other questions and whole scores go on there.

Which of many runs is best for its worst-off language is asked with `--beat BEST` in the place of a
loss: does any language of the run lose more than the one that loses most of the best run so far,
which is scored whole? If one does, the run cannot win. Who is so asked one run after another drops
the best of them with a chance of at most ALPHA, however many there are: it is asked about once, and
of the others nothing can go wrong that would cost it the place.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from babelpress import evals
from babelpress.errors import BadRun, BadSetting
from babelpress.evals import Document
from babelpress.judge import scores
from babelpress.judge.evidence import ALPHA
from babelpress.judge.kept import Draw
from babelpress.judge.known import BROKEN, KEPT, OPEN, First
from babelpress.judge.partial import whole_only
from babelpress.judge.verdicts import check_alike
from babelpress.numerics.sequential import LEAST
from babelpress.numerics.tally import Tally


class Promise:
    """Does any language lose more than `max_loss` against the dense model?

    At most `at_most` documents of a language are scored, all where it is 0: what is not known by
    then is undecided. With `beat` the loss is that of the language that loses most of this run,
    which is scored whole. `known` is what is known of each language, and `first` by what.
    """

    def __init__(self, dense: Path, max_loss: float, at_most: int = 0, beat: Path | None = None):
        """Raises BadSetting for a loss, or a number, that cannot be."""
        if max_loss <= -1:
            raise BadSetting(f"--max-loss {max_loss:g} cannot be: nothing loses less than -1.")
        if at_most and at_most < LEAST:
            raise BadSetting(
                f"--at-most {at_most} documents are too few to know anything: give {LEAST} or more."
            )
        self.dense, self.max_loss, self._at_most = dense, max_loss, at_most
        self._lower, self._called, self.beat = True, str(dense), beat
        self._tallies: dict[str, Tally] = {}
        self._sizes: dict[str, int] = {}
        self._draws: dict[str, Draw] = {}
        self.first: dict[str, First] = {}
        self.known: dict[str, str] = {}

    def begin(
        self,
        name: str,
        corpus: str,
        identity: Mapping[str, Any],
        documents: Mapping[str, Sequence[Document]],
    ) -> Mapping[str, Draw]:
        """The draw of every language, by what the dense model was scored on.

        Raises BadSetting for an evaluation whose documents hang together, BadRun where the dense
        model was not scored on these documents, or not so.
        """
        check(name, self.dense)
        there = scores.corpora(self.dense, name)
        which = corpus if corpus in there or len(there) != 1 else there[0]
        if which not in there:
            raise scores.without(self.dense, name, f" on {corpus}")
        whole_only(self.dense, name, which)
        made = {self.dense: scores.identity_of(self.dense, name, which), Path("RUN"): identity}
        check_alike(made, name)
        self._lower = evals.facts(name).lower_is_better
        found = scores.tallies(self.dense, name, which)
        for tag, some in documents.items():
            ids = {each.id for each in some}
            if tag not in found or not ids or ids != set(found[tag].documents):
                raise BadRun(
                    f"{self.dense} has no {name} score of {tag} on all these {len(ids)} documents "
                    f"and no other. Make it: babelpress eval DENSE --on {name} --corpus {corpus} "
                    f"--out {self.dense}, with the same --documents."
                )
        self._tallies = {tag: found[tag] for tag in documents}
        if self.beat:
            self.max_loss = self._worst(self.beat, name, corpus)
        self._sizes = {tag: len(some) for tag, some in documents.items()}
        self.known = dict.fromkeys(documents, OPEN)
        self._draws = {tag: Draw.of(tally) for tag, tally in self._tallies.items()}
        return self._draws

    def _worst(self, run: Path, name: str, corpus: str) -> float:
        """What the language loses that loses most of a run. Raises BadRun where it is not whole."""
        which = scores.the_corpus([self.dense, run], name, corpus)[run]
        whole_only(run, name, which)
        found = scores.tallies(run, name, which)
        if lost := sorted(set(self._tallies) - set(found)):
            raise BadRun(
                f"{run} has no {name} score of {', '.join(lost)}: what is to be beaten is scored "
                "whole, in the same languages."
            )
        return max(
            First.of(tag, dense, found[tag], lower_is_better=self._lower).loss()
            for tag, dense in self._tallies.items()
        )

    def most(self, tag: str) -> int:
        """How many documents of a language to score at most."""
        return min(self._at_most or self._sizes[tag], self._sizes[tag])

    def unknown(self, tallies: Mapping[str, Tally]) -> list[str]:
        """The languages of which more has to be scored: none where one is known to lose more."""
        self.first = {
            tag: First.of(tag, self._tallies[tag], tally, lower_is_better=self._lower)
            for tag, tally in tallies.items()
        }
        size = len(tallies)
        self.known |= {
            tag: each.answer(self.max_loss, size).word for tag, each in self.first.items()
        }
        if self.answer() == BROKEN:
            return []
        rest = [tag for tag, word in self.known.items() if word == OPEN]
        return [tag for tag in rest if self._next(tag, len(tallies[tag].documents))]

    def _next(self, tag: str, done: int) -> bool:
        """Whether there is another round within what may be scored."""
        ends = self._draws[tag].rounds()
        return any(done < end <= self.most(tag) for end in ends)

    def answer(self) -> str:
        """What is known of all of them together."""
        known = set(self.known.values())
        return BROKEN if BROKEN in known else OPEN if OPEN in known else KEPT

    def said(self) -> str:
        """A line about what is known after a round."""
        most = max(len(each.pressed_T) for each in self.first.values())
        broken = [tag for tag, word in self.known.items() if word == BROKEN]
        kept = sum(word == KEPT for word in self.known.values())
        lost = f", {', '.join(broken)} breaks it" if broken else ""
        return f"after {most} documents: {kept} of {len(self.known)} languages keep it{lost}"

    def told(self, tag: str) -> dict[str, Any]:
        """What a row says of why it stopped: `documents` are all that there are."""
        return {
            "question": "max_loss",
            "max_loss": self.max_loss,
            "alpha": ALPHA,
            "against": self._called,
            **({"beat": str(self.beat)} if self.beat else {}),
            "documents": self._sizes[tag],
            "known": self.known[tag],
            "answer": self.answer(),
        }


def check(name: str, dense: Path) -> None:
    """Raise BadSetting for an evaluation whose documents cannot be scored one before the other,
    BadRun where the dense model has no such scores.
    """
    if not evals.by_document(name):
        fit = [each for each in evals.EVALUATIONS.names() if evals.by_document(each)]
        raise BadSetting(
            f"{name} says nothing of some documents before others: score it whole, or give "
            f"--until-known with --on {' or '.join(fit)}."
        )
    if not scores.corpora(dense, name):
        raise scores.without(dense, name)
