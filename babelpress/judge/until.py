"""Score a run only until it is known whether any language loses more than it may.

`babelpress eval RUN --against DENSE --until-known --max-loss 0.05` scores the documents of every
language in an order that is drawn once, the same for all runs, in rounds. After each it is asked
what known.py says can be known by then. A language that is known is scored no further, and once one
is known to lose more no language is.

The dense model has to be scored on all of the text: then a round of the run says most, and it is
done once for all runs. What is scored stays, so that other questions and whole scores go on there.
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
    then is undecided. `known` is what is known of each language, and `first` by what.
    """

    def __init__(self, dense: Path, max_loss: float, at_most: int = 0):
        """Raises BadSetting for a loss, or a number, that cannot be."""
        if max_loss <= -1:
            raise BadSetting(f"--max-loss {max_loss:g} cannot be: nothing loses less than -1.")
        if at_most and at_most < LEAST:
            raise BadSetting(
                f"--at-most {at_most} documents are too few to know anything: give {LEAST} or more."
            )
        self.dense, self.max_loss, self._at_most = dense, max_loss, at_most
        self._lower, self._called = True, str(dense)
        self._tallies: dict[str, Tally] = {}
        self._sizes: dict[str, int] = {}
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
        check(name)
        there = scores.corpora(self.dense, name)
        which = corpus if corpus in there or len(there) != 1 else there[0]
        if which not in there:
            raise scores.without(self.dense, name, f" on {corpus}" if there else "")
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
        self._sizes = {tag: len(some) for tag, some in documents.items()}
        self.known = dict.fromkeys(documents, OPEN)
        return {tag: Draw.of(tally) for tag, tally in self._tallies.items()}

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
        ends = Draw.of(self._tallies[tag]).rounds()
        return any(done < end <= self.most(tag) for end in ends)

    def answer(self) -> str:
        """What is known of all of them together."""
        known = set(self.known.values())
        return BROKEN if BROKEN in known else OPEN if OPEN in known else KEPT

    def told(self, tag: str) -> dict[str, Any]:
        """What a row says of why it stopped: `documents` are all that there are."""
        return {
            "question": "max_loss",
            "max_loss": self.max_loss,
            "alpha": ALPHA,
            "against": self._called,
            "documents": self._sizes[tag],
            "known": self.known[tag],
            "answer": self.answer(),
        }


def check(name: str) -> None:
    """Raise BadSetting for an evaluation whose documents cannot be scored one before the other."""
    if not evals.by_document(name):
        fit = [each for each in evals.EVALUATIONS.names() if evals.by_document(each)]
        raise BadSetting(
            f"{name} says nothing of some documents before others: score it whole, or give "
            f"--until-known with --on {' or '.join(fit)}."
        )
