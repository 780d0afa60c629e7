"""A student: the same model with fewer blocks, those it has copied from its teacher.

Embeddings, norms and head are the teacher's. Nothing is trained here: a student with some blocks of
the teacher computes what the teacher would if the others passed on what they are given (Sanh et al.
2019, DistilBERT, arXiv:1910.01108, 3).
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from transformers import PreTrainedModel

from babelpress.errors import BadModel, BadSetting
from babelpress.models.reshaped import blank, filled, misfits
from babelpress.models.stacks import find_stacks

INITS = ("stride", "last", "first")
ANOTHER = "Begin with --init stride or first, or give the student as a folder, with --student."
# What a config has that makes blocks others by their place, and its value where it does not.
BY_PLACE = {
    "num_kv_shared_layers": 0,
    "first_k_dense_replace": 0,
    "decoder_sparse_step": 1,
    "scale_attn_by_inverse_layer_idx": False,
}


def chosen_blocks(teacher: int, student: int, init: str) -> list[int]:
    """The blocks of a teacher that a student of so many blocks begins as.

    `stride` takes the first, the last and what lies evenly between; a student of one block takes
    the last. Raises BadSetting for more blocks than the teacher has, or an `init` that is none.
    """
    if init not in INITS:
        raise BadSetting(f"no way to begin a student is called '{init}'. Use {', '.join(INITS)}.")
    if not 0 < student <= teacher:
        raise BadSetting(
            f"--layers {student} is not from 1 to {teacher}: a student has at most as many layers "
            f"as its teacher. Give --layers {max(1, teacher // 2)}, or another model as --student."
        )
    if init == "first":
        return list(range(student))
    if init == "last" or student == 1:
        return list(range(teacher - student, teacher))
    return [round(index * (teacher - 1) / (student - 1)) for index in range(student)]


def fewer_blocks(
    model: PreTrainedModel, kept: Sequence[int], *, instead: str = ANOTHER
) -> PreTrainedModel:
    """A model of its own with those blocks of `model`, in evaluation mode.

    Raises BadModel where what is left would not compute what those blocks do: blocks of several
    stacks, or a config that tells them apart by their places. `instead` is what to do then.
    """
    stacks = find_stacks(model)
    student = blank(model, _config(model, len(stacks[0].blocks), kept, instead))
    theirs = model.state_dict()
    begin = f"{stacks[0].path}."
    sources = {name: _source(name, begin, kept) for name in student.state_dict()}
    left = [name for name in theirs if name not in sources.values() and _is_kept(name, begin, kept)]
    found = {name: theirs[source] for name, source in sources.items() if source in theirs}
    if wrong := left + misfits(student, found):
        raise BadModel(
            f"{type(model).__name__} cannot be made of its blocks {', '.join(map(str, kept))}: "
            f"{wrong[0]} has no like at its place there. {instead}"
        )
    filled(model, student, found)
    return student


def anew(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A model of the same shapes whose weights are drawn, as training from nothing begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return blank(model, model.config).to(model.device)  # type: ignore[arg-type]


def _source(name: str, begin: str, kept: Sequence[int]) -> str:
    """What a weight of the student is called in its teacher."""
    if not name.startswith(begin):
        return name
    number, _, rest = name.removeprefix(begin).partition(".")
    return f"{begin}{kept[int(number)]}.{rest}"


def _is_kept(name: str, begin: str, kept: Sequence[int]) -> bool:
    """Whether a weight of the teacher is outside its blocks, or in one that is kept."""
    return not name.startswith(begin) or int(name.removeprefix(begin).split(".")[0]) in kept


def _config(model: PreTrainedModel, blocks: int, kept: Sequence[int], instead: str) -> Any:
    """The config of a student: the number of blocks, and of lists with an entry for each, some."""
    config = deepcopy(model.config)
    text = config.get_text_config()
    if config.is_encoder_decoder or len(find_stacks(model)) > 1:
        raise BadModel(
            f"{type(model).__name__} is an encoder-decoder, whose halves have blocks of their own. "
            f"{instead}"
        )
    layers = getattr(text, "num_hidden_layers", None)
    if layers != blocks:
        raise BadModel(
            f"{type(model).__name__} has blocks for another number of layers ({layers} layers of "
            f"{blocks}), as where one is run again and again, and cannot be made smaller so. "
            f"{instead}"
        )
    odd = next(
        (name for name, no in BY_PLACE.items() if getattr(text, name, None) not in (None, no)), ""
    )
    if odd:
        raise BadModel(
            f"{type(model).__name__} tells its blocks apart by their places ({odd}), so some of "
            f"them would be another model. {instead}"
        )
    for name, value in by_block(text, blocks).items():
        setattr(text, name, [value[index] for index in kept])
    text.num_hidden_layers = len(kept)
    return config


def by_block(text: Any, blocks: int) -> dict[str, Sequence[Any]]:
    """The lists of a text config that have an entry for every block, by name."""
    return {
        name: value
        for name, value in vars(text).items()
        if "layer" in name and isinstance(value, list | tuple) and len(value) == blocks
    }
