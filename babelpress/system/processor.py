"""The processor as PyTorch's libraries see it: which kernels they choose, and so what last bits."""

import os
import platform
import re
from pathlib import Path

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


def name() -> str:
    """What the processor is called, with its cores and what decides its kernels."""
    has = torch.cpu.get_capabilities()
    called = _called() or str(has.get("cpu_name", "")) or platform.processor() or "processor"
    return f"{called}, {os.cpu_count()} cores, {instruction_set()}"


def _called(path: Path = Path("/proc/cpuinfo")) -> str:
    """The name that Linux has of it; empty elsewhere."""
    if not path.exists():
        return ""
    found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(errors="replace"), re.MULTILINE)
    return found[1].strip() if found else ""


def slow_in_bfloat16() -> bool:
    """Whether products of float32 are faster here than those of bfloat16.

    Told from what the processor has, not from a trial: the same machine always answers the same.
    Measured with PyTorch 2.13 on x86: with matrix units (AMX) bfloat16 is two to four times as fast
    as float32, with AMD's AVX-512 units 2.4 times; with Intel's without AMX it takes 1.8 times as
    long, without any such unit some ten times. Other processors were not measured.
    """
    has = torch.cpu.get_capabilities()
    if has.get("architecture") != "x86_64" or has.get("amx_bf16", False):
        return False
    amd = str(has.get("cpu_name", "")).startswith("AMD")
    return not (amd and has.get("avx512_bf16", False))


def attention(device: str) -> str | None:
    """The attention that is fast on a device; None leaves it to transformers.

    PyTorch's own kernels are slow in bfloat16 on processors that have no matrix unit for it.
    """
    slow = device == "cpu" and not torch.cpu.get_capabilities().get("amx_bf16", False)
    return "eager" if slow else None
