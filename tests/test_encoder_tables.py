"""The tables of the battery of small encoders: which seeds and languages a mean is over."""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from babelpress import evals
from babelpress.sweeps import plan
from benchmarks.papers import encoders, engines, layout, tasks
from benchmarks.papers.awobade import table as awobade
from benchmarks.papers.brittle import table as brittle
from benchmarks.papers.ogueji import table as ogueji

PAPERS = Path(engines.__file__).parent
TAGS = ("hau_Latn", "swh_Latn", "yor_Latn")
WORDS = "fine-tune, then gptq 4 bits"


def run(seed, losses, words=WORDS, share=0.5):
    """One recipe with plain values in place of scored folders."""
    made = encoders.Run(Path(f"run-{seed}"), Path("dense"), words, seed, "texts", share, "ner")
    made.__dict__.update(losses=losses, before=dict.fromkeys(TAGS, 0.5))
    return made


UNEVEN = [
    run(0, {"hau_Latn": -0.1, "swh_Latn": 0.2}),
    run(1, {"hau_Latn": -0.3, "swh_Latn": 0.4, "yor_Latn": 0.9}),
    run(2, {}),
]


def cells(text):
    """The rows of a table without its head."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def test_means_are_over_the_languages_that_all_seeds_tell():
    assert encoders.shared(UNEVEN) == ["hau_Latn", "swh_Latn"]
    assert encoders.mean_losses(UNEVEN) == pytest.approx([0.05, 0.05])
    assert encoders.mean_losses([run(0, {"hau_Latn": 1.0}), run(1, {"swh_Latn": 1.0})]) == []
    assert encoders.mean_losses([run(0, {})]) == []


def test_a_row_counts_the_seeds_and_languages_that_tell_a_loss():
    (row,) = cells(encoders.loss_table(UNEVEN))

    assert row[1:5] == [WORDS, "2 of 3", "2 of 3", "50.0"]
    assert row[5:] == ["+5.0 (+5.0 to +5.0)", "+30.0 (+20.0 to +40.0)", "sw"]


def test_a_row_in_which_nothing_is_told_says_so_and_no_zero_has_a_minus():
    (row,) = cells(encoders.loss_table([run(0, {}, share=1.000001)]))

    assert row[2:] == ["0 of 1", "0 of 3", "0.0", "at chance", "–", "–"]


def test_a_language_gained_only_if_it_did_at_every_seed():
    (row,) = cells(ogueji._by_language(UNEVEN))
    (other,) = cells(ogueji._by_language(UNEVEN[:2]))

    assert row[1:4] == ["2 of 3", "+5.0 (+5.0 to +5.0)", "0"]
    assert row[4] == "-20.0 (-30.0 to -10.0), 2 of 3"
    assert other[1:4] == ["2", "+5.0 (+5.0 to +5.0)", "1"]
    assert other[6] == "+90.0, 1 of 2"


def test_thirds_are_of_the_languages_that_all_seeds_tell(monkeypatch):
    asked = []

    def thirds(_dense, _run, *, on, languages):
        asked.append((on, languages))
        names = ("easy", "hard") if len(asked) == 1 else ("easy",)
        return [SimpleNamespace(name=name, language=None, change=0.1) for name in names]

    monkeypatch.setattr(awobade.verdicts, "thirds", thirds)

    (row,) = awobade._thirds(UNEVEN)

    assert asked == [("ner", ["hau_Latn", "swh_Latn"])] * 2
    assert row == [WORDS, "2 of 3", "+10.0 (+10.0 to +10.0)", "–", "+10.0, 1 of 2"]


def test_two_runs_of_the_same_words_texts_and_seed_end_the_table():
    twins = [run(0, {}), run(0, {"hau_Latn": 0.1})]

    with pytest.raises(SystemExit, match="run-0 and run-0 are both fine-tune, then gptq 4 bits"):
        encoders._once(twins)
    assert encoders._once(UNEVEN) == UNEVEN


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (WORDS, True),
        ("fine-tune, then distil 6 layers on the task", True),
        ("fine-tune, then magnitude 0.5", False),
        ("fine-tune to 0.7", False),
        ("fine-tune to 0.7, then gptq 4 bits", False),
        ("distil 6 layers, then fine-tune", False),
    ],
)
def test_distilled_or_quantized_is_what_was_done_alone_after_fine_tuning(words, there):
    assert brittle._pressed(words) == there


def test_every_metric_is_told_in_per_cent_or_known_not_to_be_a_share():
    assert tasks._scale("choice", {}) == tasks._scale("translate", {"metric": "on_target"}) == 100
    assert tasks._scale("translate", {}) == tasks._scale("bits_per_byte", {}) == 1
    known = {evals.facts(name).metric for name in evals.EVALUATIONS.names()} | {"bleu"}
    assert set(tasks.NO_SHARES) <= known


def test_layout_refuses_numbers_below_zero_and_names_languages_with_fewer():
    with pytest.raises(argparse.ArgumentTypeError, match="-3 texts cannot be taken"):
        layout._count("-3")
    written = {"swh_Latn": 100, "yor_Latn": 7}

    assert layout._said("dev", 100, written) == "dev: 107 texts; fewer than 100: yor_Latn 7"
    assert layout._said("dev", 0, written) == "dev: 107 texts"


def test_scores_in_onnxruntime_are_of_one_exported_file(tmp_path):
    assert engines._kept(tmp_path) == "scores"
    found = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "model.onnx").write_bytes(content)
        found.append(engines._kept(tmp_path))

    assert found[0] == found[2] != found[1]


def test_a_model_that_is_not_there_yet_is_named(tmp_path):
    begin: Any = SimpleNamespace(
        folder=lambda out: out / "begun" / "x", label="finetune of m, seed 1"
    )

    with pytest.raises(SystemExit, match=r"begun/x is not there \(finetune of m, seed 1\)"):
        engines._there(begin, tmp_path)


@pytest.mark.parametrize("name", ["awobade/ner", "awobade/ner-before", "brittle/sweep"])
def test_a_distilled_model_is_drawn_anew_with_every_seed(name):
    seeds = {}
    for entry in plan.load(PAPERS / f"{name}.yaml").entries:
        own = {step.kind: step.work for step in entry.recipe.steps}
        if distil := own.get("distill"):
            place = own["finetune"].corpus, distil.layers
            pair = own["finetune"].seed, entry.recipe.calibration.seed
            seeds.setdefault(place, []).append(pair)

    assert seeds
    assert all(pairs == [(0, 0), (1, 1), (2, 2)] for pairs in seeds.values())
