"""GGUF for llama.cpp: model.gguf, weights and tokenizer in one file.

    kind=auto     quantized linears by their codes where GGUF holds them exactly, all else F16
    kind=codes    the same, and an error where the run holds no codes
    kind=f32, bf16 or f16    every matrix so
    kind=q8_0     every matrix Q8_0 (8 bits, a scale for 32 inputs), rounded anew
    kind=q4_k_m and most other types of llama-quantize    by llama.cpp's own quantizer

So a quantized run is carried over bit for bit: llama.cpp computes with (q − z)·scale of the very
integers that were found here (_gguf_blocks.py says as which type). Norms and biases are F32. The
tokenizer comes along; the name for the way of a byte-level BPE to cut words is found
(models/gguf_splits.py) or given by `pre`. Llama, Mistral, Qwen2, Qwen3 and Gemma 3 only.

llama.cpp's quantizer gets the weights as they are, in the dtype of the model, and weighs its errors
by an imatrix: the file `imatrix`, or the one that --moments and --mixture make.

Shapes: O outputs, I inputs of a linear.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from babelpress.errors import BadModel, BadRun
from babelpress.export import _gguf_metadata as metadata
from babelpress.export import _gguf_weights as weights
from babelpress.export import _llamacpp as engine
from babelpress.export import imatrix as importance
from babelpress.export._gguf_tokens import Vocabulary, vocabulary
from babelpress.export._gguf_weights import Part
from babelpress.export._source import Source
from babelpress.models import gguf_header, gguf_tokens, probes
from babelpress.models import gguf_package as ggufs
from babelpress.models.gguf_names import layout
from babelpress.models.gguf_splits import cuts_marks
from babelpress.models.open import Opened
from babelpress.models.tokenizers import encode

KINDS = ("auto", "codes", "f32", "bf16", "f16", "q8_0")
ONLY_WITH = {
    "imatrix": {
        "kind": (
            "q4_k_m", "q2_k", "q2_k_s", "q3_k_s", "q3_k_m", "q3_k_l", "q4_0", "q4_1", "q4_k_s",
            "q5_0", "q5_1", "q5_k_s", "q5_k_m", "q6_k", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs",
            "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs", "iq3_s", "iq3_m", "iq4_nl", "iq4_xs",
        )
    }
}  # fmt: skip
WEIGHS = True
FILE, WHOLE = "model.gguf", "whole.gguf"
SERVES = {"llama.cpp": "llama-server -m {folder}/model.gguf"}


def write(
    source: Source, folder: Path, *, kind: str = "auto", pre: str = "", imatrix: str = ""
) -> list[str]:
    """Write model.gguf. Raises BadModel for a model or tokenizer that llama.cpp has no place for.

    Raises BadSetting for an unknown kind or an imatrix that is not read or of another model, BadRun
    where codes are wanted and none are there or llama.cpp gives up, NotFinite for a weight that F16
    cannot hold, MissingPackage without the gguf package or, where it is needed, llama.cpp's
    quantizer.
    """
    ggufs.package()
    kind = kind.lower()
    engine.check(kind, KINDS, imatrix, moments=source.moments is not None)
    if kind == "codes" and source.codes is None:
        raise BadRun(f"{source.name} holds no codes: quantize it, or give --type f16.")
    if kind not in engine.TYPES:
        words, parts = _write(source, folder / FILE, kind, pre, {})
        return [*_lines(source, parts, words), *_same_tokens(source, folder), *_left_out(source)]
    try:
        about, weighed, used = _importance(source, folder, imatrix)
        words, _ = _write(source, folder / WHOLE, weights.exact(source), pre, about)
        threads = torch.get_num_threads()
        engine.quantize(
            folder / WHOLE, folder / FILE, kind, weighed, threads, progress=source.progress
        )
    finally:
        for each in (folder / WHOLE, folder / importance.FILE):
            each.unlink(missing_ok=True)
    told = [*_quantized(folder / FILE, kind), *_lost(source, ()), *used]
    told += _of_tokens(source, words)
    return [*told, *_same_tokens(source, folder), *_left_out(source)]


def check(opened: Opened) -> None:
    """Raise BadModel for a model or tokenizer that llama.cpp has no place for."""
    vocabulary(opened.tokenizer, layout(opened.model).rows, "")


def _importance(
    source: Source, folder: Path, given: str
) -> tuple[dict[str, Any], Path | None, list[str]]:
    """What the file is to say of the imatrix, where it lies, and lines on it."""
    if source.moments is not None:
        _, *datasets = importance.write(source, folder)
        path, name = folder / importance.FILE, "; ".join(datasets)
    elif given:
        path = Path(given)
        name = "; ".join([path.name, *engine.datasets(path)])
    else:
        return {}, None, []
    means, model = engine.means(path), source.opened.model
    inputs = weights.inputs(model, layout(model))
    fitting = engine.check_fits(path, means, inputs)
    about = {"quantize.imatrix.dataset": name, "quantize.imatrix.entries_count": len(means)}
    line = (
        f"rounding errors are weighed by an imatrix of {fitting} of {len(inputs)} matrices in "
        "blocks"
    )
    return about, path, [line]


def _write(
    source: Source, path: Path, kind: str, pre: str, about: Mapping[str, Any]
) -> tuple[Vocabulary, list[Part]]:
    gguf, model = ggufs.package(), source.opened.model
    found = layout(model)
    factors = metadata.factors(model)
    words = vocabulary(source.opened.tokenizer, found.rows, pre)
    parts = weights.parts(source, found, kind)
    with closing(gguf.GGUFWriter(path, found.architecture)) as writer:
        metadata.write(writer, source, found, weights.file_type(gguf, parts))
        for key, value in about.items():
            (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
        words.write(writer)
        if factors is not None:
            name = metadata.FACTORS
            writer.add_tensor_info(name, factors.shape, factors.dtype, factors.nbytes)
        for part in parts:
            weights.announce(gguf, writer, part)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for tensor in weights.tensors(source, parts):
            writer.write_tensor_data(tensor)
    return words, parts


# ---- what to tell --------------------------------------------------------------------------


def _lines(source: Source, parts: list[Part], words: Vocabulary) -> list[str]:
    kinds = Counter(part.kind for part in parts if len(part.shape) == 2)
    lines = [_matrices(kinds)]
    coded = [part.parameter.removesuffix(".weight") for part in parts if part.coded]
    if coded:
        lines.append(f"the codes of {len(coded)} linears are carried over exactly")
    lines += _lost(source, coded)
    tokenizer, *more = _of_tokens(source, words)
    return [lines[0], tokenizer, *lines[1:], *more]


def _lost(source: Source, coded: Sequence[str]) -> list[str]:
    """A line on the linears whose codes are not those of the file."""
    if source.codes is None or not (rounded := set(source.codes.names()) - set(coded)):
        return []
    return [f"not carried over by their codes: {len(rounded)} linears, {min(rounded)} first"]


def _matrices(kinds: Mapping[str, int]) -> str:
    ordered = sorted(kinds.items(), key=lambda each: -each[1])
    return f"matrices: {', '.join(f'{count} {kind}' for kind, count in ordered)}"


def _quantized(path: Path, kind: str) -> list[str]:
    """What llama.cpp made of the matrices, and which of them could not have the type."""
    header = gguf_header.read(path)
    counted: Counter[str] = Counter()
    for each in header.kinds.values():
        counted.update(each)
    lines = [_matrices(counted)]
    matrices = [each for each in header.tensors.values() if len(each.shape) == 2]
    odd = [each for each in matrices if each.shape[1] % engine.BLOCK]
    if odd and ("_k" in kind or (kind.startswith("iq") and kind != "iq4_nl")):
        instead = ", ".join(sorted({each.kind.name for each in odd}))
        lines.append(
            f"{len(odd)} matrices have inputs that {engine.BLOCK} does not divide: llama.cpp gives "
            f"them {instead}"
        )
    return lines


def _of_tokens(source: Source, words: Vocabulary) -> list[str]:
    how = {
        gguf_tokens.BYTE_LEVEL: f"byte-level BPE, pre-tokenizer {words.pre}",
        gguf_tokens.PIECES: f"SentencePiece BPE, {'a' if words.space_before else 'no'} space "
        "before a text",
    }
    lines = [f"tokenizer: {how[words.kind]}"]
    if cuts_marks(words.pre):
        lines.append(
            f"under {words.pre} llama.cpp cuts words at combining marks: it reads Indic scripts, "
            "Thai, Yoruba and others as other tokens than the model learnt"
        )
    if words.left_out:
        lines.append(f"tokens without an embedding are left out: {', '.join(words.left_out)}")
    if words.around:
        lines.append(
            f"llama.cpp puts BOS and EOS around a text and nothing else: {' '.join(words.around)} "
            "of the tokenizer is left out"
        )
    if words.normalizer is not None:
        lines.append(f"llama.cpp leaves out what the tokenizer does first ({words.normalizer})")
    config = source.opened.model.config.get_text_config()
    if (context := metadata.context(config)) < config.max_position_embeddings:
        lines.append(f"context length {context}: llama.cpp has no sliding window here")
    return lines


def _same_tokens(source: Source, folder: Path) -> list[str]:
    """A line where text is read as other tokens from the file than by the tokenizer.

    Under a name given by `pre` that is not known here nothing can be told, which is said.
    """
    header = gguf_header.read(folder / FILE)
    try:
        made = gguf_tokens.tokenizer(header)
    except BadModel as error:
        why = str(error).replace(str(folder / FILE), FILE)
        return [f"not checked: whether the file reads text as the tokenizer does, for {why}"]
    texts = list(probes.texts())
    pairs = zip(
        texts,
        encode(source.opened.tokenizer, texts)["input_ids"],
        encode(made, texts)["input_ids"],
        strict=True,
    )
    other = [text for text, ours, theirs in pairs if ours != theirs]
    if not other:
        return []
    return [
        f"{len(other)} of {len(texts)} texts of all scripts are read as other tokens from the "
        f"file, {other[0][:20]!r} first"
    ]


def _left_out(source: Source) -> list[str]:
    """A line on the tensors that the class does not know: llama.cpp has no place for them."""
    names = [each.name for each in source.opened.carried]
    if not names:
        return []
    which = f"{names[0]} first" if len(names) > 1 else names[0]
    return [f"left out, for the model's class does not know it: {len(names)} tensors, {which}"]
