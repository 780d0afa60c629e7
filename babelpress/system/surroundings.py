"""What decides a result's bytes besides its recipe: versions, processor, threads.

Tested in tests/system/test_processor.py.
"""

import platform
from importlib.metadata import version
from typing import Any

import torch

from babelpress.system import processor
from babelpress.system.processor import attention, instruction_set


def surroundings(device: str) -> dict[str, Any]:
    """Versions, processor, device, threads: with the recipe, what decides a result's bytes."""
    packages = ("babelpress", "torch", "transformers", "tokenizers", "numpy")
    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device,
        "instructions": instruction_set(),
        "attention": attention(device) or "default",
        "threads": torch.get_num_threads(),
    }


def machine(device: torch.device) -> dict[str, str]:
    """What a time hangs on: the processor (or card), threads, PyTorch."""
    found = {"processor": processor.name(), "threads": str(torch.get_num_threads())}
    if device.type == "cuda":
        found["card"] = torch.cuda.get_device_name(device)
    elif device.type != "cpu":
        found["card"] = str(device)
    return {**found, "torch": version("torch")}
