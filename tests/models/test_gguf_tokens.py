"""Tokenizers out of GGUF files, against those that were written and a plain llama.cpp's rule."""

import json
import random
from itertools import pairwise

import pytest
import torch
import trimming
from small import SHAPE, opened
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AddedToken, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from babelpress.errors import BadModel
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models import gguf_header, gguf_splits, gguf_tokens, probes
from babelpress.models.gguf_tokens import CONTROL, NORMAL, UNUSED, USER_DEFINED
from babelpress.models.open import Opened
from babelpress.models.tokenizers import encode


def read_back(tokenizer, folder, **options):
    """A tokenizer out of the file that it was written into, and the file's header."""
    config = LlamaConfig(**{**SHAPE, "vocab_size": len(tokenizer) + 2})
    of = Opened("small", LlamaForCausalLM(config).eval(), tokenizer, torch.float32)
    FORMATS.get("gguf")(Source("small", of), folder, **options)
    header = gguf_header.read(folder / "model.gguf")
    return gguf_tokens.tokenizer(header), header


def same(one, other):
    texts = [*probes.texts(), *trimming.lines()[:200]]
    return encode(one, texts)["input_ids"] == encode(other, texts)["input_ids"]


def slow_pieces(header, text):
    """llama.cpp's SentencePiece BPE: again and again the best pair of neighbours is joined."""
    tokens = header.metadata["tokenizer.ggml.tokens"]
    scores = header.metadata["tokenizer.ggml.scores"]
    ids = {token: number for number, token in enumerate(tokens)}
    prefix = "▁" if header.metadata["tokenizer.ggml.add_space_prefix"] else ""
    parts = list(prefix + text.replace(" ", "▁"))
    while True:
        pairs = [
            (-scores[ids[a + b]], place)
            for place, (a, b) in enumerate(pairwise(parts))
            if a + b in ids
        ]
        if not pairs:
            break
        _, place = min(pairs)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    found = []
    for part in parts:
        found += [ids[part]] if part in ids else [ids[f"<0x{b:02X}>"] for b in part.encode()]
    return found


# ---- byte-level BPE ------------------------------------------------------------------------


def bytes_tokenizer(pre):
    """A byte-level BPE with merges of the embedded text, cut as one name of llama.cpp says."""
    made = trimming.rules("byte_level_bpe")
    cuts = [pre_tokenizers.Split(Regex(each), "isolated") for each in pre.regexes]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made["model"]["ignore_merges"] = pre.ignore_merges
    made["post_processor"] = None
    backend = Tokenizer.from_str(json.dumps(made))
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cuts, level])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


@pytest.mark.parametrize("pre", gguf_splits.KNOWN, ids=lambda each: each.name)
def test_text_is_cut_as_the_name_says(pre, tmp_path):
    before = bytes_tokenizer(pre)
    found, header = read_back(before, tmp_path, pre=pre.name)

    assert header.metadata["tokenizer.ggml.pre"] == pre.name
    assert same(before, found)


def test_other_names_for_the_same_are_read_so():
    assert gguf_splits.called("llama3") is gguf_splits.called("llama-bpe")
    assert gguf_splits.called("viking") is None


def test_tokens_of_users_marks_and_what_comes_around_stay(tmp_path):
    before = trimming.tokenizer("byte_level_bpe")
    before.add_tokens([AddedToken("<think> so", special=False)])
    before.add_tokens([AddedToken("<|turn|>", special=True)], special_tokens=True)
    before.chat_template = "{{ messages }}"
    found, header = read_back(before, tmp_path)

    types = header.metadata["tokenizer.ggml.token_type"]
    assert types[-4:] == [USER_DEFINED, CONTROL, UNUSED, UNUSED]
    for text in ("a <think> so b", "a<|turn|>b", "juu"):
        assert found(text)["input_ids"] == before(text)["input_ids"]
    assert found.decode(found("हिन्दी juu")["input_ids"]) == before.decode(
        before("हिन्दी juu")["input_ids"]
    )
    assert len(found) == len(before)
    assert found.special_tokens_map == {
        key: before.special_tokens_map[key] for key in found.special_tokens_map
    }
    assert {"bos_token", "eos_token", "pad_token", "unk_token"} <= set(found.special_tokens_map)
    assert found.chat_template == before.chat_template


# ---- SentencePiece BPE ---------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [False, True])
def test_pieces_are_merged_in_the_order_of_their_scores(prefix, tmp_path):
    before = trimming.tokenizer("sentencepiece_bpe")
    if prefix:
        before.backend_tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        before.backend_tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    found, header = read_back(before, tmp_path)

    assert header.metadata["tokenizer.ggml.model"] == "llama"
    assert header.metadata["tokenizer.ggml.add_space_prefix"] == prefix
    assert same(before, found)
    for text in trimming.texts("hin_Deva")[:3]:
        ids = found(text)["input_ids"]
        assert ids == before(text)["input_ids"]
        assert found.decode(ids) == before.decode(ids)


def test_the_scores_give_llama_cpp_the_tokens_of_the_tokenizer(tmp_path):
    before = trimming.tokenizer("sentencepiece_bpe")
    found, header = read_back(before, tmp_path)
    texts = [line[:60] for line in random.Random(3).sample(trimming.lines(), 60)]
    texts += ["a  b", "   ", "ab\n\nc", "€🙂 ñ"]

    for text in texts:
        expected = encode(before, [text])["input_ids"][0]
        assert slow_pieces(header, text) == expected
        assert encode(found, [text])["input_ids"][0] == expected


def test_a_file_that_says_nothing_begins_with_bos_and_a_space(tmp_path):
    _, header = read_back(trimming.tokenizer("sentencepiece_bpe"), tmp_path)
    gone = {f"tokenizer.ggml.{name}" for name in ("add_bos_token", "add_space_prefix")}
    bare = gguf_header.Header(
        header.path, {k: v for k, v in header.metadata.items() if k not in gone}, header.tensors
    )
    made = gguf_tokens.rules(bare)

    assert made["normalizer"]["normalizers"][0] == {"type": "Prepend", "prepend": "▁"}
    first = made["post_processor"]["single"][0]["SpecialToken"]["id"]
    assert first == "<bos>"


# ---- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokenizer.ggml.merges": []}, "has no merges"),
        ({"tokenizer.ggml.tokens": ["a", "a"], "tokenizer.ggml.token_type": [1, 1]}, "0 and 1 are"),
        ({"tokenizer.ggml.token_type": [1]}, "differ in number"),
        ({"tokenizer.ggml.model": "t5"}, "of the kind 't5'"),
        ({"tokenizer.ggml.tokens": []}, "has no tokenizer"),
        ({"tokenizer.ggml.bos_token_id": 270}, r"ggml\.bos_token_id is 270.* there are 270 tokens"),
        ({"tokenizer.ggml.mask_token_id": "x"}, r"ggml\.mask_token_id is 'x'"),
    ],
)
def test_a_tokenizer_that_cannot_be_told_is_one_line(change, words, tmp_path):
    FORMATS.get("gguf")(Source("small", opened()), tmp_path)
    header = gguf_header.read(tmp_path / "model.gguf")
    changed = gguf_header.Header(header.path, {**header.metadata, **change}, header.tensors)

    with pytest.raises(BadModel, match=words):
        gguf_tokens.rules(changed)


def test_merges_are_all_ways_to_part_a_token():
    tokens = ["a", "b", "c", "ab", "bc", "abc", "<0x41>", "<s>"]
    ids = {token: number for number, token in enumerate(tokens)}
    kinds = [NORMAL] * 6 + [gguf_tokens.BYTE, CONTROL]
    scores = [0, 0, 0, -2, -1, -3, 0, 0]

    found = list(gguf_tokens.merges_of(ids, kinds, scores))

    assert found == [("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")]


def test_a_bpe_on_characters_without_bytes_is_no_such_tokenizer(tmp_path):
    backend = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    made = PreTrainedTokenizerFast(tokenizer_object=backend)

    with pytest.raises(BadModel, match="is BPE on characters"):
        read_back(made, tmp_path)
