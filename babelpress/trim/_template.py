"""What a chat template writes: rendered conversations, and every string that stands in it.

Tested in tests/trim/test_template.py.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from jinja2 import Environment, TemplateError, nodes

SAID = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
SYSTEM = {"role": "system", "content": "c"}


def written(tokenizer: Any) -> list[str]:
    """Texts that the templates of a tokenizer write; none where it has none.

    A form of conversation that a template refuses, as some do a system's turn, is left out.
    """
    templates = tokenizer.chat_template or {}
    if isinstance(templates, str):
        templates = {"default": templates}
    texts: list[str] = []
    for template in templates.values():
        texts += [*_strings(template), *_conversations(tokenizer, template)]
    return list(dict.fromkeys(filter(None, texts)))


def _conversations(tokenizer: Any, template: str) -> Iterator[str]:
    for system, turns, asked in product((False, True), (1, 2, 3), (False, True)):
        said = [SYSTEM] * system + [SAID[turn % 2] for turn in range(turns)]
        try:
            yield tokenizer.apply_chat_template(
                said, chat_template=template, add_generation_prompt=asked, tokenize=False
            )
        except (TemplateError, TypeError, ValueError, KeyError):
            continue  # not every template takes every form; its strings are read in any case


def _strings(template: str) -> Iterator[str]:
    """Text between expressions, and strings inside them."""
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except TemplateError:
        return  # with tags that only transformers knows: what it renders is read
    for node in tree.find_all((nodes.TemplateData, nodes.Const)):
        text = node.data if isinstance(node, nodes.TemplateData) else node.value
        if isinstance(text, str):
            yield text
