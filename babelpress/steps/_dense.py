"""The dense model that a repair is held against, made to read what the pressed one reads.

Of a trimmed run the dense model has more tokens: its rows are taken out as trimming took out those
of the run, so that both say the same of the same text.

Tested in tests/steps/test_recover.py.
"""

from babelpress.errors import BadModel
from babelpress.models import vocabulary
from babelpress.models.open import Opened, open_model
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import tokenizer_hash, vocabulary_of


def open_dense(opened: Opened, place: str, name: str) -> Opened:
    """The dense model, which lies at `place`, with the tokens of the pressed one.

    Raises BadModel where it cannot be opened, or reads other text.
    """
    try:
        dense = open_model(place, device=str(opened.model.device))
    except BadModel as error:
        raise BadModel(
            f"the dense model {name} cannot be opened: {error} Say where it is with --against."
        ) from error
    if sees_both_sides(dense.model) != sees_both_sides(opened.model):
        raise BadModel(
            f"one of {name} and the model reads text on both sides and the other does not. Give "
            "the dense model that it was made of with --against."
        )
    if tokenizer_hash(dense.tokenizer) != tokenizer_hash(opened.tokenizer):
        vocabulary.keep_rows(dense.model, _kept(opened, dense, name))
    if vocabulary_of(dense.model) != vocabulary_of(opened.model):
        raise BadModel(
            f"{name} reads {vocabulary_of(dense.model):,} tokens and the model "
            f"{vocabulary_of(opened.model):,}. Give the dense model that it was made of with "
            "--against."
        )
    return dense


def _kept(opened: Opened, dense: Opened, name: str) -> list[int]:
    """The dense model's numbers of the pressed one's tokens, in their order."""
    rows = vocabulary_of(opened.model)
    tokens = opened.tokenizer.convert_ids_to_tokens(list(range(rows)))
    known = dense.tokenizer.get_vocab()
    lost = [token for token in tokens if token not in known]
    if lost or len(set(tokens)) < rows:
        raise BadModel(
            f"{name} has another tokenizer than the model ({lost[0] if lost else 'twins'!r} is no "
            "token of it). Give the dense model that it was made of with --against."
        )
    return [known[token] for token in tokens]
