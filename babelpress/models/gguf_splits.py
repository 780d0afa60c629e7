"""How text is cut to words before a byte-level BPE merges them: what llama.cpp calls each way.

llama.cpp knows such regexes by name (`tokenizer.ggml.pre`) and has them in its code, so a name must
be found for the regex of the tokenizer at hand. Some names also take a whole word from the
vocabulary without merging (`ignore_merges`), which changes nothing where merging leads to it too.

Tested in tests/export/test_gguf_tokens.py.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from babelpress.errors import BadModel

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_CASED = (f"{_BEFORE}{_UPPER}*{_LOWER}+", f"{_BEFORE}{_UPPER}+{_LOWER}*")

DIGIT = r"\p{N}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{_CONTRACTIONS}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_ENDS}"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}", r"[^\s\p{L}\p{M}")
GPT4O = (
    f"{_CASED[0]}{_CONTRACTIONS}?|{_CASED[1]}{_CONTRACTIONS}?|"
    rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_ENDS}"
)
TEKKEN = rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_ENDS}"


@dataclass(frozen=True, slots=True)
class Pre:
    """A name of llama.cpp, the regexes that it stands for, and whether it takes whole words.

    `exact` is False where llama.cpp's own regex is narrower: it cuts words at combining marks.
    `also` are names for the same, which files of other families have.
    """

    name: str
    regexes: tuple[str, ...]
    ignore_merges: bool = False
    exact: bool = True
    also: tuple[str, ...] = ()


# Of names for equal regexes the first that fits is taken. Indic scripts, Thai and Yoruba are full
# of combining marks, at which `gpt-4o` cuts; the name before it was made for the same regex.
KNOWN = (
    Pre("gpt-2", (GPT2,), also=("phi-2", "mpt", "olmo", "jais", "trillion")),
    Pre("smollm", (DIGIT, GPT2), also=("starcoder", "refact", "command-r", "codeshell", "exaone")),
    Pre(
        "llama-bpe",
        (LLAMA3,),
        ignore_merges=True,
        also=("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    ),
    Pre("smaug-bpe", (LLAMA3,), also=("dbrx",)),
    Pre("qwen2", (QWEN2,), also=("deepseek-r1-qwen", "kormo", "megrez", "hunyuan")),
    Pre("qwen35", (QWEN35,)),
    Pre("granite-embed-multi-97m", (GPT4O,), ignore_merges=True),
    Pre("gpt-4o", (GPT4O,), exact=False, also=("llama4", "kanana2")),
    Pre("tekken", (TEKKEN,), ignore_merges=True, exact=False),
)


def find(rules: Mapping[str, Any]) -> str:
    """The name for the rules of a tokenizer.json. Raises BadModel where there is none."""
    regexes = tuple(_regexes(rules["pre_tokenizer"]))
    model = rules["model"]
    whole = bool(model.get("ignore_merges"))
    for pre in KNOWN:
        if pre.regexes == regexes and (pre.ignore_merges == whole or merging_finds_all(rules)):
            return pre.name
    shown = " then ".join(regexes) or "no regex at all"
    raise BadModel(
        f"the tokenizer cuts text by {shown}, for which no name of llama.cpp is known. Give the "
        "name of its `tokenizer.ggml.pre` that does the same with --option pre=NAME."
    )


def called(name: str) -> Pre | None:
    """What a name of llama.cpp stands for; None for one that is not known here."""
    return next((pre for pre in KNOWN if name in (pre.name, *pre.also)), None)


def cuts_marks(name: str) -> bool:
    """Whether llama.cpp is known to cut words at combining marks under this name."""
    return any(pre.name == name and not pre.exact for pre in KNOWN)


def merging_finds_all(rules: Mapping[str, Any]) -> bool:
    """Whether every token, taken as a word, is what merging makes of that word."""
    plain = {"type": "BPE", "vocab": rules["model"]["vocab"], "merges": rules["model"]["merges"]}
    merging = Tokenizer.from_str(json.dumps({"model": plain}))
    added = {each["content"] for each in rules["added_tokens"]}
    return all(
        [each.value for each in merging.model.tokenize(token)] == [token]
        for token in plain["vocab"]
        if token not in added
    )


def _regexes(pre_tokenizer: Mapping[str, Any] | None) -> Iterator[str]:
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": parts}:
            for part in parts:
                yield from _regexes(part)
        case {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False}:
            return
        case {"type": "ByteLevel", "add_prefix_space": False}:
            yield GPT2
        case {"type": "Digits", "individual_digits": True}:
            yield DIGIT
        # every known regex leaves nothing between its matches, so both mean the same
        case {
            "type": "Split",
            "pattern": {"Regex": regex},
            "behavior": "Isolated",
            "invert": False,
        }:
            yield regex
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": True}:
            yield regex
        case _:
            yield f"the pre-tokenizer {json.dumps(pre_tokenizer)}"
