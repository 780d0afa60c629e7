"""What a chat template writes: rendered turns, and the strings that stand in it."""

import trimming

from babelpress.trim._template import written

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<turn>{{ 'robot' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>robot\n{% endif %}"
    "{% if tools %}Here are tools{% endif %}"
)


def test_turns_are_rendered_and_strings_are_read():
    found = written(trimming.tokenizer("unigram", chat_template=TEMPLATE))

    assert "<turn>user\na<end>\n<turn>robot\n" in found
    assert any(text.startswith("<turn>user\na<end>\n<turn>robot\nb<end>\n") for text in found)
    assert "Here are tools" in found  # which nobody had, so that it was not rendered
    assert not any("no system" in text for text in found if "<turn>user" in text)


def test_a_tokenizer_without_a_template_writes_nothing():
    assert written(trimming.tokenizer("unigram")) == []


def test_tags_that_only_transformers_knows_do_no_harm():
    template = "{% generation %}x{% endgeneration %}{{ messages[0].content }}"

    found = written(trimming.tokenizer("unigram", chat_template=template))

    assert "xa" in found
