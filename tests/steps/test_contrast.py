"""A step that makes a contrast: two moments folders of one model, each on its side."""

import json

import pico
import pytest
import torch
from running import TEXT, do, plan, refusal, weights

from babelpress import cli
from babelpress.commands import checks
from babelpress.errors import BadMoments, BadSetting
from babelpress.models.open import Opened, open_model
from babelpress.models.save import save_model
from babelpress.moments.calibrate import calibrate
from babelpress.moments.store import Store
from babelpress.numerics.patterns import PerRow
from babelpress.runs.estimate import estimate
from babelpress.steps._looking import contrasted
from babelpress.steps.prune import Report, Settings, tell
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
CONTRAST = {"method": "contrast", "mixture": "only:sw"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "pico"
    save_model(Opened("pico", pico.model(), pico.tokenizer(), torch.float32), folder)
    return folder


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    """Moments of translations, of the same sentences alone, and of one language."""
    place = tmp_path_factory.mktemp("moments")
    asked = {
        "translation": {"corpus": "translation:embedded?shots=1"},
        "monolingual": {"corpus": "monolingual:embedded?shots=1"},
        "code": {"corpus": str(place / "text"), "languages": ["zxx"]},
    }
    (place / "text").mkdir()
    lines = (f"def f{n}(x):  # 0x{n:x}\n    return [x + {n}]\n\n" for n in range(40))
    (place / "text" / "zxx.txt").write_text("".join(lines))
    for name, text in asked.items():
        settings = CalibrationSettings.model_validate({**TEXT, "length": 128, **text})
        calibrate(open_model(str(model)), settings, place / name, gram=False)
    return place


def step(folders, against="monolingual", **more):
    moments = {"moments": str(folders / "translation"), "against": str(folders / against)}
    return {**CONTRAST, **moments, **more}


def slow(model, moments, against, tag, other):
    """|w| · E_for[x²] / √E_against[x²] of every weight; the lowest quarter of each row goes."""
    expected = {}
    for name, weight_OI in open_model(str(model)).model.state_dict().items():
        if "proj" not in name:
            continue
        _, _, block, linear = name.removesuffix(".weight").split(".", 3)
        kept, held = Store.open(moments).load(int(block)), Store.open(against).load(int(block))
        (site,) = (site for site in kept if linear in site.linears)
        mine, others = kept[site][tag], held[site][other]
        ratio_I = (mine.sumsq_I / mine.n) / (others.sumsq_I / others.n).sqrt()
        keep_OI = PerRow(0.25).keep(weight_OI.double().abs() * ratio_I)
        expected[name] = weight_OI * keep_OI
    return expected


@pytest.mark.parametrize(("against", "other"), [("monolingual", "swh_Latn"), ("code", "zxx_Zyyy")])
def test_a_run_prunes_by_the_contrast_of_both_folders(model, folders, tmp_path, against, other):
    manifest = do(plan(model, step(folders, against)), tmp_path / "run")

    found = weights(tmp_path / "run")
    expected = slow(model, folders / "translation", folders / against, "swh_Latn", other)
    assert len(expected) == 14
    assert all(torch.equal(found[name], each) for name, each in expected.items())
    (report,) = manifest["steps"]
    assert report["calibration"]["condition"] == "translation"
    assert report["against"] == Store.open(folders / against).manifest["calibration"]
    assert report["step"]["propagate"] == "dense"
    told = tell(Report.model_validate(report))
    text = Store.open(folders / against).manifest["calibration"]["corpus"]
    assert f"against {text} in " in told.how and "Kim et al." in told.remarks[0]
    plain = do(plan(model, {"propagate": "dense"}), tmp_path / "plain")
    assert "against" not in plain["steps"][0]


def test_text_may_be_read_in_place_of_the_first_folder(model, folders, tmp_path):
    text = {"corpus": "translation:embedded?shots=1", "length": 128}
    from_text = {**CONTRAST, "against": str(folders / "monolingual")}
    do(plan(model, step(folders)), tmp_path / "folders")
    do(plan(model, from_text, **text), tmp_path / "text")

    one, other = weights(tmp_path / "folders"), weights(tmp_path / "text")

    assert all(torch.equal(each, other[name]) for name, each in one.items())


@pytest.mark.parametrize("more", [{}, {"mixture": "minimax", "minimax": {"rounds": 2}}])
def test_rules_and_minimax_see_the_contrast_too(model, folders, tmp_path, more):
    asked = step(folders, **{"mixture": "uniform", "allocate": "owl", **more})

    manifest = do(plan(model, asked), tmp_path / "run")

    assert len({*manifest["steps"][0]["allocated"]}) == 2


def test_an_expert_that_no_token_of_the_other_text_chose_never_fired_in_it(folders):
    kept = Store.open(folders / "translation").load(0)
    site, *rest = kept
    held = Store.open(folders / "monolingual").load(0) | {site: {}}

    found = contrasted(kept, held)

    assert (found[site]["swh_Latn"].against_I == 0).all()
    for each in rest:
        seen = held[each]["hin_Deva"]
        against_I = found[each]["hin_Deva"].against_I
        assert against_I is not None and torch.equal(against_I, seen.sumsq_I / seen.n)
    few = {each: {"yor_Latn": s["swh_Latn"], "eus_Latn": s["hin_Deva"]} for each, s in kept.items()}
    assert contrasted(kept, few)[site]["swh_Latn"].against_I is None


def test_what_it_takes_can_be_told_before(model, folders):
    (told,) = estimate(plan(model, step(folders)))
    (text,) = estimate(plan(model, {**CONTRAST, "against": str(folders / "code")}))

    assert told.phases["read"] > 0 and text.phases["read"] > 0
    assert {"gather", "press"} <= text.phases.keys()


# ---- what cannot be done, told before anything is -------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"method": "contrast"}, "--moments, and of what to hold against it with --against"),
        ({"method": "wanda", "against": "m"}, "wanda makes no contrast with m. Drop --against"),
        (
            {"method": "contrast", "against": "m", "propagate": "compressed"},
            "use --propagate dense",
        ),
        ({"method": "wanda", "options": {"inverted": 1}}, "must be of the type bool"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(asked, words):
    assert words in refusal(BadSetting, Settings, **asked)


def test_a_second_folder_without_the_languages_is_refused_at_the_start(model, folders, tmp_path):
    asked = CalibrationSettings(languages=("amh_Ethi", "hin_Deva"), tokens=64, length=64)
    calibrate(open_model(str(model)), asked, tmp_path / "two", gram=False)
    recipe = plan(model, {**step(folders), "against": str(tmp_path / "two")})

    for refusing in (checks.recipe, lambda each: do(each, tmp_path / "run")):
        words = refusal(BadMoments, refusing, recipe)
        assert words.startswith(f"{tmp_path / 'two'} has no moments of swh_Latn to make a contrast")
    assert not (tmp_path / "run" / "model").exists()
    nowhere = plan(model, {**step(folders), "against": str(tmp_path / "nowhere")})
    assert "is no moments folder" in refusal(BadMoments, checks.recipe, nowhere)


def test_moments_of_another_model_are_refused_on_either_side(folders, tmp_path):
    save_model(
        Opened("other", pico.model(seed=5), pico.tokenizer(), torch.float32), tmp_path / "other"
    )
    other = open_model(str(tmp_path / "other"))
    asked = CalibrationSettings.model_validate(TEXT)
    calibrate(other, asked, tmp_path / "own", gram=False)
    recipe = plan(tmp_path / "other", {**step(folders), "moments": str(tmp_path / "own")})

    words = refusal(BadMoments, do, recipe, tmp_path / "run")

    assert words.startswith(f"{folders / 'monolingual'} holds moments of another model")


def test_the_command_line_names_both_sides(model, folders, tmp_path, capsys):
    words = [
        *("prune", str(model), "--method", "contrast", "--pattern", "0.25", "--mixture", "only:sw"),
        *("--moments", str(folders / "translation"), "--against", str(folders / "code")),
        *("--out", str(tmp_path / "run"), "--option", "inverted=true", "--json"),
    ]

    assert cli.main(words) == 0

    assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "run")
    recipe = (tmp_path / "run" / "recipe.yaml").read_text()
    assert f"against: {folders / 'code'}" in recipe and "inverted: true" in recipe
