"""What holds for every export format; a new file in export/ is tested here unasked."""

import json
from dataclasses import replace

import pytest

from babelpress.errors import BadRun, BadSetting, UnknownName
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.open import open_model
from babelpress.models.weights import weights_hash
from babelpress.moments.calibrate import calibrate
from babelpress.numerics.grids import Grid
from babelpress.system.files import PICKLE_HEADS, sha256_file
from babelpress.text.settings import CalibrationSettings

every_format = pytest.mark.parametrize("form", FORMATS.names())
PACKED = ["compressed-tensors", "gptq"]


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    """What babel-mini saw of two languages."""
    folder = tmp_path_factory.mktemp("moments") / "moments"
    asked = CalibrationSettings(languages=("swh_Latn", "hin_Deva"), tokens=256, length=64)
    return calibrate(open_model("babel-mini"), asked, folder, gram=False)


@pytest.fixture(scope="module")
def source(moments, quantized):
    """All that any format may read."""
    return replace(quantized(open_model("babel-mini"), Grid(4, 64)), moments=moments)


def written(form, source, folder):
    """Write into a new folder; every file by its path."""
    folder.mkdir()
    lines = FORMATS.get(form)(source, folder)
    assert all(isinstance(line, str) and "\n" not in line for line in lines)
    return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}


@every_format
def test_writing_twice_gives_the_same_bytes(form, source, tmp_path):
    once, again = (written(form, source, tmp_path / name) for name in ("once", "again"))

    assert once
    assert {name: sha256_file(path) for name, path in once.items()} == {
        name: sha256_file(path) for name, path in again.items()
    }


@every_format
def test_nothing_is_a_pickle_and_all_json_can_be_read(form, source, tmp_path):
    for name, path in written(form, source, tmp_path / "out").items():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        if path.suffix != ".safetensors":  # whose length may look like the head of a pickle
            assert not path.read_bytes().startswith(PICKLE_HEADS), name


@every_format
def test_no_config_speaks_of_sparsity_or_of_foreign_code(form, source, tmp_path):
    for path in written(form, source, tmp_path / "out").values():
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            assert "sparsity_config" not in text
            assert "auto_map" not in text


@every_format
def test_the_open_model_is_left_as_it_was(form, source, tmp_path):
    before = weights_hash(source.opened.model)

    written(form, source, tmp_path / "out")

    assert weights_hash(source.opened.model) == before
    assert "quantization_config" not in source.opened.model.config.to_dict()


@pytest.mark.parametrize("form", [*PACKED, "safetensors"])
def test_a_folder_for_transformers_is_whole(form, source, tmp_path):
    files = written(form, source, tmp_path / "out")

    assert {
        "babelpress.json", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    } <= files.keys()  # fmt: skip
    assert json.loads(files["babelpress.json"].read_text())["format"] == form


@pytest.mark.parametrize("form", PACKED)
def test_packed_files_are_as_small_as_they_should_be(form, source, tmp_path):
    packed = written(form, source, tmp_path / "packed")["model.safetensors"].stat().st_size
    dense = written("safetensors", source, tmp_path / "dense")["model.safetensors"].stat().st_size

    weights = sum(row["shape"][0] * row["shape"][1] for row in source.codes.rows.values())
    saved = weights * (16 - 4 - 16 / 64) / 8  # bits of a dense weight, a code, a share of a scale
    assert saved * 0.98 < dense - packed < saved


@pytest.mark.parametrize("form", PACKED)
def test_a_run_without_codes_is_refused(form, source, tmp_path):
    with pytest.raises(BadRun, match=r"nothing is quantized in RUN: .*--format safetensors"):
        written(form, replace(source, codes=None), tmp_path / "out")


@every_format
def test_a_format_explains_itself(form):
    assert FORMATS.get(form).__doc__
    assert all(value is not None for value in FORMATS.options(form).values())


def test_every_format_of_this_release_is_there():
    there = {"compressed-tensors", "gptq", "safetensors", "gguf", "imatrix", "text"}

    assert there <= set(FORMATS.names())


def test_a_wrong_name_says_the_right_ones():
    with pytest.raises(UnknownName) as caught:
        FORMATS.get("gptk")

    assert str(caught.value) == (
        "no export format is called 'gptk'. Did you mean 'gptq'? "
        f"Known: {', '.join(FORMATS.names())}. Add one in babelpress/export/."
    )


def test_an_unknown_option_says_the_known_ones():
    with pytest.raises(BadSetting, match=r"gptq has no option bits\. It accepts no options\."):
        FORMATS.check_options("gptq", {"bits": 4})


def test_a_source_may_be_a_plain_model():
    source = Source("babel-mini", open_model("babel-mini"))

    assert (source.manifest, source.codes, source.moments, source.shares) == (None,) * 4
