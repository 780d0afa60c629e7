"""Mixtures by temperature and by whole segments, and text that the model writes, in sweeps."""

import json

import pico
import pytest
from safetensors.torch import load_file

from babelpress.sweeps import plan, schedule
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.setup import Setup
from babelpress.system.files import read_json
from babelpress.text.mixtures import mixture

pytestmark = pytest.mark.usefixtures("one_thread")  # forked children must not touch OpenMP
LANGUAGES = ["swh_Latn", "hin_Deva", "yor_Latn"]
POLICY, CORPUS = "steps.0.prune.mixture", "calibration.corpus"
TEMPERATURE, SEGMENTS = "temperature:2.5:bloom", "mbs:29:bloom"
RECIPES = [
    {POLICY: TEMPERATURE, CORPUS: "embedded"},
    {POLICY: SEGMENTS, CORPUS: "embedded"},
    {POLICY: SEGMENTS, CORPUS: "self"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished sweep over mixtures and over text at hand and text that the model writes."""
    model = tmp_path_factory.mktemp("models") / "tiny"
    pico.model().save_pretrained(model)
    pico.tokenizer().save_pretrained(model)
    asked = plan.of(
        {
            "model": str(model),
            "calibration": {"languages": LANGUAGES, "tokens": 60, "length": 30},
            "steps": [{"prune": {"method": "wanda", "pattern": "0.5", "propagate": "dense"}}],
            "recipes": RECIPES,
            "evaluate": {"languages": ["swh_Latn"], "documents": 1, "window": 64},
        }
    )
    out = tmp_path_factory.mktemp("sweep") / "sweep"
    setup = Setup(out, str(out / "results"), keep_models=True)

    schedule.do(asked, setup, Here(setup))

    return out


@pytest.fixture(scope="module")
def runs(folder):
    """Of every run its corpus, its mixture and its weights."""
    found = {}
    for path in folder.glob("runs/*/manifest.json"):
        (step,) = read_json(path)["steps"]
        weights = load_file(path.parent / "model" / "model.safetensors")
        key = step["calibration"]["corpus"], step["step"]["mixture"]
        found[key] = step, weights["model.layers.0.mlp.down_proj.weight"]
    return found


def test_all_are_done_and_scored(folder, runs):
    assert runs.keys() == {(each[CORPUS], each[POLICY]) for each in RECIPES}
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len({row["model"] for row in rows}) == len(runs)
    assert all(row["denominator"] > 0 for row in rows)


def test_shares_are_those_of_the_policy_and_whole_segments_sum_up(runs):
    for (_, policy), (step, _) in runs.items():
        expected = mixture(policy, LANGUAGES)

        assert step["mixture"]["shares"] == pytest.approx(dict(expected.shares))
        if policy == SEGMENTS:
            counts = step["mixture"]["counts"]
            assert sum(counts.values()) == 29
            assert min(counts.values()) >= 1
            assert step["mixture"]["shares"] == pytest.approx(
                {tag: count / 29 for tag, count in counts.items()}
            )


def test_mixtures_and_texts_give_weights_of_their_own_and_text_is_kept_by_language(runs):
    weights = [down_OI for _, down_OI in runs.values()]
    step, _ = runs["self", SEGMENTS]

    assert set(step["calibration"]["languages"]) == {*LANGUAGES}
    assert len({tuple((each == 0).flatten().tolist()) for each in weights}) == len(runs)
    assert len({int((each == 0).sum()) for each in weights}) == 1
