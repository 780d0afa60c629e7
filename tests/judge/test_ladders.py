"""Which runs are a ladder: told from recipes alone."""

import pytest
from scoring import LOSS, run

from babelpress.judge import ladders
from babelpress.judge.ladders import BITS, SPARSITY
from babelpress.system.files import read_json, write_json


def pruned(pattern, method="wanda", *, seed=0, moments=None):
    """The recipe of one pruning step."""
    step = {"method": method, "pattern": pattern, "mixture": "uniform", "moments": moments}
    return {"model": "m", "calibration": {"seed": seed}, "steps": [{"prune": step}]}


def quantized(bits, *, model="m"):
    step = {"method": "gptq", "bits": bits, "group": 64}
    return {"model": model, "calibration": {"seed": 0}, "steps": [{"quantize": step}]}


def shown(found):
    return [(each.label, each.axis, [(r.run, r.value) for r in each.rungs]) for each in found]


def test_runs_that_differ_in_sparsity_alone_stand_from_the_mildest_on():
    chains = [[pruned(each)] for each in ("0.7", "0.3", "0.5")]

    assert shown(ladders.of(chains)) == [("wanda", SPARSITY, [(1, 0.3), (2, 0.5), (0, 0.7)])]


def test_bits_fall_from_rung_to_rung():
    chains = [[quantized(each)] for each in (2, 8, 4)]

    assert shown(ladders.of(chains)) == [("gptq", BITS, [(1, 8.0), (2, 4.0), (0, 2.0)])]


def test_every_method_and_every_seed_has_a_ladder_of_its_own():
    chains = [
        [pruned(pattern, method, seed=seed)]
        for method in ("wanda", "ria")
        for seed in (0, 3)
        for pattern in ("0.25", "0.5")
    ]

    assert shown(ladders.of(chains)) == [
        ("wanda, seed 0", SPARSITY, [(0, 0.25), (1, 0.5)]),
        ("wanda, seed 3", SPARSITY, [(2, 0.25), (3, 0.5)]),
        ("ria, seed 0", SPARSITY, [(4, 0.25), (5, 0.5)]),
        ("ria, seed 3", SPARSITY, [(6, 0.25), (7, 0.5)]),
    ]


@pytest.mark.parametrize(
    ("patterns", "label", "values"),
    [
        (("3of4", "1of4", "2of4"), "wanda, n of 4", [(0, 0.25), (2, 0.5), (1, 0.75)]),
        (("0.5/layer", "0.25/layer"), "wanda, of a layer", [(1, 0.25), (0, 0.5)]),
        (("0.5/64", "0.25/64"), "wanda, of every 64 columns", [(1, 0.25), (0, 0.5)]),
    ],
)
def test_a_pattern_of_any_form_has_a_sparsity(patterns, label, values):
    (found,) = shown(ladders.of([[pruned(each)] for each in patterns]))

    assert found == (label, SPARSITY, values)


def test_patterns_of_two_forms_are_no_ladder():
    forms = ("0.5", "0.25/layer", "1of4", "0.125/64", "1of8")

    assert ladders.of([[pruned(each)] for each in forms]) == []


def test_models_that_were_pruned_while_they_learnt_stand_by_their_last_share_of_zeros():
    def learnt(gradual):
        step = {"task": "ner", "gradual": gradual}
        return [{"model": "m", "steps": [{"finetune": step}]}]

    found = ladders.of([learnt(each) for each in ("0..0.9", "0..0.5", "0.5..0.95", "")])

    assert [(axis, rungs) for _, axis, rungs in shown(found)] == [
        (SPARSITY, [(1, 0.5), (0, 0.9)]),
    ]
    assert "gradual from 0" in found[0].label


def test_a_grid_of_sparsities_by_bits_has_a_ladder_along_each():
    chains = [
        [pruned(pattern), quantized(bits, model=f"runs/{pattern}")]
        for pattern in ("0.25", "0.5")
        for bits in (4, 8)
    ]

    found = shown(ladders.of(chains))

    assert sorted(found) == [
        ("gptq, pattern 0.25", BITS, [(1, 8.0), (0, 4.0)]),
        ("gptq, pattern 0.5", BITS, [(3, 8.0), (2, 4.0)]),
        ("wanda, bits 4", SPARSITY, [(0, 0.25), (2, 0.5)]),
        ("wanda, bits 8", SPARSITY, [(1, 0.25), (3, 0.5)]),
    ]


def test_where_moments_lie_is_no_difference_and_one_sparsity_is_no_ladder():
    chains = [[pruned(each, moments=f"m/{each}")] for each in ("0.25", "0.5")]

    assert len(ladders.of(chains)) == 1
    assert ladders.of([[pruned("0.25")], [pruned("0.25", "ria")]]) == []
    assert ladders.of([[pruned("0.25")], [pruned("0.25")]]) == []


def test_what_another_version_writes_is_no_rung():
    assert ladders.of([[pruned("half")], [pruned("0.5")], []]) == []


def test_ladders_of_folders_are_read_from_their_manifests(tmp_path):
    runs = [run(tmp_path / name, LOSS) for name in ("a", "b")]
    for folder, pattern in zip(runs, ("0.5", "0.25"), strict=True):
        whole = read_json(folder / "manifest.json") | {"recipe": pruned(pattern)}
        write_json(folder / "manifest.json", whole)
    (tmp_path / "elsewhere").mkdir()

    found = ladders.find([*runs, tmp_path / "elsewhere"])

    assert shown(found) == [("wanda", SPARSITY, [(1, 0.25), (0, 0.5)])]


def test_a_count_of_rungs_is_said_as_what_was_measured():
    (by_share,) = ladders.of([[pruned(each)] for each in ("0.3", "0.5", "0.7")])
    (by_bits,) = ladders.of([[quantized(each)] for each in (8, 4, 3)])

    assert [by_share.said(k) for k in range(4)] == ["< 0.3", "0.3", "0.5", "≥ 0.7"]
    assert [by_bits.said(k) for k in range(4)] == ["> 8", "8", "4", "≤ 3"]
    assert [by_share.value(k) for k in range(4)] == [None, 0.3, 0.5, 0.7]
    assert by_share.between(1, 3) == "0.3 to ≥ 0.7"
    assert by_share.between(2, 2) == "0.5"
    assert by_share.note((1, 2), at_chance=False) == "holds again at 0.5, 0.7"
    assert by_share.note((), at_chance=True) == "at chance"
