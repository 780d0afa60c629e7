"""What an encoder-decoder is told of languages: the marks around what it reads and what it writes.

    src_lang and tgt_lang    M2M-100, NLLB, mBART, PLBart: a token of its language at each text
    >>swh<<, <2sw>           Marian of several languages, MADLAD: the target's, before the source
    words                    T5, mT5, UMT5: `translate English to Swahili: ` before the source
    nothing                  a model of one direction, as most Marian

Marks are found by asking the tokenizer what it puts around a text; text itself is read by `encode`,
so that text that spells a mark is text. Which token is of which language is told by its name.

Shapes: B pairs, S positions of a source, T of a target.

Tested in tests/text/test_marks.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from babelpress.errors import BadModel, BadSetting
from babelpress.models.around import Around
from babelpress.models.tokenizers import Tokenizer, encode
from babelpress.text import languages
from babelpress.text.languages import INTO, sides

ASKED_IN_WORDS = ("t5", "mt5", "umt5")  # types whose task stands in words before the source
TARGET_TOKEN = re.compile(r">>(\w+)<<|<2(\w+)>")
PROBE = "a b"
SHOWN = 8  # languages in a message


@dataclass(frozen=True, slots=True)
class Marks:
    """How one tokenizer tells languages; `way` is a direction, as eng_Latn>swh_Latn.

    `codes` are those of `src_lang` by tag, `targets` the tokens before a source by the tag of its
    target, `only` the one direction that a model has, where its tokenizer names it.
    """

    tokenizer: Tokenizer
    codes: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)
    in_words: bool = False
    only: str = ""

    @classmethod
    def of(cls, tokenizer: Tokenizer, kind: str) -> "Marks":
        """Those of a model of type `kind`. Raises BadModel where a tokenizer names no language."""
        if hasattr(tokenizer, "src_lang"):
            codes = _codes(tokenizer)
            if not codes:
                raise BadModel(
                    f"{type(tokenizer).__name__} asks for a source language, but none of its "
                    "special tokens is named after one."
                )
            return cls(tokenizer, codes=codes)
        if targets := _targets(tokenizer):
            return cls(tokenizer, targets=targets)
        if kind == "m2m_100":
            raise BadModel(
                f"the tokenizer ({type(tokenizer).__name__}) cannot be told a source language, "
                f"which a model of type {kind} needs. Use the tokenizer that came with the model."
            )
        return cls(tokenizer, in_words=kind in ASKED_IN_WORDS, only=_only(tokenizer))

    def check(self, ways: Sequence[str]) -> None:
        """Raise BadSetting for what is no direction, or one that the model is not told of."""
        for way in ways:
            if INTO not in way:
                raise BadSetting(
                    f"{way} is a language, and this model has a source and a target. Write "
                    f"{way}{INTO}LANG or LANG{INTO}{way}."
                )
            if self.only and way != self.only:
                raise BadSetting(
                    f"this model translates {self.only} alone, by its tokenizer; {way} was asked "
                    f"for. Give --languages '{self.only}'."
                )
            known: Mapping[str, object] = self.codes or self.targets
            asked = sides(way) if self.codes else sides(way)[1:]
            if lost := [tag for tag in asked if known and tag not in known]:
                some = ", ".join(sorted(known)[:SHOWN])
                more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
                raise BadSetting(
                    f"the tokenizer has no token for {lost[0]}, asked for in {way}. It has {some}"
                    f"{more}. Leave it out with --languages."
                )

    def source(self, way: str, texts: Sequence[str]) -> list[list[int]]:
        """What the encoder is to read of texts of the source language, marks around."""
        if self.in_words:
            names = [languages.find(tag).name for tag in sides(way)]
            texts = [f"translate {names[0]} to {names[1]}: {text}" for text in texts]
        with self._told(way):
            bodies = encode(self.tokenizer, texts)["input_ids"]
        around = self.around_source(way)
        return [around.put(ids) for ids in bodies]

    def target(self, way: str, texts: Sequence[str]) -> list[list[int]]:
        """What the decoder is to write: labels, before they are shifted, marks around."""
        with self._told(way):
            bodies = encode(self.tokenizer, texts, target=True)["input_ids"]
        around = self.around_target(way)
        return [around.put(ids) for ids in bodies]

    def around_source(self, way: str) -> Around:
        """The marks around what the encoder reads."""
        with self._told(way):
            around = _around(self.tokenizer, self.tokenizer(PROBE)["input_ids"])
        before = (self.targets[sides(way)[1]],) if self.targets else ()
        return Around((*before, *around.front), around.behind)

    def around_target(self, way: str) -> Around:
        """The marks around what the decoder writes."""
        with self._told(way):
            whole = self.tokenizer(text_target=PROBE)["input_ids"]
            return _around(self.tokenizer, whole, target=True)

    @contextmanager
    def _told(self, way: str) -> Iterator[None]:
        """Inside, the tokenizer is told both languages, which `check` has looked for.

        It is left as it was, to the rules that it had.
        """
        if not self.codes:
            yield
            return
        before = self.tokenizer.src_lang, self.tokenizer.tgt_lang
        rules: Any = self.tokenizer.backend_tokenizer if self.tokenizer.is_fast else None
        processor = rules.post_processor if rules is not None else None
        source, target = (self.codes[tag] for tag in sides(way))
        try:
            self.tokenizer.src_lang, self.tokenizer.tgt_lang = source, target
            yield
        finally:
            self.tokenizer.src_lang, self.tokenizer.tgt_lang = before
            if rules is not None and processor is not None:
                rules.post_processor = processor

    def forced(self, way: str) -> int | None:
        """The token that a translation begins with, whatever the model says; mostly none."""
        if not self.codes:
            return None
        around = self.around_target(way)
        return (around.front or around.behind[-1:])[0]  # mBART has it behind, and shifts it


def _codes(tokenizer: Tokenizer) -> dict[str, str]:
    """What `src_lang` may be, by tag: of several names of one language the first."""
    own = getattr(tokenizer, "lang_code_to_token", None)
    names = (
        list(own) if isinstance(own, Mapping) else [str(t) for t in tokenizer.all_special_tokens]
    )
    found: dict[str, str] = {}
    for name in names:
        if language := languages.known(name):
            found.setdefault(language.tag, name)
    return found


def _targets(tokenizer: Tokenizer) -> dict[str, int]:
    """Tokens that name a target, by its tag."""
    found: dict[str, int] = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda each: each[1]):
        match = TARGET_TOKEN.fullmatch(token)
        if match and (language := languages.known(match[1] or match[2])):
            found.setdefault(language.tag, number)
    return found


def _only(tokenizer: Tokenizer) -> str:
    """The direction that a tokenizer names as its own; empty where it names none."""
    named = [getattr(tokenizer, f"{side}_lang", None) for side in ("source", "target")]
    found = [languages.known(name) if isinstance(name, str) else None for name in named]
    return INTO.join(each.tag for each in found if each) if all(found) else ""


def _around(tokenizer: Tokenizer, whole: Sequence[int], target: bool = False) -> Around:
    """What stands around the ids of a text. Raises BadModel where the text itself is not there."""
    body = encode(tokenizer, [PROBE], target=target)["input_ids"][0]
    for start in range(len(whole) - len(body) + 1):
        if list(whole[start : start + len(body)]) == body:
            return Around(tuple(whole[:start]), tuple(whole[start + len(body) :]))
    raise BadModel(
        f"{type(tokenizer).__name__} reads a text otherwise with its marks than without, so it "
        "cannot be told where they are."
    )
