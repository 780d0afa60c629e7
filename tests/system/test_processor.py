"""The processor in words, and the attention that is fast on it."""

import pytest
import torch

from babelpress.system.processor import OVERRIDES, attention, instruction_set
from babelpress.system.surroundings import surroundings


@pytest.fixture
def epyc(monkeypatch):
    """A processor with few units, and nothing that overrides its kernels."""
    has = {"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False, "avx512_f": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for name in OVERRIDES:
        monkeypatch.delenv(name, raising=False)
    return has


def test_the_instruction_set_names_maker_vectors_and_matrix_units(epyc):
    assert instruction_set() == "AMD AVX512 avx512_bf16"


def test_what_overrides_kernels_is_named(epyc, monkeypatch):
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    monkeypatch.setenv("MKL_CBWR", "")

    expected = "AMD AVX512 avx512_bf16 ONEDNN_MAX_CPU_ISA=AVX512_CORE MKL_ENABLE_INSTRUCTIONS=AVX2"
    assert instruction_set() == expected


def test_a_processor_that_says_nothing_of_itself_has_its_vectors(epyc):
    epyc.clear()

    assert instruction_set() == "AVX512"


def test_what_a_half_written_folder_must_agree_in_has_the_instruction_set(epyc):
    assert surroundings("cpu")["instructions"] == "AMD AVX512 avx512_bf16"


@pytest.mark.parametrize(("unit", "expected"), [(True, None), (False, "eager")])
def test_attention_is_pytorch_s_own_where_a_processor_has_a_matrix_unit(
    unit, expected, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": unit})

    assert attention("cpu") == expected
    assert attention("cuda") is None
