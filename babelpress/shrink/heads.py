"""Groups of attention heads: all heads of queries that share keys and values, with those.

A group goes whole: engines give every key and value as many heads of queries as any other. Heads
stay as wide as they are, and the config states that width, which some derive from the number of
heads; a family whose config has no place for it is refused.

Shapes: U groups.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from babelpress.errors import BadModel, BadSetting
from babelpress.models.walk import Walk
from babelpress.shrink._sizes import Size
from babelpress.shrink._widths import Part, Width, rows_of, shapes_of

UNITS = "attention heads"


def find(name: str, walk: Walk, asked: str) -> Width:
    """The groups of every block, and how many stay.

    Raises BadModel for a family whose heads no engine loads in another number, and for one group
    alone; BadSetting for a size that cannot be had.
    """
    text = walk.model.config.get_text_config()
    kind = type(walk.model).__name__
    own = vars(text)  # where layers have heads of several widths, it is an error to ask for one
    size = own.get("head_dim")
    if walk.model.config.is_encoder_decoder:
        raise BadModel(
            f"{name} ({kind}) is an encoder-decoder, whose heads are not taken out here. Leave out "
            "--heads."
        )
    if not isinstance(size, int):
        raise BadModel(
            f"the config of {name} ({kind}) does not state how wide a head is, so no engine would "
            "load it with fewer. Leave out --heads."
        )
    heads = int(own["num_attention_heads"])
    groups = int(own.get("num_key_value_heads") or heads)
    if groups == 1:
        raise BadModel(
            f"{name} ({kind}) has one group of attention: its {heads} heads share one key and "
            "value, and whole groups go. Leave out --heads."
        )
    each = heads // groups
    sizes = Size(asked, "heads", UNITS)
    kept = sizes.of(heads, each, "the heads of a group")
    _check_config(text, kind, sizes, kept, [each * number for number in range(1, groups + 1)])
    parts = []
    for index in range(len(walk.blocks)):
        part = _part(shapes_of(walk, index), groups, each * size, size)
        if part is None:
            raise BadModel(
                f"{walk.name(index)} of {name} ({kind}) has no linears of queries, keys and values "
                f"for {heads} heads of {size} in {groups} groups. Leave out --heads."
            )
        parts.append(part)
    note = sizes.rounded(heads, kept)
    return Width("heads", tuple(parts), groups, kept // each, each, note)


def resize(text: Any, width: Width) -> None:
    """Put the number that stays into a text config, and how wide a head is."""
    _say(text, width.after, width.kept)


def _say(text: Any, heads: int, groups: int) -> None:
    own = vars(text)
    text.head_dim = int(own["head_dim"])  # stated, for some derive it from the number of heads
    text.num_attention_heads = heads
    if own.get("num_key_value_heads") is not None:
        text.num_key_value_heads = groups


def _check_config(text: Any, kind: str, size: Size, kept: int, every: Sequence[int]) -> None:
    """Raise BadSetting for a number that a family's config refuses, naming those that it takes.

    Llama and Gemma want one that divides their hidden size, though heads have a width of their own.
    """
    refused = {heads: _refusal(text, heads, number) for number, heads in enumerate(every, 1)}
    if not refused[kept] or refused[every[-1]]:  # of what is refused as it is, nothing is known
        return
    fewer = [heads for heads, why in refused.items() if heads < every[-1] and not why]
    instead = f"Give --heads {fewer[-1]}" if fewer else "Leave out --heads"
    raise BadSetting(
        f"--heads {size.asked} of {every[-1]} {size.units} makes {kept}, which {kind} refuses: "
        f"{refused[kept]} {instead}."
    )


def _refusal(text: Any, heads: int, groups: int) -> str:
    """What transformers says against a config with so many heads; nothing if it takes it."""
    own = deepcopy(text)
    _say(own, heads, groups)
    try:
        own.validate()
    except StrictDataclassError as error:
        return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
    return ""


def _part(shapes: dict[str, tuple[int, int]], groups: int, wide: int, narrow: int) -> Part | None:
    """The groups of a block: `wide` rows of queries, `narrow` of keys and of values in each."""
    modules: dict[str, list[str]] = {}
    for name in shapes:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    wanted = sorted([groups * wide, groups * narrow, groups * narrow])
    for names in modules.values():
        *before, last = names
        rows = {each: shapes[each][0] for each in before}
        reads = shapes[last][1] == groups * wide
        same = len({shapes[each][1] for each in before}) == 1
        if reads and same and sorted(rows.values()) == wanted:
            return Part(
                last,
                rows_of(groups, wide),
                {each: rows_of(groups, number // groups) for each, number in rows.items()},
            )
    return None
