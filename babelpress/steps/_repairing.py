"""What a repair is done with: a pressed model, the dense one, text, and which weights stay.

Tested in tests/steps/test_recover.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from babelpress.errors import BadModel, BadRun, BadSetting
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.press.codes import CodesFolder
from babelpress.steps._kind import BLOCKS
from babelpress.steps._learnt import Learnt, of_text
from babelpress.steps.recover import KEPT, LOW_RANK, TUNED, Settings
from babelpress.text import mixtures
from babelpress.text.mixtures import LACKING, Mixture
from babelpress.text.settings import CalibrationSettings
from babelpress.train.batches import Blocks
from babelpress.train.reading import Reader


@dataclass(frozen=True, slots=True)
class Repair:
    """All that a repair begins with.

    `codes` are those of a quantized run; `mixed` is the mixture that was asked for.
    """

    settings: Settings
    opened: Opened
    dense: Opened
    walk: Walk
    reader: Reader
    texts: Learnt
    mixed: Mixture
    codes: CodesFolder | None
    seed: int

    @classmethod
    def of(
        cls, opened: Opened, dense: Opened, asked: CalibrationSettings, settings: Settings
    ) -> "Repair":
        """Raises BadModel, BadSetting or BadRun where model, repair and text do not fit."""
        if opened.model.config.is_encoder_decoder:
            raise BadModel(
                f"{opened.name} is an encoder-decoder, and those are not repaired here. Give an "
                "encoder or a decoder."
            )
        codes = CodesFolder.open(opened.codes) if opened.codes else None
        reader = Reader.of(opened.model)
        _check(opened, reader, settings, codes)
        walk = Walk(opened.model)
        _check_updates(walk, settings, codes)
        texts = of_text(opened, asked, reader.answers)
        tags = texts.learnt.languages()
        mixed = mixtures.mixture(settings.mixture, tags, model=opened.name)
        mixtures.check_there(mixed, tags)
        if settings.teacher == KEPT and texts.learnt.scores != "next":
            raise BadSetting(
                f"--teacher {KEPT} is for decoders: of an encoder other tokens are hidden every "
                "time. Leave it out."
            )
        found = cls(settings, opened, dense, walk, reader, texts, mixed, codes, asked.seed)
        found.check_alike()
        return found

    @property
    def text(self) -> Blocks:
        """What is learnt from."""
        assert isinstance(self.texts.learnt, Blocks)  # plain text, no task
        return self.texts.learnt

    @property
    def apart(self) -> Blocks:
        """What losses are found on."""
        assert isinstance(self.texts.apart, Blocks)
        return self.texts.apart

    @property
    def base(self) -> dict[str, float]:
        """The languages that have a share, with it."""
        return {tag: share for tag, share in self.mixed.shares.items() if share > 0}

    @property
    def watched(self) -> list[str]:
        """The languages that losses are told of: all that there is text of."""
        return self.apart.languages()

    @property
    def learns(self) -> str:
        """What learns: of a model all of whose matrices are quantized norms and biases are left."""
        learns, norms = self.settings.learns, TUNED[1]
        return norms if learns == TUNED[0] and not _loose(self.walk, self.codes) else learns

    @property
    def rate(self) -> float:
        """The learning rate that it begins with."""
        return self.settings.first_rate(self.learns)

    @property
    def lacking(self) -> bool:
        """Whether languages are drawn by what they lack."""
        return self.settings.mixture == LACKING

    @property
    def pruned(self) -> bool:
        """Whether zeros of the blocks stay."""
        return BLOCKS in self.opened.pruned

    @property
    def coded(self) -> list[str]:
        """The names of all linears that lie on a grid."""
        return [] if self.codes is None else self.codes.names()

    def coded_in(self, index: int) -> list[str]:
        """Those of a block, by their names in it."""
        start = f"{self.walk.name(index)}."
        return [name.removeprefix(start) for name in self.coded if name.startswith(start)]

    def check_alike(self) -> None:
        """Raise BadModel where blocks go one by one, and the dense ones are others."""
        if not self.settings.by_block:
            return
        widths = [
            int(each.model.config.get_text_config().hidden_size)
            for each in (self.opened, self.dense)
        ]
        if widths[0] != widths[1]:
            raise BadModel(
                f"{self.dense.name} is {widths[1]:,} wide and the model {widths[0]:,}, so no block "
                "can learn what its dense one gives. Use --repair logits, or give the dense model "
                "that it was made of with --against."
            )
        theirs = Walk(self.dense.model).blocks
        if _ends(self, self.walk.blocks) != _ends(self, theirs):
            raise BadModel(
                f"the blocks of {self.dense.name} are other ones than those of the model "
                f"({len(theirs)} and {len(self.walk.blocks)}), so none can learn what its dense "
                "one gives. Use --repair logits."
            )


def _check(opened: Opened, reader: Reader, settings: Settings, codes: CodesFolder | None) -> None:
    """Raise where a repair is not for such a model."""
    if settings.grids and codes is None:
        raise BadRun(
            f"nothing is quantized in {opened.name}, and --repair {settings.repair} changes "
            "integers: quantize first, or use --repair logits."
        )
    if settings.grids and codes is not None:
        modules = dict(opened.model.named_modules())
        if stacked := [name for name in codes.names() if name not in modules]:
            raise BadModel(
                f"{stacked[0]} is an expert in a stack, whose integers are not learnt here. Use "
                "--repair logits, which leaves them as they are."
            )
    needs = not settings.by_block or settings.mixture == LACKING
    if reader.answers != "tokens" and needs:
        raise BadModel(
            f"{type(opened.model).__name__} has no head that predicts tokens, so there is no loss "
            "to lower. Use --repair blocks, with a mixture that needs none."
        )


def _loose(walk: Walk, codes: CodesFolder | None) -> list[str]:
    """The linears of blocks that lie on no grid."""
    coded = set() if codes is None else set(codes.names())
    names = (walk.name(i, name) for i, block in enumerate(walk.blocks) for name in linears(block))
    return [name for name in names if name not in coded]


def _check_updates(walk: Walk, settings: Settings, codes: CodesFolder | None) -> None:
    """Raise where matrices that are asked to have updates of low rank can have none."""
    if settings.learns != LOW_RANK:
        return
    loose = _loose(walk, codes)
    if not loose:
        raise BadSetting(
            f"--tune {LOW_RANK} has no effect where all matrices are quantized. Use --tune norms, "
            "or --repair rounding."
        )
    modules = dict(walk.model.named_modules())
    if stacked := [name for name in loose if name not in modules]:
        raise BadSetting(
            f"{stacked[0]} is an expert in a stack, and --tune {LOW_RANK} has no updates for it. "
            "Use --tune weights or norms."
        )


def _ends(repair: Repair, blocks: Sequence[nn.Module]) -> list[object]:
    """What must be alike of blocks: their linears, and of what has integers their shapes too.

    Other shapes between the ends of a part, as of a shrunk MLP, are no hindrance.
    """
    return [
        [
            (name, *(weight(each).shape if repair.settings.grids else ()))
            for name, each in linears(block).items()
        ]
        for block in blocks
    ]
