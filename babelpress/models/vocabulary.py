"""The rows of a model that belong to tokens: fewer of them, the others number by number.

Embedding and head, which may be one table, the head's bias, the biases of logits that some families
keep beside it, and the size that configs say. Nothing else of a model changes.

Shapes: V tokens before, K tokens that stay, H hidden.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import token_ids
from babelpress.models.headers import Entry
from babelpress.models.tokenizers import vocabulary_of

PER_LAYER = "vocab_size_per_layer_input"
BIAS = "final_logits_bias"  # of BART and its like: (1, V), beside the head
SIZES = ("vocab_size", "decoder_vocab_size")


def check(name: str, model: PreTrainedModel, carried: Iterable[Entry] = ()) -> None:
    """Raise BadModel where tokens have rows or numbers that are not known here.

    `name` is for the message.
    """
    text = model.config.get_text_config()
    if getattr(text, PER_LAYER, None) and getattr(text, "hidden_size_per_layer_input", None):
        raise BadModel(
            f"{name} ({type(model).__name__}) has embeddings of tokens in every layer, and those "
            "are not trimmed here. Leave out trim, or give a model with one table of embeddings."
        )
    rows = vocabulary_of(model)
    token_ids.check(name, model.config.to_dict(), rows)
    known = {id(table) for table in tables(model)}
    odd = [
        where
        for where, each in model.named_modules()
        if isinstance(each, nn.Embedding)
        and each.num_embeddings == rows
        and id(each.weight) not in known
        and not _positions(where)
    ]
    odd += [each.name for each in carried if rows in each.shape]
    if odd:
        raise BadModel(
            f"{name} ({type(model).__name__}) has another table with a row for each token, "
            f"{odd[0]}, and what reads it is not known here. Leave out trim."
        )
    head: Any = model.get_output_embeddings()
    if head is not None and head.weight.shape[0] != rows:
        raise BadModel(
            f"{name} ({type(model).__name__}) reads {rows:,} tokens and writes "
            f"{head.weight.shape[0]:,}: only models that do both with the same are trimmed here. "
            "Leave out trim."
        )


def _positions(where: str) -> bool:
    """Whether a table is of positions, of which there may be as many as tokens."""
    return "position" in where or where.rpartition(".")[2] == "wpe"


def tables(model: PreTrainedModel) -> list[nn.Parameter]:
    """The tables with a row for each token, each once: embeddings, of both halves, and head."""
    holders: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if model.config.is_encoder_decoder:
        halves: list[Any] = [model.get_encoder(), model.get_decoder()]
        holders += [half.get_input_embeddings() for half in halves]
    found = {id(each.weight): each.weight for each in holders if each is not None}
    return list(found.values())


def share(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Let a model have the tables of another one where they are the same, so that there is one.

    Both are only read from then on.
    """
    same = {
        id(mine): theirs
        for mine, theirs in zip(tables(model), tables(other), strict=False)
        if mine.dtype == theirs.dtype and torch.equal(mine, theirs)
    }
    held = [
        (module, name, same[id(tensor)])
        for module in model.modules()
        for name, tensor in module.named_parameters(recurse=False)
        if id(tensor) in same
    ]
    for module, name, theirs in held:
        setattr(module, name, theirs)


def row_bytes(model: PreTrainedModel, stored: torch.dtype) -> int:
    """What a token costs in a file of this dtype: its rows in all tables, and its bias."""
    numbers = sum(table.shape[1] for table in tables(model)) + len(_biases(model))
    return numbers * stored.itemsize


def _biases(model: PreTrainedModel) -> dict[int, Tensor]:
    """One number for each token, added to logits: of the head, or of what holds it."""
    head: Any = model.get_output_embeddings()
    rows = vocabulary_of(model)

    def of_head(module: nn.Module, name: str, each: Tensor) -> bool:
        if name != "bias" or each.shape != (rows,) or head is None:
            return False
        return any(inside is head for inside in module.modules())

    return {
        id(each): each
        for module in model.modules()
        for name, each in _own(module)
        if of_head(module, name, each) or (name == BIAS and each.shape[-1] == rows)
    }


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """A module's own parameters and buffers; a tied one is had by several."""
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def padding(model: PreTrainedModel) -> set[int]:
    """The tokens whose row an embedding keeps for padding."""
    mine = {id(table) for table in tables(model)}
    return {
        int(module.padding_idx)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and module.padding_idx is not None
        and id(module.weight) in mine
    }


@torch.no_grad()
def keep_rows(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Leave the rows of these tokens, in this order, in place; the config says how many they are.

    Raises BadModel where positions are counted from the number of padding, and that would change.
    """
    rows, kept_K = vocabulary_of(model), torch.tensor(list(kept))
    new = {old: number for number, old in enumerate(kept)}
    _check_padding(model, new)
    old = [*tables(model), *_biases(model).values()]  # held, so that no id is used again
    mine = {id(each) for each in old}
    made: dict[int, Tensor] = {}

    def fewer(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            left = tensor.index_select(-1 if tensor.shape[0] == 1 else 0, kept_K.to(tensor.device))
            made[id(tensor)] = nn.Parameter(left) if isinstance(tensor, nn.Parameter) else left
        return made[id(tensor)]

    for module in model.modules():
        held = [(name, tensor) for name, tensor in _own(module) if id(tensor) in mine]
        for name, tensor in held:
            setattr(module, name, fewer(tensor))
        if any(name == "weight" for name, _ in held):
            _resize(module, len(kept), new)
        elif vars(module).get("vocab_size") == rows:
            module.vocab_size = len(kept)  # type: ignore[assignment]
    _say_size(model.config, rows, len(kept))


def _resize(module: Any, number: int, new: dict[int, int]) -> None:
    if isinstance(module, nn.Embedding):
        module.num_embeddings = number
        if module.padding_idx is not None:
            module.padding_idx = new[module.padding_idx]
    else:
        module.out_features = number


def _check_padding(model: PreTrainedModel, new: dict[int, int]) -> None:
    mine = {id(table) for table in tables(model)}
    for where, module in model.named_modules():
        pad = getattr(module, "padding_idx", None)
        leaf = not any(module.children())
        if pad is None or not leaf or any(id(each) in mine for _, each in _own(module)):
            continue
        if new.get(pad) != pad:
            raise BadModel(
                f"{type(model).__name__} counts positions from the number of its padding token "
                f"({where}), {pad}, and with fewer tokens that would be another one. Leave out "
                "trim."
            )


def _say_size(config: PreTrainedConfig, rows: int, number: int) -> None:
    """Put a new number of tokens into a config, and into those inside it that said the old one."""
    for key, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            _say_size(value, rows, number)
        elif key in SIZES and value == rows:
            setattr(config, key, number)
