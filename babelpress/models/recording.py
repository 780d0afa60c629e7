"""What a model hands its blocks: learnt from passes in which no block runs.

A block may run several times before the next one does, as those of ALBERT: each of its runs is a
call of its own, and calls are numbered through.

Every block gives a number of its own in place of hidden states, which the next has to receive; what
else it returns is stood for too. What a block is handed with one text and not with another is of
the tokens; what changes with the stand-ins alone is of other blocks.

The decoder of an encoder-decoder has a recording of its own: what the encoder made is of the batch.

Tested in tests/models/test_handed.py.

Shapes: B sequences, T positions, H hidden size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import experts
from babelpress.models.handed import Call, Given, Handing, Own, boxed, givens, same, unknown
from babelpress.models.linears import weight
from babelpress.models.sides import Reading

LENGTH = 8  # tokens of the two texts that are tried
DISTINCT = 200  # whole numbers that every dtype holds
STRIDE = 7919  # tokens of the second text lie apart: a prime, so that none comes twice
# What models raise that want images or sound, or that no text can be given to.
CANNOT_READ = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)
MARKS = ("_token_id", "_token_index")  # how a config calls ids that stand for something


@dataclass(slots=True)
class _Pass:
    """One pass: hidden states that entered the first block, and the boxed arguments of all."""

    entered: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)  # which block every call is of
    boxes: dict[int, Any] = field(default_factory=dict)
    given: dict[int, Given] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)  # what addresses stand for

    def stand_for(self, standing: Tensor, number: int) -> Tensor:
        """Remember that a tensor stands for an output of the last call."""
        self.alive.append(standing)
        self.given[id(standing)] = Given(len(self.calls) - 1, number)
        return standing


class Recording:
    """What the blocks of a stack are handed: of the shape of a batch, its tokens, blocks before.

    `run` is a pass of the stack, `texts` are two that are tried. Raises BadModel naming the block
    and the argument that cannot be followed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        blocks: Sequence[nn.Module],
        name: Callable[[int], str],
        run: Callable[[PreTrainedModel, Reading], Any],
        texts: tuple[Reading, Reading],
    ):
        self._model, self._blocks, self._name, self._run = model, blocks, name, run
        self._extras: list[Any] | None = None  # what the first block returns besides
        self._known: dict[torch.Size, list[Call]] = {}
        blank, text = texts
        first = self._record(blank)
        self.runs = [  # by block: the numbers of its calls
            [call for call, block in enumerate(first.blocks) if block == index]
            for index in range(len(blocks))
        ]
        one, two = first.calls, self._record(text).calls
        three = self._record(text, DISTINCT // 2).calls
        self.of_tokens: dict[int, list[int | str]] = {}  # by call
        self.wanted: dict[Given, int] = {}  # by what calls return: the last that is handed it
        for number, (call, other, again) in enumerate(zip(one, two, three, strict=True)):
            self._check(first.blocks[number], call, other, again)
            if differing := [key for key in call if not same(call[key], other[key])]:
                self.of_tokens[number] = differing
            self.wanted |= dict.fromkeys(givens(call), number)
        self._keep(blank.shape, one)

    def call(self, number: int, shape: torch.Size) -> Call:
        """What a call hands its block with every batch of a shape."""
        return self._known[shape][number]

    def prepare(self, shape: torch.Size) -> None:
        """Record what depends on a shape, where it is not known yet."""
        if shape not in self._known:
            self._keep(shape, self._record(blank_text(self._model, shape)).calls)

    def of_batch(self, reading: Reading) -> tuple[Tensor, dict[int, Call]]:
        """Hidden states that enter the first block, and what depends on these tokens, by call."""
        found = self._record(reading)
        if reading.shape not in self._known:
            self._keep(reading.shape, found.calls)
        calls: dict[int, Call] = {
            number: {key: found.calls[number][key] for key in keys}
            for number, keys in self.of_tokens.items()
        }
        return found.entered[0], calls

    def ended(self, reading: Reading, last_BTH: Tensor) -> Tensor:
        """What the stack gives (B, T, H) where its last block gave `last_BTH`."""
        with self.ending(last_BTH):
            return self._run(self._model, reading)[0]

    @contextmanager
    def ending(self, last_BTH: Tensor) -> Iterator[None]:
        """Inside, a pass runs no block of the stack, and its last gives `last_BTH`."""
        stand_ins = [lambda hidden_BTH: hidden_BTH] * (len(self._blocks) - 1)
        forms = [*stand_ins, lambda _: last_BTH]
        extras = self._extras[1:] if self._extras else []

        def instead(form: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                hidden_BTH = form(hidden_of(args, kwargs))
                return (hidden_BTH, *extras) if self._extras else hidden_BTH

            return forward

        with replaced(dict(zip(self._blocks, map(instead, forms), strict=True))):
            yield

    def _keep(self, shape: torch.Size, calls: Sequence[Call]) -> None:
        self._known[shape] = [
            {key: value for key, value in call.items() if key not in self.of_tokens.get(number, ())}
            for number, call in enumerate(calls)
        ]

    def _check(self, index: int, call: Call, other: Call, again: Call) -> None:
        """Raise BadModel for what is not understood."""
        if not call.keys() == other.keys() == again.keys():
            raise self._bad(f"{self._name(index)} is handed other arguments with another text")
        for key in call:
            where = f"argument {key if isinstance(key, str) else key + 1} of {self._name(index)}"
            if (kind := unknown(call[key], other[key])) is not None:
                raise self._bad(f"{where} holds a {kind.__name__}")
            if not same(other[key], again[key]):
                raise self._bad(f"{where} is computed from what blocks before it gave")

    def check_written(self, index: int, written: Mapping[Any, Any]) -> None:
        """Raise BadModel where a block wrote something that cannot be handed on."""
        if (kind := unknown(*written.values())) is not None:
            raise self._bad(f"{self._name(index)} writes a {kind.__name__} for other blocks")

    def _bad(self, what: str) -> BadModel:
        return BadModel(
            f"{type(self._model).__name__} cannot be walked block by block: {what}. Models whose "
            "blocks are handed tensors, and containers of them, can be."
        )

    def _record(self, reading: Reading, shift: int = 0) -> _Pass:
        """One pass. Other `shift`s are other stand-ins."""
        found = _Pass()

        def stand_in(index: int, block: nn.Module) -> Callable[..., Any]:
            run = block.forward

            def forward(*args: Any, **kwargs: Any) -> Any:
                found.blocks.append(index)
                return self._stand_in(found, run, shift, args, kwargs)

            return forward

        with replaced({block: stand_in(i, block) for i, block in enumerate(self._blocks)}):
            self._run(self._model, reading)
        self._check_order(found.blocks)
        return found

    def _check_order(self, ran: Sequence[int]) -> None:
        """Raise BadModel where a block did not run, or ran again after one that follows it."""
        places, there = self._name(0).rpartition(".")[0], len(self._blocks)
        if len(set(ran)) != there:
            raise BadModel(
                f"{places} has {there} blocks, but a pass ran {len(set(ran))} of them: only what "
                "runs every block can be pressed."
            )
        if list(ran) != sorted(ran):
            raise BadModel(
                f"a pass runs the blocks of {places} in the order {', '.join(map(str, ran))}: only "
                "what is done with a block before it goes on to the next can be pressed."
            )

    def _stand_in(
        self,
        found: _Pass,
        run: Callable[..., Any],
        shift: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What a block gives in place of its outputs; the first runs once, for their form."""
        hidden_BTH = hidden_of(args, kwargs)
        if not found.calls:
            found.entered.append(hidden_BTH)
        elif not torch.equal(found.alive[-1], hidden_BTH):
            raise BadModel(
                f"{self._name(found.blocks[-1])} does not read what the block before it gave: "
                f"{type(self._model).__name__} cannot be walked block by block."
            )
        further = {**dict(enumerate(args[1:])), **kwargs}
        if not args:
            del further["hidden_states"]
        found.alive.append(further)
        found.calls.append({k: boxed(v, found.given, found.boxes) for k, v in further.items()})
        if self._extras is None:
            self._extras = _extras(run, hidden_BTH, found.calls[-1])
        number = 1 + (len(found.calls) + shift) % DISTINCT
        rest = [
            found.stand_for(torch.full_like(each, number), place)
            for place, each in enumerate(self._extras[1:], 1)
        ]
        first = found.stand_for(torch.full_like(hidden_BTH, number), 0)
        return (first, *rest) if self._extras else first


def _extras(run: Callable[..., Any], hidden_BTH: Tensor, call: Call) -> list[Tensor]:
    """The outputs of a block that gives a tuple; a number where one is no tensor."""
    handing = Handing(call, Own(hidden_BTH.shape[:2]))
    with torch.no_grad():
        output = run(hidden_BTH.clone(), *handing.args, **handing.kwargs)
    if not isinstance(output, tuple | list):
        return []
    return [each if isinstance(each, Tensor) else torch.zeros(()) for each in output]


# ---- a pass --------------------------------------------------------------------------------


def run_text(model: PreTrainedModel, reading: Reading) -> Any:
    """The model's own pass over text, without its head."""
    with torch.no_grad(), experts.computed(model):
        # padding comes last, so that no position that counts sees it
        ids_BT = reading.ids_BT
        return model.base_model(ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False)


def run_encoder(model: PreTrainedModel, reading: Reading) -> Any:
    """The pass of an encoder that a decoder reads."""
    there_BT = reading.there_BT
    mask_BT = torch.ones_like(reading.ids_BT) if there_BT is None else there_BT.long()
    with torch.no_grad():
        return model.get_encoder()(input_ids=reading.ids_BT, attention_mask=mask_BT)


def run_decoder(model: PreTrainedModel, reading: Reading) -> Any:
    """The pass of a decoder over what its encoder made, without the head."""
    assert reading.there_BS is not None
    with torch.no_grad():
        return model.get_decoder()(
            input_ids=reading.ids_BT,
            encoder_hidden_states=reading.encoded_BSH,
            encoder_attention_mask=reading.there_BS.long(),
            use_cache=False,
        )


def blank_text(model: PreTrainedModel, shape: Sequence[int]) -> Reading:
    """The first token over and over; with three numbers, (B, T, S), a decoder's, of no encoding."""
    table_VH = weight(model.get_input_embeddings())
    ids_BT = torch.zeros(tuple(shape[:2]), dtype=torch.long, device=table_VH.device)
    if len(shape) == 2:
        return Reading(ids_BT)
    encoded_BSH = table_VH.new_zeros(shape[0], shape[2], table_VH.shape[1])
    there_BS = torch.ones_like(encoded_BSH[..., 0], dtype=torch.bool)
    return Reading(ids_BT, None, encoded_BSH, there_BS)


def tried_texts(model: PreTrainedModel, stack: int = 0) -> tuple[Reading, Reading]:
    """Two texts of one shape that differ in all that depends on tokens.

    Of an encoder-decoder the second has padding in the source; what its decoder, stack 1, reads is
    as long as that.
    """
    ids_BT = other_text(model).to(weight(model.get_input_embeddings()).device)
    if not model.config.is_encoder_decoder:
        return blank_text(model, ids_BT.shape), Reading(ids_BT)
    there_BT = torch.arange(LENGTH, device=ids_BT.device)[None] < LENGTH // 2
    if stack == 0:
        return blank_text(model, ids_BT.shape), Reading(ids_BT, there_BT)
    blank = blank_text(model, (*ids_BT.shape, LENGTH))
    assert blank.encoded_BSH is not None
    return blank, Reading(ids_BT, None, blank.encoded_BSH + 1, there_BT)


@contextmanager
def reading_text(model: PreTrainedModel) -> Iterator[None]:
    """Inside, a model that cannot read text alone is refused in one line."""
    try:
        yield
    except CANNOT_READ as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadModel(f"{type(model).__name__} cannot be run on text alone: {first}") from error


def other_text(model: PreTrainedModel) -> Tensor:
    """Token ids (1, T) far apart, beginning and end among them, no marks of images and the like."""
    rows = len(weight(model.get_input_embeddings()))
    config = model.config.get_text_config()
    named = [getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad")]
    ends = {each for each in named if isinstance(each, int) and 0 <= each < rows}  # or a list
    marks = set(_marks(model.config.to_dict())) - ends
    spread = (STRIDE * place % rows for place in range(1, rows))
    some = [*sorted(ends), *(each for each in spread if each not in marks | ends)]
    return torch.tensor([[some[place % len(some)] for place in range(LENGTH)]])


def _marks(config: Mapping[str, Any]) -> Iterator[int]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _marks(value)
        elif isinstance(value, int) and key.endswith(MARKS):
            yield value


def hidden_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden states among the arguments of a block."""
    return args[0] if args else kwargs["hidden_states"]


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Inside, modules compute something else."""
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, before in own.items():
            vars(module).pop("forward", None)
            if before is not None:
                module.forward = before
