"""A dense transformers folder: pruned weights as zeros, quantized ones as what they stand for.

Loads wherever the dense model does. Nothing is smaller than it was, and the config says nothing of
sparsity or quantization: engines have dropped sparse formats, and vLLM refuses even a
`sparsity_config` that says "dense".
"""

from pathlib import Path

from babelpress.export import _folder
from babelpress.export._source import Source

SERVES = {
    "vLLM": "vllm serve {folder}",
    "transformers": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder})
tokenizer = AutoTokenizer.from_pretrained({folder})""",
}
LIBRARY = "transformers"


def write(source: Source, folder: Path) -> list[str]:
    """Write the model as it is, in the dtype it came in. Raises NotFinite, BadRun."""
    return _folder.save(source, folder, "safetensors")
