"""Ids that configs name: found, and numbered anew."""

from typing import Any

import pico
import pytest
from running import refusal
from transformers import GenerationConfig, LlamaConfig, LlavaConfig

from babelpress.errors import BadModel
from babelpress.models.token_ids import check, named, renumber, renumbered

NEW = {0: 0, 2: 1, 5: 2, 9: 3}
CONFIG = {
    "bos_token_id": 2,
    "eos_token_id": [5, 9],
    "pad_token_id": None,
    "image_token_index": 9,
    "decoder_start_token_id": 0,
    "vocab_size": 10,
    "num_hidden_layers": 2,
    "token_type_ids": [5],
    "use_token_ids": True,
    "id2label": {0: "a", 5: "b"},
    "lang_to_id": {"<en>": 5, "<sw>": 9},
    "text_config": {"pad_token_id": -1, "sep_token_id": 5},
    "suppress_tokens": [9, 7, 1],
    "begin_suppress_tokens": [7],
    "forced_decoder_ids": [[1, 5], [2, None]],
    "bad_words_ids": [[5, 9], [7, 5]],
    "sequence_bias": [[[5], 9.0], [[7, 5], 2.0]],
}


def test_what_a_config_names_is_found_but_not_what_it_only_forbids():
    assert named(CONFIG) == {0, 2, 5, 9}
    assert named({"suppress_tokens": [3], "bad_words_ids": [[4]], "num_tokens": 6}) == set()
    assert named({"force_words_ids": [[3, 4]]}) == {3, 4}


def test_ids_are_new_and_numbers_that_are_none_stay():
    assert renumbered(CONFIG, NEW) == {
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "pad_token_id": None,
        "image_token_index": 3,
        "decoder_start_token_id": 0,
        "vocab_size": 10,
        "num_hidden_layers": 2,
        "token_type_ids": [5],
        "use_token_ids": True,
        "id2label": {0: "a", 5: "b"},
        "lang_to_id": {"<en>": 2, "<sw>": 3},
        "text_config": {"pad_token_id": -1, "sep_token_id": 2},
        "suppress_tokens": [3],
        "begin_suppress_tokens": [],
        "forced_decoder_ids": [[1, 2], [2, None]],
        "bad_words_ids": [[2, 3]],
        "sequence_bias": [[[2], 9.0]],
    }
    assert CONFIG["eos_token_id"] == [5, 9]


def test_an_id_beyond_all_rows_pointed_at_nothing_and_still_does():
    assert renumbered({"pad_token_id": 128_004}, NEW) == {"pad_token_id": 128_004}


def test_open_configs_are_changed_in_place():
    config = LlamaConfig(vocab_size=10, bos_token_id=2, eos_token_id=5, pad_token_id=9)
    generation = GenerationConfig(eos_token_id=[5, 9], suppress_tokens=[7, 9], max_length=9)

    renumber(config, NEW)
    renumber(generation, NEW)

    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 3)
    assert config.vocab_size == 10
    assert generation.eos_token_id == [2, 3]
    assert generation.suppress_tokens == [3]
    assert generation.max_length == 9


def test_plain_configs_inside_an_open_one_are_entered_but_no_labels():
    tasks = {"summary": {"decoder_start_token_id": 5, "max_length": 9, "deep": {"eos_token_id": 9}}}
    labels = {"token_id": 5, "pad_token_id": 9}
    config: Any = LlamaConfig(vocab_size=10)
    config.task_specific_params = tasks
    config.label2id = dict(labels)

    renumber(config, NEW)

    new = {"decoder_start_token_id": 2, "max_length": 9, "deep": {"eos_token_id": 3}}
    assert config.to_dict()["task_specific_params"] == {"summary": new}
    assert tasks["summary"]["decoder_start_token_id"] == 5
    assert config.label2id == labels
    assert named({"label2id": labels}) == set()


def test_open_configs_inside_an_open_one_are_entered():
    config: Any = LlavaConfig(text_config=LlamaConfig(bos_token_id=5), image_token_index=9)

    renumber(config, NEW)

    assert config.text_config.bos_token_id == 2
    assert config.image_token_index == config.image_token_id == 3


@pytest.mark.parametrize(
    "key",
    ["pad_index", "eos_index", "bos_id", "image_start_id", "im_start_id", "image_patch_id"],
)
def test_keys_of_single_families_are_known(key):
    assert named({key: 5}) == {5}
    assert renumbered({key: 5}, NEW) == {key: 2}
    check("it", {key: 5}, 10)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"codec_bos_id": 9}, "the config of it says codec_bos_id=9, which may be the number of"),
        ({"text_config": {"merge_index": 0}}, "says merge_index=0,"),
        ({"vocabulary_map": {"a": 5, "b": 6}}, "says vocabulary_map,"),
        ({"marks": {"<img>": 5}}, "says marks,"),
    ],
)
def test_a_number_that_may_be_a_token_and_is_not_known_is_one_line(config, words):
    assert words in refusal(BadModel, check, "it", config, 10)


def test_ordinary_numbers_are_no_tokens():
    ordinary = {
        "num_hidden_layers": 2,
        "num_experts_per_tok": 4,
        "insert_layer_id": 6,
        "moe_layer_start_index": 1,
        "semantic_loss_ignore_index": 5,
        "no_aggregation_label_index": 3,
        "lang_id": 0,
        "problem_type": 1,
        "attn_uses_sequence_id": True,
        "speaker_id": None,
        "codec_bos_id": 4197,  # beyond all rows
        "out_indices": [1, 2],
        "id2label": {0: "a", 5: "b"},
        "label2id": {"<b>": 5, "pad_id": 3, "x_id": 2},
        "lang2id": {"en": 0},
        "quantization_config": {"bits": 4, "group_size": 8},
        "rope_parameters": {"factor": 8, "original_max_position_embeddings": 9},
    }

    check("it", {**ordinary, "text_config": ordinary}, 10)
    assert renumbered(ordinary, NEW) == ordinary


@pytest.mark.parametrize("family", pico.EVERY)
def test_no_family_is_refused_for_what_its_config_says(family):
    config = pico.model(family).config.to_dict()

    check("it", config, pico.VOCABULARY)

    with pytest.raises(BadModel, match="odd_id"):
        check("it", {**config, "odd_id": 7}, pico.VOCABULARY)
