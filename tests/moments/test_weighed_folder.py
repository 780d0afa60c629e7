"""Moments weighed by the loss on disk, and what presses from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from stored import content, refusal

from babelpress.cli import main
from babelpress.errors import BadSetting
from babelpress.models.open import Opened
from babelpress.moments import weigh
from babelpress.moments.calibrate import calibrate
from babelpress.moments.store import Store
from babelpress.runs import recipe
from babelpress.steps import prune as pruning
from babelpress.steps import quantize as quantizing
from babelpress.steps import shrink as shrinking
from babelpress.steps._looking import contrasted
from babelpress.sweeps import merge
from babelpress.sweeps.looks import Look
from babelpress.sweeps.passing import why_not
from babelpress.system.files import read_json, write_sealed
from babelpress.system.offload import in_memory, on_disk
from babelpress.text.settings import CalibrationSettings

LANGUAGES = ("swh_Latn", "amh_Ethi")
PLAIN = CalibrationSettings(languages=LANGUAGES, tokens=256, length=64)
ASKED = PLAIN.model_copy(update={"weigh": "loss"})
SMALL = ["--languages", ",".join(LANGUAGES), "--tokens", "256", "--length", "64"]
NAME = "model.layers.1.mlp.down_proj.weight"
SOLVED = pruning.Settings(method="sparsegpt", pattern="0.25", propagate="dense")
ROUNDED = quantizing.Settings(method="gptq", bits=3, group="channel", propagate="dense")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads belong to what must agree."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def llama():
    return Opened("pico", pico.model(), pico.tokenizer(), torch.float32)


def taken(out, asked=ASKED, *, gram=True, **options):
    return calibrate(llama(), asked, out, gram=gram, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with all that there may be."""
    out = tmp_path_factory.mktemp("weighed") / "moments"
    taken(out, ASKED.model_copy(update={"first_order": True}))
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One of the same text whose tokens count evenly."""
    return taken(tmp_path_factory.mktemp("plain") / "moments", PLAIN).folder


def test_the_folder_says_how_its_tokens_count_and_older_versions_know_not_to_read_it(
    finished, plain
):
    weighed, even = (read_json(each / "manifest.json") for each in (finished, plain))

    assert (weighed["format"], even["format"]) == (3, 2)
    assert weighed["identity"]["weigh"] == weighed["calibration"]["weigh"] == "loss"
    assert weighed["identity"]["first_order"] is True
    assert not {"weigh", "first_order"} & {*even["identity"], *even["calibration"]}
    seen = Store.open(finished).load(1)
    for site, by_language in seen.items():
        outputs = sum(len(weight_of(site, name)) for name in site.linears)
        for each in by_language.values():
            assert each.of_loss is not None and each.of_loss.slope_OI is not None
            assert each.of_loss.slope_OI.shape == (outputs, site.inputs)
            assert 0 < each.mass != each.n
    assert all(
        each.of_loss is None for s in Store.open(plain).load(1).values() for each in s.values()
    )


def weight_of(site, name):
    model: Any = pico.model()
    return model.get_submodule(f"model.layers.1.{name}").weight


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_an_interrupted_one_resumes_to_the_same_bytes(tmp_path, finished, blocks):
    asked = ASKED.model_copy(update={"first_order": True})

    def stop(what, done, total):
        if what == "calibrate: block" and done == blocks and (blocks or seen.append(1)):
            raise KeyboardInterrupt

    seen: list[int] = []
    if blocks:
        with pytest.raises(KeyboardInterrupt):
            taken(tmp_path / "moments", asked, progress=stop)
    taken(tmp_path / "moments", asked)

    assert content(tmp_path / "moments") == content(finished)


def test_folders_with_and_without_are_never_mixed(finished, plain, tmp_path):
    assert "weigh (evenly there, loss now)" in refusal(taken, plain, ASKED)
    assert "weigh (loss there, evenly now)" in refusal(taken, finished, PLAIN)
    assert "first_order (True there, False now)" in refusal(taken, finished, ASKED)
    swahili, amharic = (
        taken(tmp_path / tag, asked.model_copy(update={"languages": (tag,)})).folder
        for tag, asked in zip(LANGUAGES, (ASKED, PLAIN), strict=True)
    )
    said = refusal(merge.merge, PLAIN, [swahili, amharic], tmp_path / "both", gram=True)
    assert "weighs tokens evenly and" in said and not (tmp_path / "both").exists()
    slopes = ASKED.model_copy(update={"languages": LANGUAGES[1:], "first_order": True})
    other = taken(tmp_path / "slopes", slopes).folder
    said = refusal(merge.merge, ASKED, [swahili, other], tmp_path / "both", gram=True)
    assert "only one has gradients by the weights" in said and not (tmp_path / "both").exists()
    said = refusal(
        pruning.do,
        llama(),
        PLAIN,
        pruning.Settings(method="contrast", moments=str(plain), against=str(finished)),
        tmp_path,
        hold=in_memory,
    )
    assert "weighed otherwise (loss, not evenly)" in said


def test_languages_that_were_seen_apart_merge_to_what_all_give_together(finished, tmp_path):
    asked = ASKED.model_copy(update={"first_order": True})
    parts = [
        taken(tmp_path / tag, asked.model_copy(update={"languages": (tag,)})).folder
        for tag in LANGUAGES
    ]

    merge.merge(asked, parts, tmp_path / "both", gram=True)

    (blocks, manifest), (expected, whole) = content(tmp_path / "both"), content(finished)
    assert blocks == expected
    assert manifest["format"] == 3
    assert manifest["identity"] == {**whole["identity"], "text": manifest["identity"]["text"]}
    without = merge.without_gram(finished, tmp_path / "without").load(0)
    assert all(e.gram is None and e.of_loss for s in without.values() for e in s.values())


@pytest.mark.parametrize("settings", [SOLVED, ROUNDED])
def test_pressing_reads_them_without_a_change_from_a_folder_and_from_text(
    finished, plain, settings, tmp_path
):
    module = pruning if settings is SOLVED else quantizing
    pressed = {}
    asked = {"text": ASKED, "folder": PLAIN, "plain": PLAIN}
    folders = {"folder": finished, "plain": plain}
    for name, text in asked.items():
        opened = llama()
        named = {"moments": str(folders[name])} if name in folders else {}
        done = module.do(
            opened,
            text,
            settings.model_copy(update=named),
            tmp_path / name,
            hold=in_memory,
        )
        pressed[name] = opened.model.state_dict()[NAME], done.report.calibration.get("weigh")

    assert torch.equal(pressed["text"][0], pressed["folder"][0])
    assert not torch.equal(pressed["folder"][0], pressed["plain"][0])
    assert [found for _, found in pressed.values()] == ["loss", "loss", None]


def test_moments_of_the_dense_model_are_all_there_before_a_block_is_pressed(tmp_path, monkeypatch):
    """A further pass for the sums of further blocks goes through the whole model."""
    dense = SOLVED.model_copy(update={"pattern": "0.5"})
    pressed = []
    for most in (weigh.MOST, 1):
        monkeypatch.setattr(weigh, "MOST", most)
        opened = llama()
        pruning.do(opened, ASKED, dense, tmp_path / str(most), hold=in_memory)
        pressed.append(opened.model.state_dict())

    assert all(torch.equal(pressed[0][name], each) for name, each in pressed[1].items())


@pytest.mark.parametrize("first_order", [False, True])
def test_a_step_says_by_what_share_each_loss_is_predicted_to_grow(first_order, tmp_path):
    asked = ASKED.model_copy(update={"first_order": first_order})
    shrunk = shrinking.Settings(ffn="0.5", multiple=1, propagate="dense")

    for module, settings in ((pruning, SOLVED), (shrinking, shrunk)):
        report = module.do(llama(), asked, settings, tmp_path, hold=in_memory).report
        assert report.foretold.keys() == {*LANGUAGES} == report.damage.keys()
        for each in report.foretold.values():
            assert each["curvature"] > 0
            assert (each["first_order"] is not None) == first_order
            assert each["best"] == each["curvature"] + (each["first_order"] or 0)
        even = module.do(llama(), PLAIN, settings, tmp_path, hold=in_memory).report
        assert "foretold" not in even.model_dump(exclude_unset=True)


def test_means_divide_by_what_tokens_count(finished):
    seen = Store.open(finished).load(0)
    site, by_language = next(iter(seen.items()))
    own = by_language["swh_Latn"]
    even = {site: {"swh_Latn": replace(own, of_loss=None)}}

    against_I = contrasted({site: by_language}, {site: by_language})[site]["swh_Latn"].against_I

    assert against_I is not None
    assert torch.equal(against_I, own.sumsq_I / own.mass)
    other_I = contrasted(even, even)[site]["swh_Latn"].against_I
    assert other_I is not None and not torch.equal(against_I, other_I)


def test_a_weighed_file_in_a_folder_that_says_otherwise_is_refused(tmp_path):
    taken(tmp_path)
    manifest = read_json(tmp_path / "manifest.json")
    write_sealed(tmp_path / "manifest.json", {**manifest, "format": 2})

    assert "holds no moments of a block" in refusal(Store.open(tmp_path).load, 0)


# ---- settings ------------------------------------------------------------------------------


def test_pressed_blocks_are_refused_in_recipes_and_by_steps(tmp_path):
    data = {"model": "babel-mini", "calibration": {"weigh": "loss"}, "steps": [{"prune": {}}]}

    said = refusal(recipe.of, data, kind=BadSetting)
    assert "propagate is compressed. Use --propagate dense" in said
    asked = pruning.Settings(propagate="compressed")
    refusal(pruning.do, llama(), ASKED, asked, tmp_path, hold=in_memory, kind=BadSetting)
    plan = recipe.of({**data, "steps": [{"prune": {"propagate": "dense"}}]})
    assert "the loss weighs its tokens" in why_not(plan)
    assert not why_not(plan.model_copy(update={"calibration": PLAIN}))


def test_offload_is_refused_before_any_text_is_read(tmp_path):
    said = refusal(taken, tmp_path / "moments", kind=BadSetting, offload=True)
    assert "Leave out --offload, or --weigh" in said
    refusal(pruning.do, llama(), ASKED, SOLVED, tmp_path, hold=on_disk(tmp_path), kind=BadSetting)
    assert not any((tmp_path / "moments").glob("*.safetensors"))


def test_what_a_sweep_has_done_stays_done_where_tokens_count_evenly():
    """Names of folders are fingerprints of what was asked for, which say nothing new then."""
    data = {"model": "babel-mini", "steps": [{"prune": {"propagate": "dense"}}]}
    even, weighed = (recipe.of({**data, "calibration": text}) for text in ({}, {"weigh": "loss"}))

    assert not {"weigh", "first_order"} & set(even.model_dump(mode="json")["calibration"])
    assert weighed.model_dump(mode="json")["calibration"]["weigh"] == "loss"
    for plan in (even, weighed):
        assert recipe.of(plan.model_dump(mode="json")) == plan
    looks = [Look("babel-mini", each.calibration, ("swh_Latn",), True) for each in (even, weighed)]
    assert len({each.key for each in looks}) == 2


def test_the_first_order_needs_the_loss():
    said = refusal(CalibrationSettings, first_order=True, kind=BadSetting)
    assert said == "--first-order has no effect without --weigh loss. Calibrate with both, or none."


@pytest.fixture
def line(capsys):
    def fail(*words):
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.startswith("babelpress: "), said
        return said

    return fail


def test_commands_refuse_what_cannot_be_in_one_line(line, finished, tmp_path):
    models = {}
    for family in ("llama", "bert"):
        models[family] = str(tmp_path / family)
        pico.model(family).save_pretrained(models[family])
        pico.tokenizer().save_pretrained(models[family])
    out = ["--out", tmp_path / "out"]
    weighed = [*SMALL, "--weigh", "loss", *out]

    assert "is for decoders" in line("calibrate", models["bert"], *weighed)
    assert "is for decoders" in line("prune", models["bert"], "--propagate", "dense", *weighed)
    assert "Leave out --offload" in line("calibrate", models["llama"], "--offload", *weighed)
    said = line("prune", models["llama"], "--propagate", "dense", "--offload", *weighed)
    assert "Leave out --offload" in said
    assert "Use --propagate dense" in line("quantize", models["llama"], *weighed)
    assert '"evenly", "loss"' in line("calibrate", models["llama"], "--weigh", "fairly", *out)
    said = line("prune", models["llama"], "--moments", finished, "--weigh", "loss", *out)
    assert "--weigh has no effect with --moments" in said
    said = line("recover", models["llama"], "--weigh", "loss", *out)
    assert "recover takes none" in said
    assert not Path(out[1]).exists()
