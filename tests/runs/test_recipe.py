"""A recipe is data: it comes back as it was, and every wrong word is named with the right ones."""

import pytest
import yaml

from babelpress.errors import BabelpressError, BadSetting, UnknownName
from babelpress.runs import recipe
from babelpress.steps.prune import Settings as Prune
from babelpress.text.settings import WEIGHING, CalibrationSettings

SMALL = {"model": "babel-mini", "steps": [{"prune": {}}]}
WEIGHED = {"calibration": {"weigh": "loss"}, "steps": [{"prune": {"propagate": "dense"}}]}
FULL = {
    "model": "some/where",
    "calibration": {
        "corpus": "text?src=flores",
        "languages": ["sw", "amh_Ethi"],
        "tokens": 4096,
        "length": 512,
        "seed": 3,
        "evaluation": "other",
        "count_special": True,
    },
    "steps": [
        {
            "prune": {
                "method": "sparsegpt",
                "pattern": "1of4",
                "mixture": "mbs:256:bloom-roots",
                "propagate": "dense",
                "skip": ["*down_proj"],
                "options": {"damp": 0.25, "columns": 64},
                "moments": "there",
            }
        },
        {"prune": {"mixture": "minimax", "minimax": {"rounds": 3, "rate": 0.5}}},
    ],
}


def refusal(data, kind: type[BabelpressError] = BadSetting):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        recipe.of(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("data", [SMALL, FULL])
def test_a_recipe_comes_back_as_it_was(tmp_path, data):
    plan = recipe.of(data)

    assert recipe.load(written(tmp_path, recipe.dump(plan))) == plan
    assert recipe.of(yaml.safe_load(recipe.dump(plan))) == plan
    assert recipe.dump(recipe.load(written(tmp_path, recipe.dump(plan)))) == recipe.dump(plan)


def pruning(plan, number=0):
    """A step that prunes."""
    work = plan.steps[number].work
    assert isinstance(work, Prune)
    return work


def test_every_default_is_written_out():
    """But what tokens count where they count evenly, as in recipes of before (`settings.py`)."""
    data = yaml.safe_load(recipe.dump(recipe.of(SMALL)))

    assert set(data) == {"model", "calibration", "steps"}
    assert set(data["calibration"]) == set(CalibrationSettings.model_fields) - set(WEIGHING)
    weighed = yaml.safe_load(recipe.dump(recipe.of({**SMALL, **WEIGHED})))
    assert set(weighed["calibration"]) == set(CalibrationSettings.model_fields)
    assert set(data["steps"][0]["prune"]) == set(Prune.model_fields)
    assert data["steps"][0]["prune"]["minimax"] == {"rounds": 20, "rate": 1.0}


def test_what_is_written_is_what_is_had():
    plan = recipe.of(FULL)

    assert plan.calibration.languages == ("sw", "amh_Ethi")
    first, second = (pruning(plan, number) for number in (0, 1))
    assert (first.method, first.pattern, first.options) == (
        "sparsegpt",
        "1of4",
        {"damp": 0.25, "columns": 64},
    )
    assert (second.minimax.rounds, second.minimax.rate) == (3, 0.5)


def test_languages_may_be_one_string_with_commas():
    plan = recipe.of({**SMALL, "calibration": {"languages": "sw, am"}})

    assert plan.calibration.languages == ("sw", "am")


def test_a_pattern_may_be_a_number():
    assert pruning(recipe.of({**SMALL, "steps": [{"prune": {"pattern": 0.25}}]})).pattern == (
        "0.25"
    )


@pytest.mark.parametrize(
    ("data", "place", "known"),
    [
        ({**SMALL, "modle": 1}, "modle", "model, calibration, steps"),
        ({**SMALL, "calibration": {"token": 5}}, "calibration.token", "corpus, languages, tokens"),
        (
            {**SMALL, "steps": [{"distil": {}}]},
            "steps.0.distil",
            "distill, finetune, prune, quantize, recover, shrink, trim.",
        ),
        (
            {**SMALL, "steps": [{"prune": {"ratio": 0.25}}]},
            "steps.0.prune.ratio",
            "method, mixture",
        ),
        (
            {**SMALL, "steps": [{"prune": {"minimax": {"round": 2}}}]},
            "steps.0.prune.minimax.round",
            "rounds, rate",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones(data, place, known):
    words = refusal(data)

    assert f"{place} is not a known key. Known: {known}" in words


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"steps": [{"prune": {}}]}, "model is missing"),
        ({"model": "m"}, "steps is missing"),
        ({"model": "m", "steps": []}, "steps: "),
        ({**SMALL, "calibration": {"tokens": 0}}, "calibration.tokens: Input should be greater"),
        ({**SMALL, "calibration": {"tokens": "many"}}, "(it is 'many')"),
        ({**SMALL, "calibration": {"languages": [False]}}, "calibration.languages.0: "),
        ({**SMALL, "calibration": "x" * 500}, "xxx…)"),
        ({**SMALL, "steps": [{"prune": {"propagate": "sideways"}}]}, "'dense' or 'compressed'"),
        ({**SMALL, "steps": [{"prune": {"pattern": "1.5"}}]}, "1.5"),
        ({**SMALL, "steps": [{"prune": {"options": {"damp": 1.0}}}]}, "no option damp"),
        (
            {**SMALL, "steps": [{"prune": {"method": "ria", "options": {"power": "much"}}}]},
            "ria's option power must be of the type float, as 0.5; it is 'much'",
        ),
        (
            {**SMALL, "steps": [{"prune": {"method": "random", "options": {"seed": 0.5}}}]},
            "random's option seed must be of the type int",
        ),
        (
            {**SMALL, "steps": [{"prune": {"method": "random", "options": {"seed": "3"}}}]},
            "random's option seed must be of the type int, as 0; it is '3'",
        ),
        ({**SMALL, 5: "x"}, "5"),
    ],
)
def test_a_value_that_is_not_accepted_is_named(data, words):
    found = refusal(data)

    assert words in found
    assert len(found) < 300


def test_an_unknown_method_is_refused_with_its_near_misses():
    words = refusal({**SMALL, "steps": [{"prune": {"method": "wander"}}]}, UnknownName)

    assert "Did you mean 'wanda'" in words


def test_whole_numbers_do_for_options_that_are_not_whole():
    step = {"method": "sparsegpt", "options": {"damp": 1}}

    assert recipe.of({**SMALL, "steps": [{"prune": step}]}).steps[0].work.options == {"damp": 1}


def test_set_and_a_model_win_over_the_file(tmp_path):
    path = written(tmp_path, yaml.safe_dump({**SMALL, "calibration": {"seed": 1}}))
    changes = [
        "calibration.tokens=4096",
        "calibration.languages=[sw, am]",
        "steps.0.prune.pattern=2of4",
        "steps.0.prune.minimax.rate=0.25",
    ]

    plan = recipe.load(path, model="other", changes=changes)

    assert (plan.model, plan.calibration.seed, plan.calibration.tokens) == ("other", 1, 4096)
    assert plan.calibration.languages == ("sw", "am")
    assert (pruning(plan).pattern, pruning(plan).minimax.rate) == ("2of4", 0.25)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("calibration.tokens", "--set calibration.tokens is not NAME=VALUE"),
        ("steps.1.prune.pattern=0.25", "no such place"),
        ("steps.first.prune.pattern=0.25", "no such place"),
        ("model.name=x", "no such place"),
        ("model.name.first=x", "no such place"),
        ("steps.0=[", "the value is no number, word or list"),
        ("calibration.token=5", "calibration.token is not a known key"),
        ("=5", "--set =5 is not NAME=VALUE"),
    ],
)
def test_a_change_that_fits_nowhere_is_refused(tmp_path, change, words):
    path = written(tmp_path, yaml.safe_dump(SMALL))

    with pytest.raises(BadSetting, match=r"^[^\n]+$") as caught:
        recipe.load(path, changes=[change])

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: !!python/object/apply:os.system ['touch {marker}']", "line 1 has a tag"),
        ("model: !!python/name:os.system", "line 1 has a tag"),
        ("model: [", "cannot be read"),
        ("- model", "must be a mapping"),
        ("", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_plain_data_is_refused_and_nothing_runs(tmp_path, text, words):
    path = written(tmp_path, text.replace("{marker}", str(tmp_path / "ran")))

    with pytest.raises(BabelpressError, match=r"^[^\n]+$") as caught:
        recipe.load(path)

    assert words in str(caught.value) and "recipe.yaml" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_recipe_that_is_not_there_or_no_text_is_refused(tmp_path):
    (tmp_path / "latin1.yaml").write_bytes(b"model: caf\xe9")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "latin1.yaml"):
        with pytest.raises(BadSetting, match=r"^the recipe [^\n]+ cannot be read: [^\n]+$"):
            recipe.load(path)


def test_a_recipe_cannot_be_changed_in_place():
    plan = recipe.of(SMALL)

    with pytest.raises(ValueError, match="frozen"):
        plan.calibration.seed = 5  # type: ignore[misc]
