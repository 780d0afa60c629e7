"""Which models can be pressed, known from their config.json: before anything is opened.

A pressed model is a decoder, an encoder, or both together, whose weights are numbers: of integers
or eight-bit floats nothing can be pressed or calibrated again. Only scoring takes a quantized
model, where transformers can run it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from babelpress.errors import BadModel
from babelpress.models import gguf_config, gguf_header
from babelpress.models.gguf_header import is_gguf
from babelpress.models.headers import Entry, entries, files_of
from babelpress.models.names import resolve
from babelpress.system.files import read_json

CONFIG = "config.json"
# Types whose tokens see the text on both sides, unless the config says `is_decoder`: those that
# transformers has a class for masked words, or only classifiers, of.
ENCODERS = frozenset(
    [
        "albert",
        "bert",
        "bert-generation",
        "big_bird",
        "bros",
        "camembert",
        "canine",
        "convbert",
        "data2vec-text",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "ernie_m",
        "esm",
        "esmc",
        "eurobert",
        "flaubert",
        "fnet",
        "funnel",
        "gte",
        "ibert",
        "jina_embeddings_v3",
        "layoutlm",
        "layoutlmv2",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "megatron-bert",
        "mobilebert",
        "modernbert",
        "modernvbert",
        "mpnet",
        "mra",
        "neomme",
        "nezha",
        "nomic_bert",
        "nystromformer",
        "perceiver",
        "qdqbert",
        "reformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "squeezebert",
        "tapas",
        "ultrabert",
        "ultravbert",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
        "yoso",
    ]
)
# Types of an encoder with a decoder that reads it, of text on both sides.
ENCODER_DECODERS = frozenset(
    ["bart", "m2m_100", "marian", "mbart", "mt5", "pegasus", "plbart", "t5", "umt5"]
)
IN_WINDOWS = ("longformer",)  # whose blocks take only texts that whole windows fill
DECODES = ("is_decoder", "causal")  # what the config of such a type says where it is no encoder
WRITES = ("ForConditionalGeneration", "MTModel")  # what the class of both halves ends in
HALVES = ("EncoderModel", "ForTextEncoding")  # what the class of half a model ends in
CLASSIFIES = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForMultipleChoice",
    "ForQuestionAnswering",
    "ForNextSentencePrediction",
)
# What transformers opens an encoder with by the end of its class, and what a hub calls its task.
HEADS = {
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ForMultipleChoice": ("AutoModelForMultipleChoice", "multiple-choice"),
}
NO_HEAD = ("AutoModel", "feature-extraction")
DECODER = ("AutoModelForCausalLM", "text-generation")
ENCODER_DECODER = ("AutoModelForSeq2SeqLM", "text2text-generation")
# Where a config, or a file beside it, says that weights are quantized.
QUANTIZED_KEYS = ("quantization_config", "compression_config", "quantization")
QUANTIZED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
NEXT = (
    "Give a decoder, as Llama, Qwen, Gemma or BLOOM, an encoder, as XLM-R or BERT, or an "
    f"encoder-decoder of a type of {', '.join(sorted(ENCODER_DECODERS))}."
)


def peek(where: str, name: str = "", *, quantized: bool = False) -> None:
    """Raise BadModel for a folder that is none, or holds what is refused; nothing is opened.

    `name` is what a message calls it. Of a hub id nothing can be said here.
    """
    folder = Path(resolve(where))
    if is_gguf(folder):
        check_config(name or where, local_config(where))
    if folder.is_dir():
        config = read_json(folder / CONFIG, error=BadModel)
        beside = [each for each in QUANTIZED_FILES if (folder / each).exists()]
        check_config(name or where, config, beside, quantized=quantized)
        try:
            there = entries(files_of(folder))
        except BadModel as error:
            raise BadModel(f"{name or where} cannot be opened: {error}") from error
        check_entries(name or where, there, quantized=quantized)


def local_config(where: str) -> Any:
    """The config of a MODEL that is here, a GGUF file's as transformers has it; None of a hub id.

    Raises BadModel for one that is damaged or of a family that is not read.
    """
    place = Path(resolve(where))
    if is_gguf(place):
        return gguf_config.config(gguf_header.read(place))
    path = place / CONFIG
    return read_json(path, error=BadModel) if path.exists() else None


def check_config(
    name: str, config: Any, beside: Iterable[str] = (), *, quantized: bool = False
) -> None:
    """Raise BadModel for a config of half a model, a classifier or a quantized model.

    `beside` are files of the same folder that tell of quantized weights; `quantized` says whether
    such a model will do.
    """
    if not isinstance(config, dict):
        raise BadModel(f"the config.json of {name} is no mapping: get a whole copy of the model.")
    _check_kind(name, config)
    if not quantized and (how := _quantization(config, beside)):
        raise _quantized(name, how)


def check_entries(name: str, found: Iterable[Entry], *, quantized: bool = False) -> None:
    """Raise BadModel where a file holds weights in a type that only quantized models have."""
    if quantized:
        return
    for each in found:
        if each.dtype.startswith(("F8_", "F6_", "F4", "E8M0")):
            raise _quantized(name, f"{each.name} is {each.dtype}")


def check_encodes(name: str, config: Mapping[str, Any], what: str) -> None:
    """Raise BadModel for a model that is no encoder where only those can be written as `what`."""
    if not encodes(config):
        architecture = next(iter(config.get("architectures") or ()), "of no known class")
        raise BadModel(
            f"{name} is no encoder ({architecture}), and only encoders are written as {what}: use "
            "--format gguf or compressed-tensors for what writes text."
        )


def encodes(config: Mapping[str, Any]) -> bool:
    """Whether a config is of a type that sees the text on both sides, by what it says itself."""
    kind = str(config.get("model_type", ""))
    return kind in ENCODERS and not any(config.get(key) for key in DECODES)


def translates(config: Mapping[str, Any]) -> bool:
    """Whether a config is of an encoder with a decoder, by what it says itself."""
    kind = str(config.get("model_type", ""))
    # those that are never anything else say nothing
    return kind in ENCODER_DECODERS and config.get("is_encoder_decoder", True) is True


def decodes(config: Mapping[str, Any]) -> bool:
    """Whether a config is of a decoder alone, which programs that write text can serve."""
    return not (encodes(config) or translates(config))


def opened_as(config: Mapping[str, Any]) -> tuple[str, str]:
    """The class of transformers that opens a model, and what a hub calls its task."""
    if translates(config):
        return ENCODER_DECODER
    if not encodes(config):
        return DECODER
    name = next(iter(config.get("architectures") or ()), "")
    return next((found for end, found in HEADS.items() if name.endswith(end)), NO_HEAD)


def _check_kind(name: str, config: Mapping[str, Any]) -> None:
    """Raise BadModel for what cannot be walked block by block."""
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    called = architecture or str(config.get("model_type", ""))
    whole = translates(config) and (not architecture or architecture.endswith(WRITES))
    if architecture.endswith(HALVES) or (config.get("is_encoder_decoder") and not whole):
        raise BadModel(
            f"{name} is an encoder with a decoder of a type or a head that is not known here, or "
            f"half of one ({called}), and cannot be pressed or scored. {NEXT}"
        )
    if config.get("model_type") in IN_WINDOWS:
        raise BadModel(
            f"{name} cuts text into windows of its own ({called}), so its blocks cannot be run one "
            f"by one. {NEXT}"
        )
    if architecture.endswith(CLASSIFIES) and not encodes(config):
        raise BadModel(
            f"{name} is a classifier ({called}) made of a decoder: of those only what predicts the "
            f"next token can be pressed and scored. {NEXT}"
        )


def _quantization(config: Mapping[str, Any], beside: Iterable[str]) -> str:
    """How a config says that weights are quantized; nothing where it does not."""
    parts = [config, *(each for each in config.values() if isinstance(each, dict))]
    for part in parts:
        for key in QUANTIZED_KEYS:
            if found := part.get(key):
                method = found.get("quant_method") if isinstance(found, dict) else None
                return str(method or f"{key} in its config")
    return next(iter(beside), "")


def _quantized(name: str, how: str) -> BadModel:
    return BadModel(
        f"{name} is quantized already ({how}), and quantized weights can be scored, but neither "
        "pressed nor calibrated nor exported again. Give the model that it was made of, in "
        "bfloat16, float16 or float32."
    )
