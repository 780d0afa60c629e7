"""A SentencePiece BPE (Gemma, Llama 2, Mistral) for llama.cpp: scores in the place of merges.

llama.cpp joins two neighbours whenever they are a token together, the highest score first, and
knows no list of merges. That is the same where every such pair is a merge of the tokenizer, and all
merges that make one token come before all that make the next: then the place of a token in that
order, counted down, is its score. Any other tokenizer is refused, for text would be read as other
tokens than the model learnt.

Tested in tests/export/test_gguf_pieces.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from babelpress.errors import BadModel
from babelpress.models.gguf_tokens import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, USER_DEFINED

PRE = "default"  # which cuts nothing
BYTES = tuple(f"<0x{each:02X}>" for each in range(256))
NEVER = -1000.0  # the score of what nothing merges to, as llama.cpp's converter has it
METASPACE = ("always", "first")  # ways of a Metaspace to put a space before a text

Rules = Mapping[str, Any]


def fits(rules: Rules) -> bool:
    """Whether characters are merged, bytes are what is left, and spaces are written as ▁."""
    model = rules["model"]
    return (
        model["type"] == "BPE"
        and bool(model.get("byte_fallback"))
        and all(each in model["vocab"] for each in BYTES)
        and any(_escapes(each) for each in _parts(rules))
    )


def space_before(rules: Rules) -> bool:
    """Whether a space is put before a text."""
    return any(
        each["type"] == "Prepend"
        or (each["type"] == "Metaspace" and each.get("prepend_scheme", "always") in METASPACE)
        for each in _parts(rules)
    )


def left_out(rules: Rules) -> str | None:
    """The kind of a part of the tokenizer that llama.cpp has not; None where it has all."""
    odd = [each["type"] for each in _parts(rules) if not (_escapes(each) or _harmless(each))]
    odd += [each["type"] for each in _parts(rules) if _cuts(each, rules["model"]["vocab"])]
    return odd[0] if odd else None


def _parts(rules: Rules) -> Iterator[Rules]:
    """What is done to a text before it is merged, in order."""
    for name, inside in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        part = rules.get(name)
        if part is not None:
            yield from part[inside] if part["type"] == "Sequence" else [part]


def _escapes(part: Rules) -> bool:
    if part["type"] == "Metaspace":
        return part.get("replacement") == SPACE
    replaces = part["type"] == "Replace" and part["pattern"] == {"String": " "}
    return replaces and part["content"] == SPACE


def _harmless(part: Rules) -> bool:
    """A space put before a text, or a cut at spaces, of which there are none any more."""
    if part["type"] == "Prepend":
        return part["prepend"] == SPACE
    return part["type"] == "Split" and part["pattern"] == {"String": " "}


def _cuts(part: Rules, pieces: Mapping[str, int]) -> bool:
    """Whether words are kept apart that pieces go across."""
    if part["type"] != "Metaspace" or not part.get("split", True):
        return False
    return any(SPACE in each[1:] for each in pieces)


def types(rules: Rules, tokens: Sequence[str], before: Sequence[int]) -> list[int]:
    """Token types; bytes and the unknown token have their own.

    A run of spaces that merges lead to is no token of a user, though some files say so: as one it
    would be printed as ▁.
    """
    unknown, spelled = rules["model"].get("unk_token"), set(BYTES)
    merged = {"".join(each) for each in _merges(rules)}
    found: list[int] = []
    for token, kind in zip(tokens, before, strict=True):
        if token in spelled and kind == NORMAL:
            found.append(BYTE)
        elif token == unknown and kind in (NORMAL, CONTROL):
            found.append(UNKNOWN)
        elif kind == USER_DEFINED and token in merged and not token.strip(SPACE):
            found.append(NORMAL)
        else:
            found.append(kind)
    return found


def scores(rules: Rules, tokens: Sequence[str], kinds: Sequence[int]) -> list[float]:
    """A score for every token. Raises BadModel where no scores stand for the merges."""
    places: dict[str, int] = {}
    made: set[tuple[str, str]] = set()
    last = ""
    for left, right in _merges(rules):
        token = left + right
        if token != last and token in places:
            raise BadModel(
                f"the tokenizer makes {token[:20]!r} of other pieces before and after it makes "
                f"{last[:20]!r}, and llama.cpp knows one score for a token. Convert the "
                "safetensors export with llama.cpp's convert_hf_to_gguf.py, where its "
                "tokenizer.model is at hand."
            )
        places.setdefault(token, len(places))
        made.add((left, right))
        last = token
    _check_whole(rules, made, tokens, kinds)
    return [-float(places[each]) if each in places else NEVER - len(places) for each in tokens]


def _check_whole(
    rules: Rules, made: set[tuple[str, str]], tokens: Sequence[str], kinds: Sequence[int]
) -> None:
    """Raise BadModel where llama.cpp would join two pieces that the tokenizer leaves apart."""
    known = rules["model"]["vocab"]
    for token, kind in zip(tokens, kinds, strict=True):
        if kind != NORMAL or token not in known:
            continue
        for place in range(1, len(token)):
            pair = token[:place], token[place:]
            if pair[0] in known and pair[1] in known and pair not in made:
                raise BadModel(
                    f"the tokenizer never merges {pair[0][:20]!r} and {pair[1][:20]!r}, which "
                    "llama.cpp would, for it knows no list of merges: text would be read as other "
                    "tokens. Serve the safetensors export instead."
                )


def _merges(rules: Rules) -> Iterator[tuple[str, str]]:
    for each in rules["model"]["merges"]:
        left, right = each.split(" ", 1) if isinstance(each, str) else each
        yield left, right
