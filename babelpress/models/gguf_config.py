"""The config of a GGUF file as transformers has it, and what is refused because it has no place.

transformers makes a config of a GGUF file too, but leaves out what it has no name for: sizes of
heads (Qwen 3), biases, how positions are scaled, which blocks of Gemma 3 see a window. A file must
not open as another model than llama.cpp runs, so all of it is read here, and what is not known is
an error.

Read without torch.

Tested in tests/models/test_gguf_config.py.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from babelpress.errors import BadModel
from babelpress.models.gguf_header import AGAIN, FLOATS, Header

if TYPE_CHECKING:
    import numpy as np

# Architectures of llama.cpp that are read, with what transformers calls config and class.
FAMILIES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
}
SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
FRACTIONS = ("attention.layer_norm_rms_epsilon", "rope.freq_base")
IDS = {
    "tokenizer.ggml.bos_token_id": "bos_token_id",
    "tokenizer.ggml.eos_token_id": "eos_token_id",
    "tokenizer.ggml.padding_token_id": "pad_token_id",
}
EMBEDDING, HEAD, FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"
WIDE = ("float64", "float32")  # which hold all that a file has in F32
BASE = 10000.0  # of rotary positions, where a file does not say
# Gemma 3 in llama.cpp: one block of so many sees all of a text, the others turn by this base, and
# only the model with so many blocks divides scores by hidden numbers for a head.
PATTERN, LOCAL_BASE, LARGE = 6, 10000.0, 62
# Llama 3.1 and later: a file holds what frequencies are divided by, and these are what made it.
LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
CLOSE = 1e-5  # of factors in float32, relative
RAISED = ("gemma3",)  # architectures whose files hold norms with one added


def config(header: Header) -> dict[str, Any]:
    """The config, with the class and the dtype that weights have.

    Raises BadModel for an architecture, or a setting of it, that cannot be read.
    """
    architecture = header.architecture
    if architecture not in FAMILIES:
        raise BadModel(
            f"{header.path} is of the architecture {architecture}, whose GGUF files are not read "
            f"here: {', '.join(FAMILIES)} are. Give its safetensors folder."
        )
    kind, named = FAMILIES[architecture]
    found: dict[str, Any] = {ours: _needed(header, key) for key, ours in SIZES.items()}
    heads, rows = found["num_attention_heads"], _rows(header)
    found |= {
        "model_type": kind,
        "architectures": [named],
        "dtype": dtype(header),
        "num_key_value_heads": _number(header, "attention.head_count_kv", heads),
        "head_dim": _number(header, "attention.key_length", found["hidden_size"] // heads),
        "vocab_size": rows,
        "tie_word_embeddings": HEAD not in header.tensors,
        **{ours: _id(header, key, rows) for key, ours in IDS.items()},
    }
    _check(header, found)
    return {**found, **_of_family(header, found)}


def dtype(header: Header) -> str:
    """What weights are kept in: the float of all matrices, where it holds norms and biases too.

    Else float32: a grid's are products of integers and scales, which no narrower float holds.
    """
    kinds = {each.kind.name for each in header.tensors.values() if len(each.shape) > 1}
    if len(kinds) != 1 or not kinds <= set(FLOATS):
        return "float32"
    found = FLOATS[kinds.pop()]
    if found in WIDE:
        return found
    for name, each in header.tensors.items():
        if len(each.shape) == 1 and name != FACTORS and not _survives(header, name, found):
            return "float32"
    return found


def raised(architecture: str, name: str) -> bool:
    """Whether a file holds a tensor with one added; its name there or here will do."""
    return architecture in RAISED and name.endswith("norm.weight")


def _survives(header: Header, name: str, dtype: str) -> bool:
    """Whether a norm or bias in a file is what it was after it was kept in a narrower float.

    One that holds one more is, where adding one gives it back.
    """
    import numpy as np

    kind = header.tensors[name].kind.name
    if FLOATS.get(kind) == dtype:
        return True
    if kind != "F32":
        return False
    told = np.array(header.floats(name), dtype=np.float32)
    more = np.float32(raised(header.architecture, name))
    with np.errstate(over="ignore"):
        return bool(np.array_equal(_narrowed(told - more, dtype) + more, told))


def _narrowed(values: "np.ndarray", dtype: str) -> "np.ndarray":
    """float32 as float16 or bfloat16 has it, rounded to the nearest, of two to the even one."""
    import numpy as np

    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    bits = values.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def _needed(header: Header, key: str) -> Any:
    found = header.own(key)
    if found is None or isinstance(found, list):
        what = "differs from block to block" if isinstance(found, list) else "is missing"
        raise BadModel(
            f"{header.path}: {header.architecture}.{key} {what}, and without one number for it the "
            "model cannot be opened. Give its safetensors folder."
        )
    return _number(header, key)


def _number(header: Header, key: str, default: Any = None) -> Any:
    """A number, or a list of them by block: whole ones, unless FRACTIONS has the key.

    Raises BadModel for anything else, and for what is not above 0.
    """
    found = header.own(key, default)
    kinds, which = ((int, float), "a") if key in FRACTIONS else ((int,), "a whole")
    for each in found if isinstance(found, list) else [found]:
        if isinstance(each, bool) or not isinstance(each, kinds) or not each > 0:
            raise BadModel(
                f"{header.path}: {header.architecture}.{key} is {each!r}, and has to be {which} "
                f"number above 0. {AGAIN}"
            )
    return found


def _id(header: Header, key: str, rows: int) -> int | None:
    found = header.metadata.get(key)
    if found is not None and not (isinstance(found, int) and 0 <= found < rows):
        raise BadModel(
            f"{header.path}: {key} is {found!r}, and the model has {rows} embeddings. {AGAIN}"
        )
    return found


def _rows(header: Header) -> int:
    if EMBEDDING not in header.tensors:
        raise BadModel(f"{header.path} has no {EMBEDDING}: it holds no whole model.")
    return header.tensors[EMBEDDING].shape[0]


def _check(header: Header, found: Mapping[str, Any]) -> None:
    """Raise BadModel for what llama.cpp would compute and the class here would not."""
    head = found["head_dim"]
    turned = header.own("rope.dimension_count", head)
    values = header.own("attention.value_length", head)
    experts = header.own("expert_count", 0)
    for what, wrong in {
        f"heads of {head} of which {turned} turn": turned != head,
        f"heads of {head} with values of {values}": values != head,
        f"{experts} experts": bool(experts),
        "different key-value heads by block": isinstance(found["num_key_value_heads"], list),
        "attention that sees text on both sides (attention.causal)": not header.own(
            "attention.causal", True
        ),
    }.items():
        if wrong:
            raise BadModel(
                f"{header.path} has {what}, which is not read from GGUF here. Give its safetensors "
                "folder."
            )


# ---- families ------------------------------------------------------------------------------


def _of_family(header: Header, found: Mapping[str, Any]) -> dict[str, Any]:
    if header.architecture == "gemma3":
        return _gemma(header, found)
    own: dict[str, Any] = {"rope_parameters": _rotation(header, found)}
    if header.architecture == "llama":
        own["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
        own["mlp_bias"] = "blk.0.ffn_gate.bias" in header.tensors
    return own


def _gemma(header: Header, found: Mapping[str, Any]) -> dict[str, Any]:
    blocks = found["num_hidden_layers"]
    windowed = windows(header.own("attention.sliding_window_pattern", PATTERN), blocks)
    window = header.own("attention.sliding_window", 0)
    if not window:
        windowed = [False] * blocks
    local = {"rope_type": "default", "rope_theta": header.own("rope.freq_base_swa", LOCAL_BASE)}
    return {
        "rope_parameters": {
            "full_attention": _rotation(header, found),
            "sliding_attention": local,
        },
        "layer_types": [
            "sliding_attention" if each else "full_attention" for each in windowed[:blocks]
        ],
        "sliding_window": window or found["max_position_embeddings"],
        "query_pre_attn_scalar": scores_by(found),
        "final_logit_softcapping": header.own("final_logit_softcapping") or None,
        "attn_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
        "use_bidirectional_attention": False,
        "attention_bias": False,
    }


def windows(pattern: int | Sequence[bool], blocks: int) -> list[bool]:
    """Whether each block sees a window only: all but the last of so many, where one number is
    given; 0 stands for every block.
    """
    if not isinstance(pattern, int):
        return [bool(each) for each in pattern]
    return [pattern == 0 or block % pattern < pattern - 1 for block in range(blocks)]


def scores_by(found: Mapping[str, Any]) -> int:
    """The number by whose root Gemma 3's scores of attention are divided in llama.cpp."""
    if found["num_hidden_layers"] == LARGE:
        return found["hidden_size"] // found["num_attention_heads"]
    return found["head_dim"]


# ---- positions -----------------------------------------------------------------------------


def _rotation(header: Header, found: Mapping[str, Any]) -> dict[str, Any]:
    """How positions turn: plainly, all slower by a factor, or as in Llama 3."""
    base = _number(header, "rope.freq_base", BASE)
    way = header.own("rope.scaling.type", "linear")  # what llama.cpp takes where none is said
    # llama.cpp reads a factor of 0 as 1, and has an older name for it
    factor = header.own("rope.scaling.factor", header.own("rope.scale_linear", 0.0)) or 1.0
    plain = {"rope_type": "default", "rope_theta": base}
    scaled = way == "linear" and factor != 1
    if way not in ("none", "linear") or (scaled and FACTORS in header.tensors):
        how = f"{way} and by {FACTORS}" if scaled else way
        raise BadModel(
            f"{header.path} scales its rotary positions by {how}, which is not read from GGUF "
            "here: none, linear and those of Llama 3 are. Give its safetensors folder."
        )
    if FACTORS in header.tensors:
        return {**plain, **_llama3(header, base, found["head_dim"])}
    return {**plain, "rope_type": "linear", "factor": factor} if scaled else plain


def _llama3(header: Header, base: float, head: int) -> dict[str, Any]:
    """The settings that make the factors of a file. Raises BadModel where the usual do not."""
    told = header.floats(FACTORS)
    asked = {**LLAMA3, "factor": max(told)}
    made = factors(asked, base, head)
    if len(told) != len(made) or any(
        abs(one - other) > CLOSE * other for one, other in zip(told, made, strict=True)
    ):
        raise BadModel(
            f"{header.path} divides its rotary frequencies by factors ({FACTORS}) that are not "
            "those of Llama 3.1 and later, so its config cannot be told. Give its safetensors "
            "folder."
        )
    return {"rope_type": "llama3", **asked}


def factors(asked: Mapping[str, Any], base: float, head: int) -> list[float]:
    """What each frequency of a head is divided by in Llama 3.1 (its wavelength decides)."""
    context = asked["original_max_position_embeddings"]
    low, high, factor = asked["low_freq_factor"], asked["high_freq_factor"], asked["factor"]
    made = []
    for place in range(0, head, 2):
        turns = context * base ** (-place / head) / (2 * math.pi)  # in the context that it learnt
        share = min(1.0, max(0.0, (turns - low) / (high - low)))
        made.append(1 / ((1 - share) / factor + share))
    return made
