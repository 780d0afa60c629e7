"""Files beside tokenizer.json: numbered anew, written anew, or dropped and named."""

import io
import json

import pytest
import trimming

from babelpress.trim import _files, _rules, trimmer


def made_of(kind, *late):
    """Rules, of which the marks, and tokens behind the vocabulary, stay."""
    rules = trimming.rules(kind)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    size = len(_rules.tokens(rules))
    for number, name in enumerate(late, size):
        rules["added_tokens"].append({"id": number, "content": name, "special": True, **flags})
    by = trimmer(rules, "it")
    kept = by.always(rules["model"]) | _rules.Known.of(rules).special
    made = _rules.rewrite(_rules.Known.of(rules), by, kept)
    return rules, made, _rules.tokens(rules).keys() - _rules.tokens(made.rules).keys()


def numbered(end, begin, fill, last):
    """Files beside tokenizer.json with these ids; `last` is of a token that goes."""
    decoder = {
        str(fill): {"content": "<fill>"},
        str(last): {"content": "gone"},
        str(begin): {"content": "<begin>"},
        "2": {"content": "<bos>"},
    }
    processor = {"image_token_id": begin, "size": {"height": end}, "inside": {"pad_token_id": fill}}
    return {
        "tokenizer_config.json": {
            "added_tokens_decoder": decoder,
            "pad_token": "<fill>",
            "pad_token_id": fill,
        },
        "added_tokens.json": {"<begin>": begin, "gone": last},
        "generation_config.json": {
            "eos_token_id": [end],
            "suppress_tokens": [last, begin],
            "temperature": 1,
        },
        "processor_config.json": processor,
        "preprocessor_config.json": {"image_token_id": begin},
    }


def test_ids_of_settings_and_added_tokens_are_new():
    rules, made, dropped = made_of("byte_level_bpe", "<end>", "<begin>", "<fill>")
    before, after = _rules.tokens(rules), _rules.tokens(made.rules)
    end, begin, fill = (before[each] for each in ("<end>", "<begin>", "<fill>"))
    new = {before[token]: number for token, number in after.items()}
    assert min(end - new[end], begin - new[begin], fill - new[fill]) > 0
    last = max(rules["model"]["vocab"].values())
    assert last not in new
    parts = numbered(end, begin, fill, last)
    files = {name: json.dumps(each).encode() for name, each in parts.items()} | {
        "tokenizer.json": b"old",
        "special_tokens_map.json": b'{"bos_token": "<bos>"}',
        "chat_template.jinja": b"{{ x }}",
    }

    found, gone = _files.rewrite(files, made, dropped)

    read = {name: json.loads(content) for name, content in found.items() if name[-1] == "n"}
    assert gone == []
    assert set(found) == set(files)
    assert read["tokenizer.json"] == made.rules
    settings = read["tokenizer_config.json"]
    assert settings["pad_token_id"] == after["<fill>"]
    assert {each["content"]: int(n) for n, each in settings["added_tokens_decoder"].items()} == {
        token: after[token] for token in ("<bos>", "<begin>", "<fill>")
    }
    assert read["added_tokens.json"] == {"<begin>": after["<begin>"]}
    assert read["generation_config.json"] == {
        "eos_token_id": [after["<end>"]],
        "suppress_tokens": [after["<begin>"]],
        "temperature": 1,
    }
    assert read["processor_config.json"] == {
        "image_token_id": after["<begin>"],
        "size": {"height": end},
        "inside": {"pad_token_id": after["<fill>"]},
    }
    assert read["preprocessor_config.json"] == {"image_token_id": after["<begin>"]}
    assert found["special_tokens_map.json"] == files["special_tokens_map.json"]
    assert found["chat_template.jinja"] == files["chat_template.jinja"]


def test_vocabularies_of_their_own_are_written_anew():
    _, made, dropped = made_of("byte_level_bpe")
    found, gone = _files.rewrite(
        {"vocab.json": b"", "merges.txt": b"", "x.tiktoken": b""}, made, dropped
    )
    assert json.loads(found["vocab.json"]) == made.rules["model"]["vocab"]
    assert found["merges.txt"].decode().splitlines() == [
        "#version: 0.2",
        *(" ".join(pair) for pair in made.rules["model"]["merges"]),
    ]
    assert gone == ["x.tiktoken"]

    _, made, dropped = made_of("wordpiece")
    found, gone = _files.rewrite({"vocab.txt": b"", "vocab.json": b""}, made, dropped)
    assert found["vocab.txt"].decode().splitlines() == list(made.rules["model"]["vocab"])
    assert gone == ["vocab.json"]


def test_a_sentencepiece_model_that_cannot_be_read_is_dropped_and_named():
    _, made, dropped = made_of("unigram")

    found, gone = _files.rewrite({"tokenizer.model": b"\xff\xff\xff"}, made, dropped)

    assert gone == ["tokenizer.model"]
    assert list(found) == ["tokenizer.json"]


def test_a_sentencepiece_model_keeps_the_pieces_that_stay():
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    rules, made, dropped = made_of("unigram")
    model = proto.ModelProto()
    for piece, score in rules["model"]["vocab"]:
        model.pieces.add(piece=piece, score=score)
    tested = b"\x22\x08\x0a\x06\x0a\x01a\x12\x01g"  # field 4, self_test_data: a is read as g

    content = model.SerializeToString() + tested
    found, gone = _files.rewrite({"spiece.model": content}, made, dropped)

    assert gone == []
    again = proto.ModelProto.FromString(found["spiece.model"])
    expected = [piece for piece, _ in made.rules["model"]["vocab"]]
    assert [each.piece for each in again.pieces] == expected
    assert len(expected) < len(rules["model"]["vocab"])
    assert again.trainer_spec.vocab_size == len(expected)
    assert tested not in found["spiece.model"]


def test_a_sentencepiece_model_without_pieces_reads_what_is_kept_as_before():
    package = pytest.importorskip("sentencepiece")
    buffer = io.BytesIO()
    package.SentencePieceTrainer.train(
        sentence_iterator=iter(trimming.lines()),
        model_writer=buffer,
        vocab_size=trimming.SIZE,
        character_coverage=0.999,
        minloglevel=2,
    )
    old = package.SentencePieceProcessor(model_proto=buffer.getvalue())
    pieces = [old.id_to_piece(number) for number in range(len(old))]
    scores = [old.get_score(number) for number in range(len(old))]
    texts = trimming.lines()[:60]
    used = {piece for text in texts for piece in old.encode(text, out_type=str)}
    stays = used | set(pieces[:3]) | {pieces[scores.index(min(scores))]}

    content = _files._sentencepiece(buffer.getvalue(), frozenset(set(pieces) - stays))

    new = package.SentencePieceProcessor(model_proto=content)
    assert [new.id_to_piece(n) for n in range(len(new))] == [p for p in pieces if p in stays]
    assert len(new) < len(old)
    for text in texts:
        assert new.encode(text, out_type=str) == old.encode(text, out_type=str)
