"""imatrix.gguf, read back by the gguf package, against sums in plain loops."""

import gguf
import pytest
import torch
from small import opened

from babelpress.errors import BadMoments, BadSetting
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.open import Opened
from babelpress.moments.calibrate import calibrate
from babelpress.moments.store import Store
from babelpress.text.settings import CalibrationSettings

SHARES = {"swh_Latn": 0.2, "hin_Deva": 0.8, "fra_Latn": 0.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    """Moments of a small model in three languages of unequal length."""
    of = opened()
    asked = CalibrationSettings(
        languages=("swh_Latn", "hin_Deva", "fra_Latn"), tokens=240, length=48
    )
    store = calibrate(of, asked, tmp_path_factory.mktemp("moments") / "m", gram=False)
    return Source("small", of, moments=store, shares=SHARES)


def written(source, folder):
    lines = FORMATS.get("imatrix")(source, folder)
    reader = gguf.GGUFReader(folder / "imatrix.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return {tensor.name: tensor for tensor in reader.tensors}, fields, lines


def test_sums_and_counts_are_weighted_by_language(source, tmp_path):
    tensors, _, _ = written(source, tmp_path)
    store = source.moments
    assert isinstance(store, Store)

    for index in range(2):
        for site, seen in store.load(index).items():
            used = {tag: share for tag, share in SHARES.items() if share > 0}
            tokens = sum(seen[tag].n for tag in used)
            short = site.linears[0].rpartition(".")[2]
            name = {
                "q_proj": "attn_q",
                "o_proj": "attn_output",
                "gate_proj": "ffn_gate",
                "down_proj": "ffn_down",
            }[short]
            of = {key: tensors[f"blk.{index}.{name}.weight.{key}"].data for key in KEYS}
            assert of["counts"].tolist() == [[tokens]]
            assert of["in_sum2"].shape == (1, site.inputs)
            sums = {tag: seen[tag].tensors()["sum"] for tag in used}
            for i in range(site.inputs):
                square = sum(p * float(seen[t].sumsq_I[i]) / seen[t].n for t, p in used.items())
                mean = sum(p * float(sums[t][i]) / seen[t].n for t, p in used.items())
                assert of["in_sum2"][0, i] == pytest.approx(tokens * square, rel=1e-6)
                assert of["in_sum"][0, i] == pytest.approx(tokens * mean, rel=1e-5, abs=1e-5)


KEYS = ("in_sum2", "in_sum", "counts")


def test_every_linear_of_a_block_is_there(source, tmp_path):
    tensors, _, lines = written(source, tmp_path)

    linears = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    names = {f"blk.{i}.{n}.weight.{key}" for i in range(2) for n in linears for key in KEYS}
    assert set(tensors) == names
    assert all(t.tensor_type == gguf.GGMLQuantizationType.F32 for t in tensors.values())
    assert lines[0] == "14 linears, 2 languages"


def test_languages_shares_and_text_are_recorded(source, tmp_path):
    _, fields, _ = written(source, tmp_path)
    store = source.moments
    assert store is not None
    rows = store.manifest["calibration"]["languages"]

    assert fields["general.type"] == "imatrix"
    assert fields["imatrix.chunk_size"] == 48
    assert fields["imatrix.chunk_count"] == rows["swh_Latn"]["blocks"] + rows["hin_Deva"]["blocks"]
    swahili, hindi = fields["imatrix.datasets"]
    assert swahili.startswith(
        f"swh_Latn share=0.200000 tokens={rows['swh_Latn']['tokens']} corpus=embedded seed=0 text="
    )
    assert hindi.startswith("hin_Deva share=0.800000")
    assert hindi.endswith(store.identity["text"])


def test_moments_that_the_loss_weighs_are_divided_by_what_tokens_count(tmp_path):
    asked = CalibrationSettings(languages=("swh_Latn",), tokens=240, length=48, weigh="loss")
    of = opened()
    store = calibrate(of, asked, tmp_path / "m", gram=False)
    source = Source("small", of, moments=store, shares={"swh_Latn": 1.0})

    tensors, fields, _ = written(source, tmp_path)

    (line,) = fields["imatrix.datasets"]
    assert line.endswith(f"{store.identity['text']} weigh=loss")
    (seen,) = (s for site, s in store.load(0).items() if site.name == "mlp.down_proj")
    own = seen["swh_Latn"]
    found = torch.from_numpy(tensors["blk.0.ffn_down.weight.in_sum2"].data[0].copy()).double()
    assert torch.allclose(found, own.n * own.sumsq_I / own.mass, rtol=1e-6)


def test_it_says_what_is_to_be_given(source, tmp_path):
    with pytest.raises(BadSetting, match="give --moments FOLDER"):
        written(Source("small", source.opened, shares=SHARES), tmp_path)
    with pytest.raises(BadSetting, match="give --mixture"):
        written(Source("small", source.opened, moments=source.moments), tmp_path)


def test_a_language_without_moments_is_named(source, tmp_path):
    shares = {"swh_Latn": 0.5, "zul_Latn": 0.5}

    with pytest.raises(BadMoments, match="zul_Latn"):
        written(Source("small", source.opened, moments=source.moments, shares=shares), tmp_path)


def test_moments_of_another_shape_are_refused(source, tmp_path):
    wider = Opened(
        "wider", opened(intermediate_size=128).model, source.opened.tokenizer, torch.half
    )

    with pytest.raises(BadMoments, match=r"mlp\.down_proj of 96 inputs"):
        written(Source("wider", wider, moments=source.moments, shares=SHARES), tmp_path)
