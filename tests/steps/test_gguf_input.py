"""A GGUF file wherever a MODEL is asked for: steps, scores, exports, and the grid it lies on."""

import json

import pytest
from small import opened

import babelpress as bp
from babelpress.errors import BabelpressWarning, BadModel
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models import gguf_header
from babelpress.models.open import open_model
from babelpress.runs import manifest, recipe, run
from babelpress.steps import quantize

LANGUAGES = "en,sw"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A small model whose matrices are Q8_0."""
    folder = tmp_path_factory.mktemp("packed")
    FORMATS.get("gguf")(Source("small", opened()), folder, kind="q8_0")
    return str(folder / "model.gguf")


def test_a_run_says_which_types_it_began_with(path, tmp_path):
    run = tmp_path / "run"
    bp.prune(path, method="magnitude", pattern="0.25", languages=LANGUAGES, tokens=128, out=run)
    row = manifest.read(run).origin

    assert row.name == path
    assert row.lies_on["ffn_down"] == {"Q8_0": 2}
    assert json.loads((run / "manifest.json").read_text())["steps"][0]["model"]["lies_on"]
    assert gguf_header.read(path).kinds == row.lies_on
    assert open_model(str(run / "model")).model.config.model_type == "llama"


def test_another_file_has_another_fingerprint(path, tmp_path):
    prints = set()
    for kind in ("q8_0", "f16"):
        FORMATS.get("gguf")(Source("small", opened()), tmp_path, kind=kind)
        run = tmp_path / kind
        file = str(tmp_path / "model.gguf")
        bp.prune(file, method="magnitude", pattern="0.25", languages=LANGUAGES, tokens=128, out=run)
        prints.add(manifest.read(run).origin.fingerprint)

    assert len(prints) == 2


@pytest.mark.parametrize(("bits", "warned"), [(8, True), (4, False)])
def test_a_grid_that_is_no_coarser_is_warned_of(bits, warned, path, tmp_path, recwarn):
    bp.quantize(
        path, method="rtn", bits=bits, group=32, languages=LANGUAGES, tokens=128, out=tmp_path / "q"
    )
    told = [str(each.message) for each in recwarn if each.category is BabelpressWarning]

    assert (
        any("of its 14 matrices in blocks 14 Q8_0 (8 bits, group 32)" in each for each in told)
        == warned
    )


def test_the_warning_comes_before_the_work(path, tmp_path):
    seen: list[str] = []
    plan = recipe.load(
        {
            "model": path,
            "calibration": {"languages": LANGUAGES.split(","), "tokens": 128},
            "steps": [{"quantize": {"method": "rtn", "bits": 8, "group": 32}}],
        }
    )
    run.do(plan, tmp_path / "q", progress=lambda what, *_: seen.append(what))

    place = next(n for n, each in enumerate(seen) if "warning: this GGUF file is quantized" in each)
    assert any("block" in each for each in seen[place:])
    assert not any("press" in each for each in seen[:place])


@pytest.mark.parametrize(
    ("name", "bits", "told"),
    [("IQ4_XS", 4, "(4 bits)"), ("IQ2_XXS", 3, "(2 bits)"), ("IQ3_S", 2, ""), ("F16", 8, "")],
)
def test_types_without_even_steps_have_bits_too(name, bits, told):
    lines = quantize._again({"ffn_up": {name: 2}, "output": {"Q2_K": 1}}, bits)

    assert [told in each for each in lines] == ([True] if told else [])


def test_the_warning_goes_through_steps_that_keep_weights(path, tmp_path, recwarn):
    bp.trim(path, languages=LANGUAGES, out=tmp_path / "few")
    bp.quantize(
        str(tmp_path / "few"),
        method="rtn",
        bits=8,
        group=32,
        languages=LANGUAGES,
        tokens=128,
        out=tmp_path / "q",
    )
    bp.prune(
        path,
        method="magnitude",
        pattern="0.25",
        languages=LANGUAGES,
        tokens=128,
        out=tmp_path / "p",
    )
    told = [str(each.message) for each in recwarn if each.category is BabelpressWarning]
    assert sum("14 Q8_0" in each for each in told) == 1

    bp.quantize(
        str(tmp_path / "p"),
        method="rtn",
        bits=8,
        group=32,
        languages=LANGUAGES,
        tokens=128,
        out=tmp_path / "pq",
    )
    told = [str(each.message) for each in recwarn if each.category is BabelpressWarning]
    assert sum("14 Q8_0" in each for each in told) == 1


def test_it_is_calibrated_on_scored_and_handed_on(path, tmp_path):
    bp.calibrate(path, languages=LANGUAGES, tokens=128, out=tmp_path / "moments")
    rows = bp.eval(path, languages=LANGUAGES, documents=1, out=tmp_path / "dense").rows
    told = bp.languages(path, only=LANGUAGES).rows
    bp.export(path, format="safetensors", out=tmp_path / "folder")
    bp.export(path, format="gguf", type="q8_0", out=tmp_path / "again")

    assert {row["language"] for row in rows} >= {"eng_Latn", "swh_Latn"}
    assert len(told) == 2
    one, other = (open_model(str(p)) for p in (tmp_path / "folder", path))
    for (name, ours), theirs in zip(
        one.model.named_parameters(), other.model.parameters(), strict=True
    ):
        assert ours.equal(theirs), name
    again = gguf_header.read(tmp_path / "again" / "model.gguf")
    assert again.kinds == gguf_header.read(path).kinds


def test_what_is_refused_is_refused_at_once(tmp_path):
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(b"no model at all")

    with pytest.raises(BadModel, match="does not begin as GGUF does"):
        bp.calibrate(str(odd), languages=LANGUAGES, out=tmp_path / "m")
    assert not (tmp_path / "m").exists()
