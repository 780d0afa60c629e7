"""Is what we press as good as what llm-compressor presses, on the same tokens?

Both sides press on equal calibration tokens, each block fed what the pressed blocks before it give;
speed.py hands over the weights that each computes with.

`layer error`: for every linear ‖XΔᵀ‖² / ‖XWᵀ‖² with the inputs X of the dense model on those
tokens, float32, the mean over linears. It is what a method minimises only where no error is passed
on, so `output error` stands beside it: the relative squared error of what the last block gives on
those tokens. `bits per byte`: of the pressed model on FLORES documents of all languages.

Shapes: O outputs, I inputs of a linear; B sequences, T positions, H hidden.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from babelpress.evals import _windows, bits_per_byte
from babelpress.evals._windows import Prepared
from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.open import Opened, open_model
from babelpress.models.save import save_model
from babelpress.models.walk import Walk
from babelpress.moments import gather as feeding
from babelpress.moments.damage import damage
from babelpress.moments.moments import Moments
from babelpress.text import calibration
from babelpress.text.corpus import open_corpus
from babelpress.text.token_blocks import TokenBlocks

WINDOW = 256
LANGUAGE = "und"


@dataclass(frozen=True, slots=True)
class Judged:
    """How a pressed model differs from the dense one."""

    layer_error: float
    output_error: float
    bits_per_byte: float | None

    def told(self) -> dict[str, float | None]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class Judge:
    """The dense model with its moments on the tokens that it was pressed on, and a text to score.

    `data` is a corpus folder with FLORES in it, or nothing for no bits per byte.
    """

    def __init__(self, model: str, ids_NT: Tensor, data: str, documents: int):
        self.opened: Opened = open_model(model, dtype="float32")
        self.walk = Walk(self.opened.model)
        self.dense = {k: v.clone() for k, v in self.opened.model.state_dict().items()}
        self.blocks = {
            LANGUAGE: TokenBlocks(LANGUAGE, ids_NT, torch.ones_like(ids_NT, dtype=torch.bool))
        }
        self.moments: dict[str, Moments] = {}
        for index, found in feeding.gather_dense(self.walk, self.blocks, gram=True):
            for site, seen in found.items():
                self.moments |= {f"{index}.{name}": seen[LANGUAGE] for name in site.linears}
        self.output_BTH = self._output()
        self.prepared = self._prepared(data, documents) if data else None

    def _prepared(self, data: str, documents: int) -> dict[str, Prepared]:
        flores = open_corpus(f"{data}?src=flores")
        texts = {tag: flores.documents(tag, "test")[:documents] for tag in flores.languages()}
        return _windows.prepare(self.opened.tokenizer, texts, window=WINDOW)

    @torch.no_grad()
    def _output(self) -> Tensor:
        todo = feeding.batches(self.walk, self.blocks)
        for index in range(len(self.walk.blocks)):
            todo = feeding.pass_on(self.walk, index, todo)
        return torch.cat([batch.hidden_BTH for batch in todo])

    def judge(self, file: Path) -> Judged:
        """A file of linears as jobs.py writes it; the model is dense again afterwards."""
        pressed = load_file(file)
        total = [self._press(index, pressed) for index in range(len(self.walk.blocks))]
        shares = [share for block in total for share in block]
        lost_BTH = self._output() - self.output_BTH
        output = float(lost_BTH.square().sum() / self.output_BTH.square().sum())
        bits = self._bits() if self.prepared else None
        self.opened.model.load_state_dict(self.dense)
        return Judged(sum(shares) / len(shares), output, bits)

    def dense_bits(self) -> float | None:
        """Bits per byte of the dense model."""
        return self._bits() if self.prepared else None

    def _press(self, index: int, pressed: Mapping[str, Tensor]) -> list[float]:
        """Put the weights of a block in place; the share of its output that each linear loses."""
        shares: list[float] = []
        for name, linear in linears(self.walk.blocks[index]).items():
            new_OI = pressed[f"{index}.{name}"].float()
            harm = damage(weight(linear), new_OI, self.moments[f"{index}.{name}"])
            shares.append(harm.numerator / harm.denominator)
            set_weight(linear, new_OI)
        return shares

    def _bits(self) -> float:
        """The mean over languages."""
        assert self.prepared is not None
        tallies = bits_per_byte.score(self.opened.model, self.prepared)
        return sum(tally.value for tally in tallies.values()) / len(tallies)


def text_tokens(model: str, data: str, samples: int, length: int, seed: int) -> Tensor:
    """Calibration tokens of a corpus: full blocks of every language in turn."""
    corpus = open_corpus(data)
    tags = [tag for tag in corpus.languages() if corpus.documents(tag, "train")]
    each = -(-samples // len(tags))
    tokenizer = open_model(model).tokenizer
    wanted = {"tokens": each * length, "length": length, "seed": seed, "count_special": True}
    built = calibration.build(corpus, tokenizer, tags, **wanted)
    whole = [blocks.ids_BT[blocks.counted_BT.all(1)] for blocks in built.blocks.values()]
    return torch.cat(whole)[:samples]


def prepare(model: str, data: str, folder: Path, given: Mapping[str, Any]) -> tuple[Path, Tensor]:
    """A model as an ordinary folder with the tokens beside it, for all sides."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(open_model(model), folder)
    ids_NT = text_tokens(model, data, **given)
    save_file({"ids": ids_NT}, folder / "tokens.safetensors")
    return folder, ids_NT
