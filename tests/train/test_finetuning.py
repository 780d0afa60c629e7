"""Fine-tuning against a loop by hand: its loss, its order of texts, its best epoch."""

from collections import Counter
from typing import Any

import labelling
import pico
import pytest
import torch

from babelpress.text.labelled import Labelled
from babelpress.text.pieces import pieces_of
from babelpress.train import finetuning
from babelpress.train.batches import Example
from babelpress.train.finetuning import (
    Finetuning,
    examples_of,
    mean_loss,
)


def slow_loss(model, documents, labels, by_word):
    """One text at a time, one label at a time; the mean over labels."""
    total, number = 0.0, 0
    for each in documents:
        read = [word if n == 0 else f" {word}" for n, word in enumerate(each.words)]
        tokens = [pico.tokenizer()(word, add_special_tokens=False)["input_ids"] for word in read]
        ids = [0, *(token for word in tokens for token in word), 1]
        logits = model(torch.tensor([ids])).logits[0].double()
        place = 1
        for word, label in zip(tokens, each.labels, strict=True):
            row = logits[place] if by_word else logits
            total += -row.log_softmax(0)[labels.index(label)].item()
            place += len(word)
            number += 1
    return total / number


@torch.no_grad()
@pytest.mark.parametrize("by_word", [True, False])
@pytest.mark.parametrize("family", ["bert", "xlm_roberta"])
def test_the_loss_is_the_mean_cross_entropy_of_all_labels(family, by_word):
    labels = labelling.NAMES if by_word else labelling.TOPICS
    heads = labelling.OF_WORDS if by_word else labelling.OF_TEXTS
    documents = labelling.sentences(7) if by_word else labelling.topics(7)
    model = labelling.head(heads, family, labels)
    pieces = pieces_of(pico.tokenizer(), documents, 128, by_word=by_word)

    found = mean_loss(model, examples_of(pieces, documents, labels))

    assert found.item() == pytest.approx(slow_loss(model, documents, labels, by_word), rel=1e-4)


def test_the_pieces_of_a_split_sentence_have_the_labels_of_their_words():
    long = Labelled(
        "x", tuple("abcdefgh"), ("O", "B-PER", "I-PER", "O", "B-LOC", "O", "O", "B-PER")
    )
    pieces = pieces_of(pico.tokenizer(), [long], 8, by_word=True)
    assert len(pieces) > 2

    found = examples_of(pieces, [long], labelling.NAMES)

    numbers = [number for each in found for number in each.labels_W]
    assert [labelling.NAMES[number] for number in numbers] == list(long.labels)
    assert all(len(each.labels_W) == len(each.places_W) for each in found)


def made(tmp_path, sizes, shares, scores=(), **more) -> Any:
    told = iter(scores)
    examples = {
        tag: [Example((0, 5, 1), (), (n % 3,)) for n in range(size)] for tag, size in sizes.items()
    }
    settings = {"batch": 4, "epochs": 9, "patience": 2, "seed": 0, **more}
    return Finetuning(
        model=torch.nn.Linear(2, 2),  # type: ignore[arg-type]
        examples=examples,
        shares=shares,
        score=lambda: next(told),
        place=tmp_path,
        **settings,
    )


def test_an_epoch_has_so_many_texts_of_each_language_as_its_share_says(tmp_path):
    trains = made(tmp_path, {"a": 10, "b": 3, "c": 7}, {"a": 0.5, "b": 0.5, "c": 0.0})

    epochs = [Counter(trains.order(epoch)) for epoch in range(12)]

    assert trains.steps_of_epoch == 5
    for epoch in epochs:
        by_language = Counter(tag for tag, _ in epoch.elements())
        assert by_language == {"a": 10, "b": 10}
        assert all(epoch["a", number] == 1 for number in range(10))
        times = [epoch["b", number] for number in range(3)]
        assert sorted(times) == [3, 3, 4]
    assert len({trains.order(epoch)[0] for epoch in range(9)}) > 1
    assert len({number for each in epochs for number in range(3) if each["b", number] == 4}) > 1
    again = made(tmp_path, {"a": 10, "b": 3, "c": 7}, trains.shares)
    other = made(tmp_path, {"a": 10, "b": 3, "c": 7}, trains.shares, seed=1)
    assert trains.order(2) == again.order(2)
    assert trains.order(2) != other.order(2)


def run(trains, epochs):
    """Epochs in which the weight is the number of the epoch; how many were done."""
    for epoch in range(epochs):
        with torch.no_grad():
            trains.model.weight.fill_(float(epoch))
        for place in range(trains.steps_of_epoch):
            if trains.after(epoch * trains.steps_of_epoch + place + 1, float(place)):
                return epoch + 1
    return epochs


SCORES = [(0.1, 0.5), (0.6, 0.2), (0.4, 0.4), (0.3, 0.3), (0.9, 0.9)]


def of(scores):
    return [{"a": one, "b": other} for one, other in scores]


def test_the_best_epoch_counts_and_patience_ends_it(tmp_path):
    trains = made(tmp_path, {"a": 4, "b": 4}, {"a": 0.5, "b": 0.5}, of(SCORES))

    done = run(trains, 5)

    assert done == 4  # two epochs in a row were no better than the second
    assert trains.best == 1
    assert trains.losses == [0.5] * 4
    trains.load_best()
    assert trains.model.weight[0, 0] == 1.0
    assert trains.after(9, 1.0)  # where a killed one went on, it ends at once
    assert len(trains.scores) == 4


def test_without_patience_all_epochs_are_done(tmp_path):
    trains = made(tmp_path, {"a": 4, "b": 4}, {"a": 0.5, "b": 0.5}, of(SCORES), patience=0)

    assert run(trains, 5) == 5
    assert trains.best == 4
    assert [path.name for path in sorted(tmp_path.glob("best-*"))] == [
        "best-1.safetensors",  # until the next epoch a checkpoint may count on it
        "best-4.safetensors",
    ]


def test_what_it_remembers_is_what_it_goes_on_with(tmp_path):
    first = made(tmp_path, {"a": 4, "b": 4}, {"a": 0.5, "b": 0.5}, of(SCORES))
    run(first, 2)
    first._since.append(0.25)

    other = made(tmp_path, {"a": 4, "b": 4}, {"a": 0.5, "b": 0.5}, of(SCORES[2:]))
    other.restore(first.state())

    assert other.state() == first.state()
    other.load_best()
    assert other.model.weight[0, 0] == 1.0


def test_an_epoch_whose_weights_are_not_ready_is_not_the_best(tmp_path):
    class Later:
        def at(self, _step):
            """Nothing."""

        def settle(self):
            """Nothing."""

        def ready(self, step):
            return step >= 6

    trains = made(tmp_path, {"a": 4, "b": 4}, {"a": 0.5, "b": 0.5}, of(SCORES), adapting=(Later(),))

    assert run(trains, 5) == 5
    assert trains.best == 4
    assert trains.scores[1] == {"a": 0.6, "b": 0.2}


@pytest.mark.parametrize("by_word", [True, False])
def test_short_texts_are_run_apart_from_long_ones_to_the_same_gradient(by_word, monkeypatch):
    labels = labelling.NAMES if by_word else labelling.TOPICS
    heads = labelling.OF_WORDS if by_word else labelling.OF_TEXTS
    documents = labelling.sentences(11) if by_word else labelling.topics(11)
    model = labelling.head(heads, "bert", labels)
    batch = examples_of(
        pieces_of(pico.tokenizer(), documents, 128, by_word=by_word), documents, labels
    )
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, _kwargs: seen.append(tuple(args[0].shape)), with_kwargs=True
    )

    def gradients(size):
        monkeypatch.setattr(finetuning, "TOGETHER", size)
        model.zero_grad()
        mean_loss(model, batch).backward()
        return {n: e.grad.clone() for n, e in model.named_parameters() if e.grad is not None}

    whole, parts = gradients(64), gradients(4)

    assert [shape[0] for shape in seen] == [11, 4, 4, 3]
    widths = [shape[1] for shape in seen[1:]]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1] == seen[0][1]
    for name, each in whole.items():
        torch.testing.assert_close(parts[name], each, rtol=1e-4, atol=1e-6)
