import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from babelpress.errors import BadModel, BadSetting, NotFinite
from babelpress.text import self_written

BOS, EOS = 256, 257


@pytest.fixture(scope="module")
def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {letter: place for place, letter in enumerate(alphabet)} | {"<s>": BOS, "</s>": EOS}
    backend = Tokenizer(models.BPE(vocab=words, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(autouse=True)
def embedded(tmp_path, monkeypatch):
    """Two sentences of Swahili stand for the embedded corpus; Yoruba is not in it."""
    (tmp_path / "sw.jsonl").write_text(
        '{"doc": "1", "split": "train", "text": "maji"}\n'
        '{"doc": "2", "split": "train", "text": "moto moto"}\n'
    )
    monkeypatch.setattr("babelpress.text.corpus.EMBEDDED", tmp_path)


def write(model, tokenizer, tags=("swh_Latn",), **options):
    settings = {"tokens": 200, "length": 30, "seed": 3, "batch": 4} | options
    return self_written.write(model, tokenizer, tags, **settings)


def test_enough_documents_are_written_and_each_begins_with_a_prompt(model, tokenizer):
    documents = write(model, tokenizer, ["swh_Latn", "yor_Latn"])

    assert list(documents) == ["swh_Latn", "yor_Latn"]
    for tag, beginnings in {"swh_Latn": ["maji", "moto"], "yor_Latn": ["Yor", "Èdè"]}.items():
        assert sum(map(len, documents[tag])) >= 200
        assert max(map(len, documents[tag])) <= 30
        for ids in documents[tag]:
            assert any(tokenizer.decode(ids[:4]).startswith(each[:2]) for each in beginnings)
            assert EOS not in ids


def test_the_seed_decides_and_nothing_else(model, tokenizer):
    torch.manual_seed(1)
    one = write(model, tokenizer)
    torch.manual_seed(2)

    assert write(model, tokenizer, ["yor_Latn", "swh_Latn"])["swh_Latn"] == one["swh_Latn"]
    assert write(model, tokenizer, seed=4) != one


def test_a_cached_step_gives_what_a_whole_pass_gives(model, tokenizer):
    """With top_p next to nothing sampling takes the likeliest id, which needs no luck to check."""
    documents = write(model, tokenizer, top_p=1e-9)["swh_Latn"]

    ids = torch.tensor([[BOS, *documents[0]]])
    likeliest = model(input_ids=ids).logits[0].argmax(dim=1).tolist()
    assert documents[0][4:] == likeliest[4:-1]


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    logits_BV = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(4000, 1)
    draw = {
        top_p: self_written._draw(
            logits_BV, top_p=top_p, generator=torch.Generator().manual_seed(0)
        ).flatten()
        for top_p in (1.0, 0.79, 0.81)
    }

    shares = draw[1.0].bincount(minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03, rtol=0)
    assert draw[0.79].unique().tolist() == [0, 1]
    assert draw[0.81].unique().tolist() == [0, 1, 2]


def test_the_mode_of_the_model_is_left_as_it_was(model, tokenizer):
    model.train()

    write(model, tokenizer)

    assert model.training


def test_a_model_that_gives_no_numbers_is_named(model, tokenizer):
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan

    with pytest.raises(NotFinite, match="NaN or infinite while it writes text"):
        write(model, tokenizer)


def test_a_prompt_that_the_model_has_no_embedding_for_is_refused(model, tokenizer):
    model.resize_token_embeddings(BOS)

    with pytest.raises(BadModel, match=f"gave token {BOS}, but the model knows {BOS} tokens"):
        write(model, tokenizer)


@pytest.mark.parametrize("wrong", [{"top_p": 0.0}, {"top_p": 1.5}, {"length": 4}, {"batch": 0}])
def test_settings_that_cannot_be_sampled_with_are_refused(model, tokenizer, wrong):
    with pytest.raises(BadSetting, match="cannot be sampled with"):
        write(model, tokenizer, **wrong)
