"""Pico models and text to press them on, for tests of whole blocks and models."""

from dataclasses import replace

import pico
import torch

from babelpress.models.linears import linears, weight
from babelpress.models.sides import Source
from babelpress.models.walk import Walk
from babelpress.moments.gather import gather_dense
from babelpress.text.token_blocks import TokenBlocks

LENGTH = 11  # longer than the sliding windows of the pico models
PADDED = 4  # of the last block of each language
SHARES = {"eng_Latn": 0.6, "swh_Latn": 0.3, "hin_Deva": 0.1}
SIZES = {"eng_Latn": 5, "swh_Latn": 3, "hin_Deva": 2}


def text(junk=2, sizes=SIZES):
    """Blocks of three unequal languages that use different tokens, padded with `junk`."""
    found = {}
    for place, (language, size) in enumerate(sizes.items()):
        generator = torch.Generator().manual_seed(place)
        ids_BT = torch.randint(3 + 60 * place, 90 + 60 * place, (size, LENGTH), generator=generator)
        counted_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        counted_BT[-1, -PADDED:] = False
        ids_BT[-1, -PADDED:] = junk
        found[language] = TokenBlocks(language, ids_BT, counted_BT)
    return found


def pairs(junk=2, sizes=SIZES):
    """The same as both sides of pairs, the target one token shorter than the source."""
    return {tag: _pair(each) for tag, each in text(junk, sizes).items()}


def _pair(each):
    source = Source(each.ids_BT, each.counted_BT, each.counted_BT)
    return replace(
        each, ids_BT=each.ids_BT[:, :-1], counted_BT=each.counted_BT[:, 1:], source=source
    )


def text_of(walk, **options):
    """Text as a model reads it."""
    return (pairs if walk.model.config.is_encoder_decoder else text)(**options)


def loud(family="llama"):
    """A pico model whose blocks change what they pass on by much, as trained ones do."""
    model = pico.model(family)
    for module in all_linears(Walk(model)).values():
        weight(module).mul_(12)
    return model


def few(family="llama"):
    """Little text, but enough to reach every expert."""
    if family in pico.EXPERTS:
        return text()
    return (pairs if family in pico.ENCODER_DECODERS else text)(sizes=dict.fromkeys(SIZES, 1))


def dense_moments(walk, blocks=None, gram=True, **options):
    return dict(gather_dense(walk, blocks or text_of(walk), gram=gram, **options))


def held_against(moments):
    """The moments of all blocks, with what another text had of the same inputs: another order."""
    return {
        index: {
            site: {
                tag: replace(each, against_I=each.sumsq_I.flip(0) / max(1, each.n))
                for tag, each in seen.items()
            }
            for site, seen in of_block.items()
        }
        for index, of_block in moments.items()
    }


def all_linears(walk):
    return {
        (index, name): module
        for index, block in enumerate(walk.blocks)
        for name, module in linears(block).items()
    }


def weights_of(walk):
    return {place: weight(module).clone() for place, module in all_linears(walk).items()}


def tensors_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def flat(found):
    """Every tensor of moments of blocks, by block, site, language and name."""
    return {
        (index, site.name, language, name): tensor
        for index, of_block in found.items()
        for site, seen in of_block.items()
        for language, each in seen.items()
        for name, tensor in each.tensors().items()
    }
