"""Tensors of a model's files that its class does not know: carried over, byte for byte.

Heads that predict further tokens (DeepSeek V3, GLM-4, Qwen3-Next, Qwen3.5), a bias that the config
denies: transformers loads a model without them, and saves it without them. They are found by the
names in the files, renamed as transformers renames them while it loads, and written beside what the
model saved. What it merely holds once, as a tied head, it knows.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from babelpress.errors import BadModel
from babelpress.models import headers
from babelpress.models.headers import Entry
from babelpress.models.names import INDEX, SINGLE
from babelpress.system.files import read_json, write_json

FILE = "model-carried.safetensors"  # of a model in several files


def unknown(model: PreTrainedModel, found: Iterable[Entry]) -> tuple[Entry, ...]:
    """The tensors of files that a model was not given when it was loaded from them."""
    mapping = get_model_conversion_mapping(model)
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    known = model.state_dict()
    prefix = model.base_model_prefix

    def is_known(name: str) -> bool:
        renamed, _ = rename_source_key(name, renamings, converters, prefix, known)
        if renamed in known:
            return True
        if name in known:
            return True
        return rename_source_key(name, [], [], prefix, known)[0] in known

    return tuple(each for each in found if not is_known(each.name))


def check(carried: Sequence[Entry], reported: Iterable[str], name: str) -> None:
    """Raise BadModel where transformers left out more tensors than are carried over."""
    lost = sorted(set(reported))
    if len(lost) > len(carried):
        raise BadModel(
            f"{name} has {len(lost)} tensors that its class does not know, {lost[0]} first, and "
            f"only {len(carried)} of them are found in its files: the others would be lost. Take "
            "them out of the files, or use another model."
        )


def save(carried: Sequence[Entry], folder: Path) -> None:
    """Write tensors beside those that a model saved into a folder. Raises BadRun."""
    if not carried:
        return
    if not (folder / INDEX).exists():
        single = folder / SINGLE
        headers.write(single, [*headers.entries([single]), *carried])
        return
    index = read_json(folder / INDEX)
    headers.write(folder / FILE, carried)
    index["weight_map"] |= {each.name: FILE for each in carried}
    metadata = index.setdefault("metadata", {})
    if "total_size" in metadata:
        metadata["total_size"] += sum(each.bytes for each in carried)
    write_json(folder / INDEX, index)


def lines(names: Sequence[str]) -> list[str]:
    """The line to tell the user of tensors that were carried over, where there are any."""
    if not names:
        return []
    which = f"{names[0]} first" if len(names) > 1 else names[0]
    tensors = "tensor" if len(names) == 1 else "tensors"
    return [f"{len(names)} {tensors} that the model's class does not know, carried over: {which}"]
