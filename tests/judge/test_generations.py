"""What a model writes is deterministic, kept beside its scores, and of that model alone."""

import json
from typing import Any

import pico
import pytest
import torch
from transformers import PreTrainedModel

from babelpress.errors import BadCorpus, BadRun, BadSetting, NotFinite
from babelpress.judge import generations, written
from babelpress.models.open import Opened
from babelpress.models.weights import weights_hash

TEXTS = {"sw": "maji ni uhai wa kila kiumbe duniani leo", "am": "ውሃ ሕይወት ነው ለሁሉም ፍጥረት"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for tag, text in TEXTS.items():
        rows = [
            {"doc": "0", "split": "train", "text": "not this"},
            {"doc": "1", "split": "test", "text": text},
        ]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{tag}.jsonl").write_text(lines)
    return str(folder)


def opened(seed: int = 0) -> Opened:
    return Opened("tiny", pico.model(seed=seed), pico.tokenizer(), torch.float32)


def greedy(model: PreTrainedModel, ids: list[int], tokens: int, eos: Any) -> list[int]:
    """The likeliest token after all that came before, without a cache: the slow oracle."""
    new: list[int] = []
    with torch.no_grad():
        while len(new) < tokens:
            logits_V = model(torch.tensor([ids + new])).logits[0, -1]  # type: ignore[operator]
            token = max(range(len(logits_V)), key=lambda each: float(logits_V[each]))
            if token == eos:
                break
            new.append(token)
    return new


def test_the_likeliest_tokens_follow_the_first_half_of_a_test_document(corpus, tmp_path):
    model = opened()

    found = generations.keep(model, tmp_path, corpus, ["sw"], tokens=7)

    (one,) = found
    tokenizer = model.tokenizer
    assert TEXTS["sw"].startswith(one.prompt)
    assert one.prompt == "maji ni uhai wa"
    assert one.reference == TEXTS["sw"][len(one.prompt) :]
    ids = [tokenizer.bos_token_id, *tokenizer(one.prompt, add_special_tokens=False)["input_ids"]]
    new = greedy(model.model, ids, 7, tokenizer.eos_token_id)
    assert one.text == tokenizer.decode(new, skip_special_tokens=True)
    assert (one.language, one.document, one.weights) == (
        "swh_Latn", "1", weights_hash(model.model)
    )  # fmt: skip
    assert written.read(tmp_path) == found


def test_the_same_bytes_whatever_other_languages_are_asked_for(corpus, tmp_path):
    generations.keep(opened(), tmp_path / "one", corpus, ["am"], tokens=5)
    generations.keep(opened(), tmp_path / "one", corpus, ["sw"], tokens=5)
    generations.keep(opened(), tmp_path / "all", corpus, [], tokens=5)

    one, both = ((tmp_path / name / written.FILE).read_bytes() for name in ("one", "all"))
    assert one == both
    assert len(written.read(tmp_path / "all")) == 2


def test_what_another_model_wrote_is_dropped(corpus, tmp_path):
    generations.keep(opened(0), tmp_path, corpus, [], tokens=5)
    generations.keep(opened(1), tmp_path, corpus, ["sw"], tokens=5)

    (left,) = written.read(tmp_path)
    assert (left.language, left.weights) == ("swh_Latn", weights_hash(opened(1).model))


@pytest.mark.parametrize("tokens", [-1, 64])
def test_more_tokens_than_the_model_has_room_for_are_refused(corpus, tmp_path, tokens):
    model = opened()
    model.model.config.max_position_embeddings = 64

    with pytest.raises(BadSetting, match=f"generate is {tokens}. It must be 1 to 63"):
        generations.keep(model, tmp_path, corpus, ["sw"], tokens=tokens)
    assert not list(tmp_path.iterdir())


def test_a_prompt_is_shortened_until_prompt_and_answer_fit(corpus, tmp_path):
    model = opened()
    model.model.config.max_position_embeddings = 20

    (one,) = generations.keep(model, tmp_path, corpus, ["am"], tokens=9)

    ids = model.tokenizer(one.prompt, add_special_tokens=False)["input_ids"]
    assert TEXTS["am"].startswith(one.prompt)
    assert 0 < len(ids) <= 20 - 9 - 1


def test_a_language_without_a_document_to_go_on_with_is_named(tmp_path):
    (tmp_path / "sw.jsonl").write_text('{"doc": "1", "split": "test", "text": "m"}\n')

    with pytest.raises(BadCorpus, match="swh_Latn has no test document"):
        generations.keep(opened(), tmp_path / "out", str(tmp_path), [], tokens=5)
    assert not (tmp_path / "out").exists()


def test_a_model_without_numbers_writes_nothing(corpus, tmp_path):
    broken = opened()
    with torch.no_grad():
        broken.model.get_output_embeddings().weight.fill_(float("nan"))  # type: ignore[union-attr]

    with pytest.raises(NotFinite, match="NaN or infinite while it writes"):
        generations.keep(broken, tmp_path, corpus, [], tokens=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["not json", '{"language": "swh_Latn"}', "changed"])
def test_a_damaged_file_is_named(corpus, tmp_path, damage):
    generations.keep(opened(), tmp_path, corpus, ["sw"], tokens=5)
    path = tmp_path / written.FILE
    line = path.read_text().replace("maji", "moto") if damage == "changed" else f"{damage}\n"
    path.write_text(line)

    with pytest.raises(BadRun, match=r"generations\.jsonl line 1"):
        written.read(tmp_path)


def test_a_folder_without_any_has_nothing(tmp_path):
    assert written.read(tmp_path) == []
