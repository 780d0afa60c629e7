"""Experts whose weights are stacked in three-dimensional parameters: their slices as linears.

transformers keeps the weights of a block's experts in two parameters, the expert first, and lets
the computation be replaced by name. Ours does what its own do, a product an expert and linear on
rows sorted by expert, and lets the rows of every slice be seen. Blocks are always run with it,
whether anyone looks or not, so what they pass on has the same bits.

A mixture of experts is known by what transformers asks of a module whose computation can be
replaced, not by the names of models. A router is a linear beside the experts that has no more
outputs than there are experts: it is never a linear to be pressed.

Shapes: E experts, T tokens, K experts of a token, S = T·K rows sorted by expert, R rows of one
expert, O outputs, I inputs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as product
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from babelpress.errors import BadModel

NAME = "babelpress"  # of our computation, for transformers
IMPLEMENTATION = "_experts_implementation"  # where a config of theirs has such a name
DOWN = "down_proj"

See = Callable[[Tensor, Tensor | None], None]
"""Gets rows (R, I) and the tokens (R,) they are of; None stands for every token in order."""
Hear = Callable[[Tensor], Tensor]
"""Gets what a linear gives for rows that were just seen, and gives what goes on in its place."""


@runtime_checkable
class Experts(Protocol):
    """What transformers has of a module of stacked experts whose computation can be replaced."""

    config: Any
    num_experts: int
    has_gate: bool
    has_bias: bool
    is_transposed: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """The weight of one expert in a stacked parameter: a linear that is no module."""

    experts: Any  # nn.Module and Experts
    parameter: str
    expert: int

    def before(self) -> "Slice | None":
        """The linear of the same expert that runs before this one, if there is one."""
        first = first_parameter(self.experts)
        return None if self.parameter == first else Slice(self.experts, first, self.expert)

    def weight(self) -> Tensor:
        """The weight as (outputs, inputs), a view."""
        data = getattr(self.experts, self.parameter).data[self.expert]
        return data.T if self.experts.is_transposed else data

    @torch.no_grad()
    def set_weight(self, weight_OI: Tensor) -> None:
        """Put a new weight in place of the old one; those of other experts stay."""
        self.weight().copy_(weight_OI)


def find_stacks(module: nn.Module) -> dict[str, Any]:
    """The modules of stacked experts inside a module, by their names there."""
    return {name: m for name, m in module.named_modules() if isinstance(m, Experts)}


def slices(name: str, experts: Any) -> dict[str, Slice]:
    """Every expert's linears by name: NAME.EXPERT.PARAMETER, in the order that they run."""
    return {
        f"{name}.{expert}.{parameter}": Slice(experts, parameter, expert)
        for expert in range(experts.num_experts)
        for parameter in (first_parameter(experts), DOWN)
    }


def slice_names(name: str, parameter: Tensor) -> list[str]:
    """The names of the linears whose weights a parameter holds: one, or one an expert."""
    path, _, leaf = name.rpartition(".")
    if parameter.ndim < 3:
        return [name.removesuffix(".weight")]
    return [f"{path}.{expert}.{leaf}" for expert in range(len(parameter))]


def is_router(name: str, outputs: int, stacks: Mapping[str, Any]) -> bool:
    """Whether a linear with so many outputs decides which of the experts beside it run."""
    return any(
        name.startswith(path.removesuffix(path.rpartition(".")[2]))
        and outputs <= experts.num_experts
        for path, experts in stacks.items()
    )


def check_stacks(block: nn.Module, path: str) -> None:
    """Raise BadModel for stacked weights that cannot be told apart: they would be left in silence.

    Convolutions have three-dimensional weights too, and are no linears.
    """
    known = {id(p) for m in find_stacks(block).values() for p in m.parameters()}
    for name, module in block.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 3 and min(parameter.shape) > 1 and id(parameter) not in known:
                raise BadModel(
                    f"{path}.{name}.{leaf} is stacked {tuple(parameter.shape)} in a way that is "
                    "not known: only experts of transformers' common interface can be pressed."
                )


# ---- running -------------------------------------------------------------------------------

_SEEN: ContextVar[Mapping[Slice, See]] = ContextVar("seen", default=MappingProxyType({}))
_HEARD: ContextVar[Mapping[Slice, Hear]] = ContextVar("heard", default=MappingProxyType({}))


@contextmanager
def computed(module: nn.Module) -> Iterator[None]:
    """Inside, the experts of a module are computed here."""
    configs = {id(experts.config): experts.config for experts in find_stacks(module).values()}
    with ExitStack() as stack:
        for config in configs.values():
            stack.callback(setattr, config, IMPLEMENTATION, config._experts_implementation)
            config._experts_implementation = NAME
        yield


@contextmanager
def seen(see: Mapping[Slice, See], hear: Mapping[Slice, Hear] | None = None) -> Iterator[None]:
    """Inside, rows of these slices are seen, what they give heard, whenever they are computed here.

    What is heard is before the bias.
    """
    token = _SEEN.set({**_SEEN.get(), **see})
    heard = _HEARD.set({**_HEARD.get(), **(hear or {})})
    try:
        yield
    finally:
        _HEARD.reset(heard)
        _SEEN.reset(token)


def first_parameter(experts: Any) -> str:
    """The stack that experts begin with."""
    return "gate_up_proj" if experts.has_gate else "up_proj"


def _compute(experts: Any, hidden_TI: Tensor, chosen_TK: Tensor, share_TK: Tensor) -> Tensor:
    """What the chosen experts make of every token, weighted by their shares."""
    expert_S, order_S = chosen_TK.flatten().sort(stable=True)
    token_S = order_S // chosen_TK.shape[1]
    inner_SI = _products(experts, first_parameter(experts), hidden_TI[token_S], expert_S, token_S)
    inner_SI = experts._apply_gate(inner_SI) if experts.has_gate else experts.act_fn(inner_SI)
    out_SO = _products(experts, DOWN, inner_SI, expert_S, token_S)
    norm = dict(experts.named_children()).get("post_expert_norm")
    if norm is not None:
        out_SO = norm(out_SO)
    out_SO = out_SO * share_TK.flatten()[order_S, None]
    out_TKO = torch.empty_like(out_SO).index_copy_(0, order_S, out_SO).view(*chosen_TK.shape, -1)
    return out_TKO.sum(1).to(hidden_TI.dtype)


def _products(
    experts: Any, parameter: str, rows_SI: Tensor, expert_S: Tensor, token_S: Tensor
) -> Tensor:
    """Every row by the weight of its expert; who watches a slice sees its rows."""
    seen, heard = _SEEN.get(), _HEARD.get()
    ends = expert_S.bincount(minlength=experts.num_experts).cumsum(0).tolist()
    parts = []
    for expert, (start, end) in enumerate(pairwise([0, *ends])):
        if start == end:
            continue
        each = Slice(experts, parameter, expert)
        if see := seen.get(each):
            see(rows_SI[start:end], token_S[start:end])
        part_RO = product(rows_SI[start:end], each.weight())
        parts.append(hear(part_RO) if (hear := heard.get(each)) else part_RO)
    out_SO = torch.cat(parts)
    return out_SO + getattr(experts, f"{parameter}_bias")[expert_S] if experts.has_bias else out_SO


ALL_EXPERTS_FUNCTIONS.register(NAME, _compute)
