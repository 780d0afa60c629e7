"""Chains of a size: which there are, which are worth trying, what they are foretold to weigh."""

import math
from dataclasses import replace
from itertools import product

import fitting
import pytest

from babelpress.errors import BadSetting
from babelpress.sweeps import chains
from babelpress.sweeps.chains import ENGINES, FULL, Chain, Shapes

SHAPES = Shapes(
    item=2,
    row=128,
    rows=1000,
    most=800,
    floors={0.95: 100, 0.99: 300, 1.0: 600},
    weights={1.0: 50_000, 0.75: 40_000, 0.5: 30_000},
    loose={1.0: 500, 0.75: 500, 0.5: 500},
    beside=20_000,
    group=32,
    single=False,
    notes=(),
)
ENGINE = ENGINES["transformers"]


def weighed(chain, shapes=SHAPES):
    """A size summed up by hand."""
    rows = 1000 if chain.tokens is None else chain.tokens
    linear = shapes.weights[chain.ffn]
    blocks = linear * 2 if chain.bits == FULL else linear * chain.bits / 8 + linear / 32 * 2
    table = rows * (64 * 8.5 / 8 if chain.tables == 8 else 128)
    return table + rows * 20 / (3 if shapes.single else 1) + blocks + 500 * 2 + 16_000


@pytest.mark.parametrize("single", [False, True])
def test_a_size_is_that_of_rows_weights_scales_and_files(single):
    shapes = replace(SHAPES, single=single)
    engine = ENGINES["llama.cpp" if single else "transformers"]

    for chain in chains.every(shapes, engine):
        for tokens in (None, 0, 123):
            own = replace(chain, tokens=tokens)
            assert shapes.bytes(own) == pytest.approx(weighed(own, shapes), abs=1)


def test_tokens_fill_the_room_that_is_left():
    for chain, size in product(chains.every(SHAPES, ENGINE), range(46_000, 256_000, 7_000)):
        found = SHAPES.filled(chain, size)

        if weighed(chain) <= 0.98 * size:
            assert found == chain
            continue
        room = (0.98 * size - weighed(replace(chain, tokens=0))) / 148
        if room < 100:
            assert found is None
            continue
        assert found is not None and found.tokens == min(800, math.floor(room))
        assert found.floor == max(level for level, rows in SHAPES.floors.items() if rows <= room)
        assert SHAPES.bytes(found) <= size


def test_what_fits_by_a_hair_has_fewer_tokens_where_it_can():
    chain = Chain(bits=4)
    size = math.ceil(weighed(chain) / 0.99)

    fewer = SHAPES.filled(chain, size)
    assert fewer is not None and fewer.tokens == 800
    assert replace(SHAPES, floors={}, most=0).filled(chain, size) == chain
    assert replace(SHAPES, floors={}, most=0).filled(chain, round(0.98 * size)) is None


@pytest.mark.parametrize("size", range(56_000, 256_000, 20_000))
def test_only_what_nothing_is_milder_than_is_tried(size):
    def kept(chain):
        return (chain.tokens or math.inf, chain.ffn, chain.bits, chain.tables)

    front = [chain for chain, _ in chains.within(SHAPES, ENGINE, size)]
    fit = [SHAPES.filled(chain, size) for chain in chains.every(SHAPES, ENGINE)]

    for one in (each for each in fit if each):
        beaten = any(
            kept(other) != kept(one)
            and all(map(float.__ge__, map(float, kept(other)), map(float, kept(one))))
            for other in fit
            if other
        )
        assert (one in front) == (not beaten)
    assert [chain.harm for chain in front] == sorted(chain.harm for chain in front)


def test_a_size_that_none_comes_to_is_refused_with_the_least():
    least = min(SHAPES.bytes(replace(chain, tokens=100)) for chain in chains.every(SHAPES, ENGINE))

    with pytest.raises(BadSetting, match=f"about {least:,} bytes"):
        chains.within(SHAPES, ENGINE, least // 2)
    assert chains.within(SHAPES, ENGINE, math.ceil(least / 0.98) + 1)


def test_a_chain_is_steps_in_the_order_that_a_recipe_takes():
    chain = Chain(tokens=300, floor=0.99, ffn=0.75, bits=4, tables=8)

    assert chain.steps(32) == [
        {"trim": {"size": 300, "floor": 0.99}},
        {"shrink": {"ffn": 0.75, "mixture": "uniform", "propagate": "dense"}},
        {
            "quantize": {
                "bits": 4,
                "group": 32,
                "mixture": "uniform",
                "propagate": "dense",
                "embeddings": "8bit",
            }
        },
    ]
    assert chain.label == "300 tokens, 75 % of neurons, 4 bits, embeddings 8 bits"
    assert Chain().steps(32) == []


@pytest.mark.parametrize(
    ("said", "bytes_"),
    [
        ("150MB", 150_000_000),
        ("1.5 gb", 1_500_000_000),
        ("2M", 2_000_000),
        ("400KiB", 409_600),
        ("1234", 1234),
        ("12B", 12),
        ("25%", 250),
    ],
)
def test_sizes_are_bytes_with_units_or_shares(said, bytes_):
    assert chains.parse_size(said, 1000) == bytes_


@pytest.mark.parametrize(
    "said", ["", "MB", "much", "-3MB", "0", "nan", "infMB", "5 miles", "1e400"]
)
def test_what_is_no_size_is_refused(said):
    with pytest.raises(BadSetting, match="is no size"):
        chains.parse_size(said, 1000)


def test_shapes_are_those_of_the_model(tmp_path):
    from babelpress.runs.open import open_any

    opened = open_any(str(fitting.save(tmp_path / "model")))

    found = chains.shapes(opened, {0.9: 5, 1.0: 50, 0.95: 10}, 600, ENGINE)

    q_and_o, k_and_v, mlp = 2 * 64 * 64, 2 * 64 * 32, 3 * 64 * 256
    assert found.weights == {
        1.0: 2 * (q_and_o + k_and_v + mlp),
        0.75: 2 * (q_and_o + k_and_v + mlp * 3 // 4),
        0.5: 2 * (q_and_o + k_and_v + mlp // 2),
    }
    assert set(found.loose.values()) == {5 * 64}  # norms
    assert (found.item, found.row, found.rows) == (2, 128, opened.model.config.vocab_size)
    assert found.floors == {0.95: 10, 1.0: 50}
    assert found.group == 64  # no larger one divides 64 inputs
    assert found.notes == ()


def test_widths_that_no_group_divides_are_not_quantized(tmp_path):
    from babelpress.runs.open import open_any

    opened = open_any(str(fitting.save(tmp_path / "model", width=40)))

    found = chains.shapes(opened, {1.0: 50}, 600, ENGINES["llama.cpp"])

    assert {chain.bits for chain in chains.every(found, ENGINES["llama.cpp"])} == {FULL}
    assert any("none divides all widths" in note for note in found.notes)
    assert chains.usual(found, ENGINES["llama.cpp"]) == []


def test_tables_have_eight_bits_only_where_an_engine_reads_that_and_blocks_have_codes():
    def kept(engine):
        return {(chain.bits, chain.tables) for chain in chains.every(SHAPES, ENGINES[engine])}

    assert kept("vllm") == {(FULL, FULL), (8, FULL), (4, FULL)}
    assert kept("transformers") == {*kept("vllm"), (2, FULL)}
    assert kept("llama.cpp") == {*kept("vllm"), (8, 8), (4, 8)}
