"""The processor as PyTorch's libraries see it: which kernels they choose, and so what last bits."""

import os

import torch

UNITS = ("amx_bf16", "amx_fp16", "avx512_bf16", "avx512_fp16", "avx512_vnni")  # fastest first
# What makes the libraries take other kernels than they would; read as a process starts.
OVERRIDES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "OPENBLAS_CORETYPE",
)


def instruction_set() -> str:
    """What decides kernels, in words: `Intel AVX512 avx512_bf16`, and the overrides that are set.

    Who made the processor counts: MKL has other kernels for others than Intel's.
    """
    has = torch.cpu.get_capabilities()
    maker = str(has.get("cpu_name", "")).partition(" ")[0]
    units = [unit for unit in UNITS if has.get(unit, False)]
    set_so = [f"{name}={os.environ[name]}" for name in OVERRIDES if os.environ.get(name)]
    words = [maker, torch.backends.cpu.get_cpu_capability(), *units, *set_so]
    return " ".join(filter(None, words))


def attention(device: str) -> str | None:
    """The attention that is fast on a device; None leaves it to transformers.

    PyTorch's own kernels are slow in bfloat16 on processors that have no matrix unit for it.
    """
    slow = device == "cpu" and not torch.cpu.get_capabilities().get("amx_bf16", False)
    return "eager" if slow else None
