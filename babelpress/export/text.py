"""The calibration text itself, for llama-imatrix -f and other programs that take one text file.

Such programs weigh every token alike, so tokens of a language must be in proportion to its share.
Blocks are taken whole: the language that has least text for its share gives all of its blocks, the
others floor(quota) of theirs, and what is left goes to the largest remainders (Hamilton's method).

    calibration.txt     a piece of text after the other, each ended by a newline
    calibration.json    corpus, hash, shares, and blocks and tokens of every language

Shapes: B blocks, T positions of a block.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.export._source import Source
from babelpress.models.open import Opened
from babelpress.runs.open import open_any
from babelpress.system.files import write_json, write_text
from babelpress.text.calibration import CalibrationSet
from babelpress.text.draw import draw
from babelpress.text.settings import SELF, TEXT
from babelpress.text.settings import CalibrationSettings as Asked
from babelpress.text.token_blocks import TokenBlocks

FILE, FACTS = "calibration.txt", "calibration.json"
WEIGHS = True
SERVES = {
    "llama.cpp": "llama-imatrix -m model-f16.gguf -f {folder}/calibration.txt -o imatrix.gguf"
}
CUT = "\ufffd"  # what half a character becomes


def write(source: Source, folder: Path) -> list[str]:
    """Write calibration.txt and calibration.json.

    The text is read again as the run (or the moments) did. Raises BadModel for an
    encoder-decoder, BadSetting where nothing says which text or which shares, BadCorpus where the
    text is not the same any more.
    """
    if source.opened.model.config.is_encoder_decoder:
        raise BadModel(
            f"{source.name} was calibrated on pairs of sentences, and other tools take text of one "
            "side alone. Give them the parallel corpus itself."
        )
    if source.shares is None:
        raise BadSetting("the format text needs shares of languages: give --mixture.")
    known = _known(source)
    found = _again(source, known)
    used = {tag: share for tag, share in source.shares.items() if share > 0}
    if unknown := sorted(set(used) - set(found.blocks)):
        raise BadCorpus(
            f"the mixture gives a share to {', '.join(unknown)}, of which there is no calibration "
            "text. Leave them out of the mixture."
        )
    chosen = apportion({tag: len(found.blocks[tag].ids_BT) for tag in used}, used)
    tokenizer = source.opened.tokenizer
    texts = {tag: _text(found.blocks[tag], n, tokenizer) for tag, n in chosen.items()}
    write_text(folder / FILE, "".join(texts.values()))
    rows = {
        tag: {
            "share": used[tag],
            "blocks": n,
            "tokens": int(found.blocks[tag].counted_BT[:n].sum()),
            "bytes": len(texts[tag].encode()),
        }
        for tag, n in chosen.items()
    }
    facts = {key: known[key] for key in ("corpus", "fingerprint", "seed", "length", "tokenizer")}
    write_json(folder / FACTS, {**facts, "languages": rows})
    return _lines(rows)


def apportion(blocks: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """Blocks of each language in proportion to the shares, as many as there are of all of them."""
    scale = min(blocks[tag] / share for tag, share in shares.items())
    quota = {tag: share * scale for tag, share in shares.items()}
    # what rounding took from a whole number is given back
    taken = {tag: math.floor(each + 1e-9) for tag, each in quota.items()}
    left = round(math.fsum(quota.values())) - sum(taken.values())
    for tag in sorted(quota, key=lambda each: (taken[each] - quota[each], each))[:left]:
        taken[tag] += 1
    return taken


def _known(source: Source) -> Mapping[str, Any]:
    """What is on record about the calibration text."""
    if source.moments is not None:
        return source.moments.manifest["calibration"]
    if source.manifest is not None:
        return source.manifest.calibration
    raise BadSetting("the format text needs a run, or --moments FOLDER: they know which text.")


def _again(source: Source, known: Mapping[str, Any]) -> CalibrationSet:
    """The blocks of that text. Raises BadCorpus where they are other ones now."""
    settings = {key: known[key] for key in TEXT if key in known}
    asked = Asked(languages=tuple(known["languages"]), **settings)
    found = draw(_writer(source, asked), asked)
    if found.manifest["fingerprint"] != known["fingerprint"]:
        raise BadCorpus(
            f"{asked.corpus} does not give the text any more that was calibrated on. Bring back "
            "the corpus of that time, or calibrate again."
        )
    return found


def _writer(source: Source, asked: Asked) -> Opened:
    """The model that reads the text; what a model wrote, the dense one must write again."""
    if asked.corpus != SELF or source.manifest is None:
        return source.opened
    dense = source.manifest.recipe["model"]
    return open_any(dense)


def _text(blocks: TokenBlocks, count: int, tokenizer: PreTrainedTokenizerBase) -> str:
    return "".join(
        f"{piece}\n"
        for ids_T, counted_T in zip(blocks.ids_BT[:count], blocks.counted_BT[:count], strict=True)
        for piece in _pieces(ids_T, counted_T, tokenizer)
    )


def _pieces(ids_T: Tensor, counted_T: Tensor, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text between marks; where a block cuts a character in half, that half is left out."""
    runs: list[list[int]] = [[]]
    for number, counted in zip(ids_T.tolist(), counted_T.tolist(), strict=True):
        if counted:
            runs[-1].append(number)
        elif runs[-1]:
            runs.append([])
    texts = (str(tokenizer.decode(run, skip_special_tokens=True)).strip(CUT) for run in runs)
    return [text for text in texts if text.strip()]


def _lines(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    total = sum(row["tokens"] for row in rows.values())
    absent = [tag for tag, row in rows.items() if not row["blocks"]]
    lines = [f"{total} tokens of {len(rows) - len(absent)} languages"]
    if absent:
        lines.append(f"shares too small for one block of text: {', '.join(absent)}")
    return lines
