"""Any bytes at all: a right result or one line, and never anything else.

Half of what is tried is noise, half a sound file with some of its bytes changed, gone or doubled.
BABELPRESS_FUZZ says how many examples a test tries.
"""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.torch import save

from babelpress.errors import BabelpressError
from babelpress.judge import scores
from babelpress.moments.store import Store
from babelpress.numerics.tally import Tally
from babelpress.press.codes import CodesFolder
from babelpress.runs import recipe
from babelpress.runs.recipe import Recipe
from babelpress.system import files, plain
from babelpress.text import mixtures
from babelpress.text.corpus import Document, open_corpus

quick = settings(
    max_examples=int(os.environ.get("BABELPRESS_FUZZ", "20")),
    deadline=10_000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def spoilt(draw, sound):
    """A sound file after some accidents."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        data[start:end] = draw(st.binary(max_size=12) | st.just(bytes(data[start:end]) * 2))
    return bytes(data)


def bytes_like(*sound):
    return st.one_of(st.binary(max_size=200), *map(spoilt, sound))


def fine_or_one_line(read):
    """What is read, or None where it was refused in one line."""
    try:
        return read()
    except BabelpressError as error:
        assert str(error) and len(str(error).splitlines()) == 1, error
        return None


# ---- recipes -------------------------------------------------------------------------------

SOUND = yaml.safe_dump(
    {
        "model": "babel-mini",
        "calibration": {"languages": ["sw", "am"], "tokens": 128},
        "steps": [
            {"prune": {"method": "sparsegpt", "pattern": "2of4", "options": {"damp": 0.05}}},
            {"quantize": {"bits": 4, "group": 16, "skip": ["*o_proj"]}},
        ],
    }
).encode()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
keys = st.sampled_from(["model", "calibration", "steps", "prune", "quantize", "options", "group"])


@quick
@given(data=bytes_like(SOUND))
def test_any_recipe_file_is_a_recipe_or_one_line(tmp_path, data):
    (tmp_path / "recipe.yaml").write_bytes(data)

    found = fine_or_one_line(lambda: recipe.load(tmp_path / "recipe.yaml"))

    if found is not None:
        assert isinstance(found, Recipe)
        again = plain.load(recipe.dump(found))
        assert recipe.of(again) == found


@quick
@given(place=st.lists(keys | st.integers(0, 2).map(str), max_size=4), value=values)
def test_any_value_at_any_place_of_a_recipe_is_taken_or_one_line(place, value):
    data = yaml.safe_load(SOUND)
    here = data
    for name in place:
        key = int(name) if isinstance(here, list) and name.isdecimal() else name
        try:
            here[key] = here[key] if name != place[-1] else value
            here = here[key]
        except (KeyError, IndexError, TypeError):
            break

    found = fine_or_one_line(lambda: recipe.of(data))

    if found is not None:
        json.dumps(found.model_dump(mode="json"), allow_nan=False)


@quick
@given(text=st.text(max_size=60))
def test_any_change_of_a_recipe_is_taken_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "sound.yaml"
    path.write_bytes(SOUND)

    fine_or_one_line(lambda: recipe.load(path, changes=[text]))
    fine_or_one_line(lambda: recipe.load(path, changes=[f"steps.0.prune.{text}"]))


@quick
@given(data=bytes_like(b"sw: 0.25\nam: 0.75\n"))
def test_any_file_of_shares_is_a_mixture_or_one_line(tmp_path, data):
    (tmp_path / "shares.yaml").write_bytes(data)
    tags = ["swh_Latn", "amh_Ethi"]

    found = fine_or_one_line(lambda: mixtures.mixture(str(tmp_path / "shares.yaml"), tags))

    assert found is None or sum(found.shares.values()) == pytest.approx(1)


@quick
@given(
    data=bytes_like(
        b'name = "x"\nunit = "bytes"\nstage = "a"\nsource = "b"\n[values]\nsw = 3\nam = 1.5\n'
    )
)
def test_any_file_of_a_distribution_is_one_or_one_line(tmp_path, data):
    (tmp_path / "x.toml").write_bytes(data)
    policy = f"proportional:{tmp_path / 'x.toml'}"

    found = fine_or_one_line(lambda: mixtures.mixture(policy, ["swh_Latn", "amh_Ethi"]))

    assert found is None or sum(found.shares.values()) == pytest.approx(1)


# ---- text ----------------------------------------------------------------------------------

ROWS = [
    {"text": "Habari ya asubuhi", "doc": "a", "split": "train", "src": "x"},
    {"text": "ሰላም", "doc": "b", "split": "test", "src": "x"},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def table(rows):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


TEXTS = {"sw.jsonl": LINES, "sw.txt": b"Habari\n\nJambo\n", "sw.parquet": table(ROWS)}


@pytest.mark.parametrize("name", TEXTS)
@quick
@given(data=st.data())
def test_any_file_of_text_is_documents_or_one_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data.draw(bytes_like(TEXTS[name])))

    found = fine_or_one_line(lambda: documents(tmp_path))

    assert found is None or all(isinstance(each, Document) for each in found)


anything = st.sampled_from(["a", "train", "\ud800", "a\nb"]) | values


@quick
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"text": st.just("Habari") | anything},
            optional=dict.fromkeys(("id", "doc", "src", "split"), anything),
        ),
        min_size=1,
        max_size=2,
    )
)
def test_any_records_are_documents_or_one_line(tmp_path, rows):
    lines = "".join(json.dumps(row) + "\n" for row in [*ROWS, *rows])
    (tmp_path / "sw.jsonl").write_text(lines)

    found = fine_or_one_line(lambda: documents(tmp_path))

    if found is not None:
        assert len({each.id for each in found if each.split == "train"}) <= len(found)
        assert all(each.text.strip() and each.id.encode() for each in found)


def documents(folder: Path):
    corpus = open_corpus(f"{folder}?src!=y")
    return [
        each for split in ("train", "valid", "test") for each in corpus.documents("swh_Latn", split)
    ]


# ---- moments -------------------------------------------------------------------------------

IDENTITY = {
    **dict.fromkeys(("model", "model_name", "tokenizer", "dtype", "corpus"), "x"),
    "gram": False,
    "languages": ["swh_Latn"],
}
VECTORS = ("sum", "sumabs", "sumsq", "absmax", "positive")
SITES = json.dumps([{"name": "up", "linears": ["up"], "inputs": 3}])
BLOCK = save(
    {
        "up/swh_Latn/n": torch.tensor(5),
        **{f"up/swh_Latn/{name}": torch.ones(3, dtype=torch.float64) for name in VECTORS},
    },
    {"sites": SITES},
)
MANIFEST = {"format": 1, "identity": IDENTITY, "surroundings": {}, "blocks": 1, "calibration": {}}


def moments(folder, block, manifest=None):
    (folder / "block_000.safetensors").write_bytes(block)
    if manifest is None:
        hashes = {"block_000.safetensors": files.sha256_file(folder / "block_000.safetensors")}
        files.write_sealed(folder / "manifest.json", {**MANIFEST, "files": hashes})
    else:
        (folder / "manifest.json").write_bytes(manifest)
    store = Store.open(folder)
    store.check(model="x", tokenizer="x", dtype="x")
    return store.load(0)


def test_the_sound_block_is_read(tmp_path):
    found = moments(tmp_path, BLOCK)
    assert [site.name for site in found] == ["up"]


@quick
@given(block=bytes_like(BLOCK))
def test_any_block_of_moments_is_read_or_one_line(tmp_path, block):
    found = fine_or_one_line(lambda: moments(tmp_path, block))

    for site, by_language in (found or {}).items():
        for each in by_language.values():
            assert each.n >= 0 and each.tensors()["sum"].shape == (site.inputs,)
            assert each.sumsq_I.isfinite().all()


names = st.sampled_from(["n", *VECTORS, "gram", "more"]).map("up/swh_Latn/{}".format)
tensors = st.sampled_from(
    [
        torch.tensor(5),
        torch.tensor(-1),
        torch.tensor(float("nan")),
        torch.ones(3, dtype=torch.float64),
        torch.ones(3, 3),
        torch.full((3,), float("inf")),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(3, dtype=torch.int8),
        torch.ones(0),
    ]
)
sites = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("up") | values,
        "linears": st.just(["up"]) | values,
        "inputs": st.just(3) | values,
    },
)


@quick
@given(
    changed=st.dictionaries(names | st.text(max_size=4), tensors.map(torch.clone), max_size=3),
    rows=st.just(json.loads(SITES)) | st.lists(sites | values, max_size=2),
)
def test_any_tensors_and_sites_of_a_block_are_moments_or_one_line(tmp_path, changed, rows):
    sound = {f"up/swh_Latn/{name}": torch.ones(3, dtype=torch.float64) for name in VECTORS}
    whole = {"up/swh_Latn/n": torch.tensor(5), **sound, **changed}

    found = fine_or_one_line(lambda: moments(tmp_path, save(whole, {"sites": json.dumps(rows)})))

    for site, by_language in (found or {}).items():
        for each in by_language.values():
            assert each.n >= 0
            assert all(t.isfinite().all() for t in each.tensors().values())
            assert each.tensors()["sum"].shape == each.absmax_I.shape == (site.inputs,)


@quick
@given(data=bytes_like(json.dumps({**MANIFEST, "files": {}}).encode()), whole=values)
def test_any_manifest_of_moments_is_read_or_one_line(tmp_path, data, whole):
    assert fine_or_one_line(lambda: moments(tmp_path, BLOCK, data)) is None
    noise = json.dumps(whole).encode()
    assert fine_or_one_line(lambda: moments(tmp_path, BLOCK, noise)) is None


# ---- scores and codes ----------------------------------------------------------------------


def scored(folder):
    tally = Tally(("a", "b"), np.array([3.0, 1.0]), np.array([2.0, 4.0]))
    tally.save(folder / "tallies" / "bits_per_byte.swh_Latn.parquet")
    row = {
        "model": "x",
        "language": "swh_Latn",
        "evaluation": "bits_per_byte",
        "metric": "bits_per_byte",
        "value": tally.value,
        "documents": 2,
    }
    return (json.dumps(files.seal(row)) + "\n").encode()


@quick
@given(data=st.data())
def test_any_results_are_rows_or_one_line(tmp_path, data):
    sound = scored(tmp_path)
    (tmp_path / "results.jsonl").write_bytes(data.draw(bytes_like(sound, sound * 2)))

    found = fine_or_one_line(lambda: scores.read_results(tmp_path))
    fine_or_one_line(lambda: scores.tallies(tmp_path, "bits_per_byte"))

    assert found is None or all(row["value"] == 4 / 6 for row in found)


@quick
@given(data=st.data())
def test_any_tally_is_read_or_one_line(tmp_path, data):
    (tmp_path / "results.jsonl").write_bytes(scored(tmp_path))
    path = tmp_path / "tallies" / "bits_per_byte.swh_Latn.parquet"
    path.write_bytes(data.draw(bytes_like(path.read_bytes())))

    found = fine_or_one_line(lambda: Tally.load(path))
    used = fine_or_one_line(lambda: scores.tallies(tmp_path, "bits_per_byte"))

    assert found is None or np.isfinite(found.value)
    assert used is None or used["swh_Latn"].value == 4 / 6


@quick
@given(index=values, linears=st.dictionaries(st.text(max_size=3), values, max_size=2))
def test_any_list_of_codes_is_read_or_one_line(tmp_path, index, linears):
    for value in (index, {"linears": linears}, {"linears": index}):
        (tmp_path / "manifest.json").write_text(json.dumps(value))
        fine_or_one_line(lambda: every(CodesFolder.open(tmp_path)))


def every(folder):
    return [folder.load(name) for name in folder.names()]
