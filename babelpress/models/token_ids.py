"""Token ids that a config names: which there are, and the same config with other numbers.

`config.json` and `generation_config.json` name tokens by number, in keys of their own and in those
of configs inside them: what a text begins and ends with, what pads it, what is never written, which
token stands for an image.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from babelpress.errors import BadModel

# bos_token_id, eos_token_id (one or a list), image_token_index, forced_bos_token_id, …
# pad_index of XLM, im_start_id of HunYuan; others with bos and eos may be of a vocabulary of sounds
NAMED = re.compile(
    r"(.+_)?token_(id|ids|index)$"
    r"|(bos|eos|pad|unk|sep|cls|mask)_(id|index)$"
    r"|(im|image|img|video|slice)_(start|end|patch|newline)_id$"
    r"|newline_id$"
)
NUMBER = re.compile(r".+_(id|index)$")
ORDINARY = re.compile(  # parts of keys whose number is of something else than a token
    r"(^|_)(layers?|blocks?|stage|hook|in|out|experts?|heads?|labels?|class|classes|lang|language"
    r"|languages|speaker|adapter|task|problem|ignore|aggregation|device|group|channel|feature)_"
)
TABLE = re.compile(r"vocab|token")  # the name of a table of tokens and their numbers
MARK = re.compile(r"[<\[|].*[>\]|]")  # a token in a table
LISTED = ("suppress_tokens", "begin_suppress_tokens")  # dropped where the token is gone
BY_NAME = ("lang_to_id", "task_to_id")
LABELS = ("id2label", "label2id")  # of a classifier, and no tokens
PLACED = ("forced_decoder_ids",)  # a place in the text and the token there
PHRASES = ("bad_words_ids", "force_words_ids")
BIASED = ("sequence_bias",)  # a phrase and a number

Ids = Mapping[int, int]  # the new number of every old one that stays


def named(config: Mapping[str, Any]) -> set[int]:
    """The ids that a config cannot do without: all but those that are only never to be written."""
    return {each for key, value in _items(config) for each in _needed(key, value)}


def _needed(key: str, value: Any) -> Iterator[int]:
    if NAMED.match(key) or key in BY_NAME or key == "force_words_ids":
        yield from _numbers(value)
    elif key in PLACED:
        yield from _numbers([each[1:] for each in value or ()])


def _items(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values of a config and of those inside it."""
    for key, value in ((str(key), value) for key, value in config.items()):
        if _inside(key, value):
            yield from _items(value)
        else:
            yield key, value


def _inside(key: Any, value: Any) -> bool:
    """Whether a value is a config inside a config, which has keys of its own."""
    return isinstance(value, Mapping) and key not in (*BY_NAME, *LABELS)


def _numbers(value: Any) -> Iterator[int]:
    """The ids in a value: a number, or lists and mappings of them; below zero is none."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int):
        if value >= 0:
            yield value
    elif isinstance(value, Mapping):
        yield from _numbers(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)


def check(name: str, config: Mapping[str, Any], rows: int) -> None:
    """Raise BadModel for a number that may be a token's, of so many, and is not renumbered here."""
    if key := _odd(config, rows):
        raise BadModel(
            f"the config of {name} says {key}, which may be the number of a token and is not known "
            "here. Leave out trim."
        )


def _odd(config: Mapping[str, Any], rows: int) -> str:
    for key, value in config.items():
        if _inside(key, value):
            if _table(str(key), value, rows):
                return str(key)
            if found := _odd(value, rows):
                return found
        elif _single(str(key), value, rows):
            return f"{key}={value}"
    return ""


def _single(key: str, value: Any, rows: int) -> bool:
    """Whether a number may be a token's that nothing here knows."""
    known = NAMED.match(key) or ORDINARY.search(key) or not NUMBER.match(key)
    return not known and type(value) is int and 0 <= value < rows


def _table(key: str, value: Mapping[Any, Any], rows: int) -> bool:
    """Whether texts have numbers of tokens."""
    if not value or not all(type(each) is int and 0 <= each < rows for each in value.values()):
        return False
    return bool(TABLE.search(key)) or any(MARK.search(str(each)) for each in value)


def renumbered(config: Mapping[str, Any], new: Ids) -> dict[str, Any]:
    """The same plain config with new ids; what it only forbids goes where the token is gone."""
    return {
        key: renumbered(value, new) if _inside(key, value) else _value(str(key), value, new)
        for key, value in config.items()
    }


def renumber(config: PreTrainedConfig | Any, new: Ids) -> None:
    """The same of an open config, or generation config, in place."""
    for key, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            renumber(value, new)
        elif _inside(key, value):
            if (entered := renumbered(value, new)) != value:
                setattr(config, key, entered)
        elif (changed := _value(key, value, new)) is not value:
            setattr(config, key, changed)


def _value(key: str, value: Any, new: Ids) -> Any:
    """The value of a key with new ids; what names no tokens is what it was."""
    if value is None:
        return value
    if NAMED.match(key) or key in BY_NAME:
        return _mapped(value, new)
    if key in LISTED:
        return [new[each] for each in value if each in new]
    if key in PLACED:
        return [[place, _mapped(number, new)] for place, number in value]
    if key in PHRASES:
        return [_mapped(each, new) for each in value if new.keys() >= set(_numbers(each))]
    if key in BIASED and isinstance(value, list):
        return [[_mapped(w, new), bias] for w, bias in value if new.keys() >= set(_numbers(w))]
    return value


def _mapped(value: Any, new: Ids) -> Any:
    """Ids in a number, list or mapping; one beyond all rows pointed at nothing, and still does."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return new.get(value, value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, new) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(each, new) for each in value]
    return value
