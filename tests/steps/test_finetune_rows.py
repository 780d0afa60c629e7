"""A fine-tuning step in which only those rows of the token table learn that texts read."""

import labelling
import pico
import pytest
import torch
from killing import killed_before
from running import content, do, weights
from safetensors import safe_open
from safetensors.torch import load_file
from stopping import stop_at

from babelpress.runs import recipe, run
from babelpress.steps import _finetuning
from babelpress.text.labelled import open_labelled

pytestmark = pytest.mark.usefixtures("one_thread")
TABLE = "bert.embeddings.word_embeddings.weight"
TEXT = {"corpus": "embedded", "languages": ["swh_Latn"], "tokens": 128, "length": 32}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "bert"
    return labelling.folder(folder, labelling.loud(pico.model("bert").base_model, 0.12))


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    sizes = {"swa": {"train": 16, "dev": 6}}
    return labelling.write_topics(tmp_path_factory.mktemp("topics"), sizes)


def plan(model, corpus, **step):
    asked = {"task": "topic", "corpus": str(corpus), "epochs": 2, "rate": 0.01, "batch": 4}
    steps = [{"finetune": {**asked, "length": 64, "decay": 0.1, **step}}]
    return recipe.of({"model": str(model), "calibration": TEXT, "steps": steps})


def read_by(corpus):
    """The tokens of all train texts, and those that begin and end a text."""
    texts = [
        each.words[0] for each in open_labelled("topic", corpus).documents("swh_Latn", "train")
    ]
    return {0, 1} | {token for ids in pico.tokenizer()(texts)["input_ids"] for token in ids}


def kept_tensors(folder):
    """The names of what the checkpoints of a stopped training hold."""
    (one, *_) = folder.rglob("checkpoint-*/state.safetensors")
    with safe_open(one, "pt") as found:
        return [*found.keys()]


def test_fewer_numbers_learn_and_a_row_that_no_text_reads_stays_bit_for_bit(
    encoder, topics, tmp_path
):
    (step,) = do(plan(encoder, topics), tmp_path / "run")["steps"]

    after = weights(tmp_path / "run")
    before = load_file(f"{encoder}/model.safetensors")[TABLE.removeprefix("bert.")]
    moved = (after[TABLE] != before).any(1).nonzero()[:, 0].tolist()
    whole = sum(each.numel() for each in after.values())
    assert 0 < len(moved) < len(before) / 2
    assert set(moved) <= read_by(topics)
    still = [row for row in range(len(before)) if row not in moved]
    assert torch.equal(after[TABLE][still], before[still])
    assert step["trained"] <= whole - (len(before) - len(moved) - 3) * before.shape[1]
    assert not [name for name in after if name.endswith(".rows")]


def test_a_stopped_or_killed_training_goes_on_to_the_same_bytes_with_rows_in_its_checkpoint(
    encoder, topics, tmp_path, monkeypatch
):
    monkeypatch.setattr(_finetuning, "OFTEN", 3)
    asked = plan(encoder, topics)
    do(asked, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run.do(asked, tmp_path / "run", progress=stop_at(5))
    assert [name for name in kept_tensors(tmp_path) if name.endswith("word_embeddings.rows")]
    run.do(asked, tmp_path / "run")
    assert killed_before(30, lambda: run.do(asked, tmp_path / "killed"))
    run.do(asked, tmp_path / "killed")

    whole = content(tmp_path / "whole")
    assert content(tmp_path / "run") == content(tmp_path / "killed") == whole


def test_a_checkpoint_of_before_there_were_rows_is_not_gone_on_with(
    encoder, topics, tmp_path, monkeypatch
):
    asked = plan(encoder, topics)
    do(asked, tmp_path / "whole")
    make = _finetuning.checkpoints
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_finetuning, "OFTEN", 3)
        patch.setattr(_finetuning, "_rows", lambda *_: [])
        patch.setattr(
            _finetuning,
            "checkpoints",
            lambda folder, work, progress: make(
                folder, {key: value for key, value in work.items() if key != "rows"}, progress
            ),
        )
        run.do(asked, tmp_path / "run", progress=stop_at(5))
    assert not [name for name in kept_tensors(tmp_path) if name.endswith(".rows")]

    run.do(asked, tmp_path / "run")

    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_a_table_that_is_pruned_has_no_rows_apart(encoder, topics, tmp_path):
    step, other = (
        do(plan(encoder, topics, gradual="0.5", embeddings=both), tmp_path / str(both))["steps"][0]
        for both in (True, False)
    )

    after = weights(tmp_path / "True")
    assert step["trained"] == sum(each.numel() for each in after.values())
    assert other["trained"] < step["trained"]
    assert int((after[TABLE] == 0).sum()) == after[TABLE].numel() // 2
