"""Numbers on the kernels of other processors, so that one machine stands for several.

Libraries choose kernels as a process starts; these variables make them choose others. Moments of
fewer vectors differed from whole ones on `sse4`, Gram matrices were not symmetric on `avx2`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
KERNELS = {
    "sse4": {
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Prescott",
    },
    "avx2": {
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "OPENBLAS_CORETYPE": "Zen",
    },
    "avx512": {
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "OPENBLAS_CORETYPE": "SkylakeX",
    },
    "amx": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"},
}
FEW = (
    "test_alignment.py",
    "numerics/test_products.py::test_a_gram_matrix_is_the_sum_of_outer_products",
)
NUMERIC = (
    "test_alignment.py",
    "numerics",
    "moments",
    "models/test_walk.py",
    "press",
    "steps",
    "prune",
    "quantize",
)


def run(kernels, names, *options):
    """Fails with what pytest says where a test fails."""
    outside = {name: v for name, v in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in names)],
        check=False,
        cwd=TESTS.parent,
        env={**outside, **KERNELS[kernels]},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["sse4", "avx2"])
def test_what_must_be_the_same_bits_is_so_on_other_kernels(kernels):
    run(kernels, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kernels", KERNELS)
def test_all_numbers_on_other_kernels(kernels):
    run(kernels, NUMERIC, "-m", "not slow", "-n", "2")
