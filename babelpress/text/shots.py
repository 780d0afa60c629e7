"""What `translation:SRC` asks for: text of demonstrations, made of a corpus of parallel sentences.

    translation:SRC    few-shot translations: a sentence and its English, in both directions in turn
    monolingual:SRC    the same sentences of the language, without their English
    shuffled:SRC       the same sentences and the same English, but no sentence beside its own

SRC is a corpus as ever, with its filters; among those `shots=N` says how many shots a sample has.

Tested in tests/text/test_demonstrations.py.
"""

from dataclasses import dataclass

from babelpress.errors import BadSetting

CONDITIONS = ("translation", "monolingual", "shuffled")
SHOTS = 4
SELF = "self"  # the corpus that the model writes: it has no pairs


@dataclass(frozen=True, slots=True)
class Shots:
    """A condition, the corpus whose sentences are shown, and how many are shown in a sample."""

    condition: str
    src: str
    number: int

    def of(self, src: str) -> str:
        """The same asked of a corpus by its full name: a commit of the hub, every default."""
        return f"{self.condition}:{src}{'&' if '?' in src else '?'}shots={self.number}"


def shots_of(corpus: str) -> Shots | None:
    """What a corpus with one of the prefixes asks for; None for any other.

    Raises BadSetting for a number of shots that is none, and for SRC that has no pairs.
    """
    condition, colon, rest = corpus.partition(":")
    if not colon or condition not in CONDITIONS:
        return None
    place, _, query = rest.partition("?")
    parts = query.split("&") if query else []
    asked = [part for part in parts if part.startswith("shots=")]
    if not place or place == SELF or place.partition(":")[0] in CONDITIONS:
        raise BadSetting(
            f"'{corpus}' names no corpus of parallel sentences. Write {condition}:SRC, where SRC "
            f"is embedded, a folder or hub:ID, for example {condition}:embedded."
        )
    number = asked[0].removeprefix("shots=") if asked else str(SHOTS)
    if len(asked) > 1 or not (number.isascii() and number.isdecimal() and int(number) > 0):
        raise BadSetting(
            f"'{'&'.join(asked)}' in {corpus} is no number of shots. Write one that is at least 1, "
            f"for example {condition}:{place}?shots={SHOTS}."
        )
    kept = "&".join(part for part in parts if part not in asked)
    return Shots(condition, f"{place}?{kept}" if kept else place, int(number))
