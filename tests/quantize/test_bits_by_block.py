"""Bits of blocks: read from a mapping or a file, and found again in the codes of a run."""

from pathlib import Path

import pytest
import torch
from running import do, quantizing, refusal, weights

import babelpress as bp
from babelpress.allocate import bits_by_block
from babelpress.errors import BadSetting
from babelpress.press.codes import CodesFolder
from babelpress.runs import recipe

pytestmark = pytest.mark.usefixtures("one_thread")
SAID = "Write the number of a block and its bits, one a line, as in 0: 8."


# ---- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{0: 8, 3: 2}, {"0": 8, "3": 2}, {3: 2, "0": 8}], ids=["numbers", "words", "both"]
)
def test_a_mapping_has_blocks_as_numbers_or_as_json_has_them(given):
    assert bits_by_block(given) == {0: 8, 3: 2}


@pytest.mark.parametrize("text", ["0: 8\n3: 2\n", "{0: 8, 3: 2}", '"0": 8\n3: 2  # the last\n'])
def test_a_file_has_a_block_a_line(tmp_path, text):
    path = tmp_path / "bits.yaml"
    path.write_text(text)

    assert bits_by_block(path) == bits_by_block(str(path)) == {0: 8, 3: 2}


@pytest.mark.parametrize("nothing", [None, {}])
def test_nothing_is_no_other_bits(tmp_path, nothing):
    path = tmp_path / "bits.yaml"
    path.write_text("# none\n")

    assert bits_by_block(nothing) == bits_by_block(path) == {}


@pytest.mark.parametrize(
    "given",
    [
        {0: 8.0},
        {0: "8"},
        {0: None},
        {0: True},
        {-1: 8},
        {"-1": 8},
        {"first": 8},
        {1.0: 8},
        {None: 8},
        {True: 8},
        [8, 4],
        8,
    ],
    ids=repr,
)
def test_what_is_no_block_and_its_bits_is_refused(given):
    words = refusal(BadSetting, bits_by_block, given)

    assert words == f"the bits of blocks are {given!r}. {SAID}"


def test_a_file_that_is_not_there_or_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "bits.yaml"

    assert refusal(BadSetting, bits_by_block, path).startswith(
        f"the bits of blocks in {path} cannot be read: "
    )
    path.write_bytes(b"0: \xff\n")
    assert "cannot be read" in refusal(BadSetting, bits_by_block, path)
    path.write_text("0: 8\n  3: [\n")
    assert "cannot be read" in refusal(BadSetting, bits_by_block, path)
    path.write_text("0: !!python/name:os.system x\n")
    assert "cannot be read" in refusal(BadSetting, bits_by_block, path)
    path.write_text("bits of blocks")
    assert refusal(BadSetting, bits_by_block, path).endswith(SAID)


def test_bits_that_no_grid_has_are_refused(model):
    words = refusal(BadSetting, quantizing, model, bits_by_block={0: 8, 1: 5})

    assert "5" in words


# ---- at work -------------------------------------------------------------------------------


def bits_of(folder: Path) -> dict[int, set[int]]:
    """The bits of the codes of a run by block."""
    codes, found = CodesFolder.open(folder / "codes"), {}
    for name in codes.names():
        found.setdefault(int(name.split(".")[2]), set()).add(codes.load(name).bits)
    return found


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    """Runs of one and the same number of bits."""
    place = tmp_path_factory.mktemp("plain")
    for bits in (8, 4):
        do(quantizing(model, method="rtn", bits=bits), place / str(bits))
    return place


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_the_codes_of_a_run_have_the_bits_of_their_block(model, tmp_path, method):
    found = do(quantizing(model, method=method, bits=4, bits_by_block={0: 8}), tmp_path / "run")

    assert bits_of(tmp_path / "run") == {0: {8}, 1: {4}}
    (step,) = found["steps"]
    assert step["grid"] == "4 bits, group 16, clip mse; 8 bits in block 0"
    codes, saved = CodesFolder.open(tmp_path / "run" / "codes"), weights(tmp_path / "run")
    for name in codes.names():
        assert torch.equal(codes.load(name).dequantize(), saved[f"{name}.weight"])


def test_every_block_is_rounded_as_where_all_have_its_bits(model, plain, tmp_path):
    """Rounding alone looks at no text, so blocks do not depend on those before."""
    do(quantizing(model, method="rtn", bits=4, bits_by_block={0: 8}), tmp_path / "run")

    mixed, eight, four = (weights(each) for each in (tmp_path / "run", plain / "8", plain / "4"))
    for name, each in mixed.items():
        same, other = (eight, four) if ".layers.0." in name else (four, eight)
        assert torch.equal(same[name], each)
        assert torch.equal(other[name], each) != name.endswith("_proj.weight")


def test_the_size_in_the_ledger_lies_between(model, plain, tmp_path):
    found = do(quantizing(model, method="rtn", bits=4, bits_by_block={0: 8}), tmp_path / "run")

    def stored(manifest):
        parts = manifest["ledger"]["parts"]
        return next(part["bytes_stored"] for part in parts if part["part"] == "blocks")

    eight, four = (do(quantizing(model, method="rtn", bits=b), plain / str(b)) for b in (8, 4))
    assert 2 * stored(found) == stored(eight) + stored(four)


def test_a_recipe_keeps_bits_of_blocks_and_gives_them_back(model):
    asked = quantizing(model, bits_by_block={1: 2})

    assert recipe.of(asked.model_dump(mode="json")) == asked
    assert asked.steps[0].work.bits_by_block == {1: 2}


def test_the_command_takes_a_file(model, tmp_path):
    path = tmp_path / "bits.yaml"
    path.write_text("0: 8\n")

    bp.quantize(
        str(model),
        method="rtn",
        bits=2,
        group="16",
        bits_by_block=path,
        languages="swh_Latn,hin_Deva",
        tokens=128,
        length=64,
        out=tmp_path / "run",
    )

    assert bits_of(tmp_path / "run") == {0: {8}, 1: {2}}


def test_a_block_that_the_model_has_not_is_refused(model, tmp_path):
    asked = quantizing(model, bits_by_block={0: 8, 2: 8})

    words = refusal(BadSetting, do, asked, tmp_path / "run")

    assert words == f"there is no block 2: those of {model} are 0 to 1."
