"""The part of llamacpp.py that runs where llama.cpp is: `python llamacpp_inside.py JOB.json`.

A job names what to do and its files; there is no babelpress and no torch here. One thread, so that
jobs can run beside others. Keys and values are kept in float32: what is measured are the weights.

Shapes: N sequences, T positions, V vocabulary, D documents.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import gguf
import llama_cpp  # pyright: ignore[reportMissingImports]
import numpy as np

F32 = 0  # ggml's number for it
TYPES = {
    "F32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "Q2_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q2_K,
    "Q3_K_S": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_S,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "IQ2_XS": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ2_XS,
}


@llama_cpp.llama_log_callback
def quiet(level, text, _):
    """Errors are shown (level 4 and what continues one is), the rest is not."""
    if level == 4:
        sys.stderr.write(text.decode(errors="replace"))


class Engine:
    """A loaded model; sequences are run one at a time from an empty memory."""

    def __init__(self, path: str, *, vocabulary_only: bool = False, length: int = 0):
        settings = llama_cpp.llama_model_default_params()
        settings.vocab_only = vocabulary_only
        # AMX among them: a built-in AMX kernel faults where the system does not grant its tiles
        settings.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), settings)
        assert self.model, f"llama.cpp cannot load {path}"
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        if length:
            wanted = llama_cpp.llama_context_default_params()
            wanted.n_ctx = wanted.n_batch = wanted.n_ubatch = length
            wanted.n_threads = wanted.n_threads_batch = 1
            wanted.type_k = wanted.type_v = F32
            wanted.flash_attn_type = 0
            self.context = llama_cpp.llama_init_from_model(self.model, wanted)
            assert self.context, "llama.cpp cannot make a context"
            self.batch = llama_cpp.llama_batch_init(length, 0, 1)

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text; what looks like a special token is text."""
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self.vocabulary, data, len(data), room, len(room), False, False
        )
        return list(room[:count])

    def logits(self, ids_T: np.ndarray, first: int) -> np.ndarray:
        """Logits (T − first, V) at the positions from `first` on."""
        batch = self.batch
        batch.n_tokens = len(ids_T)
        for place, token in enumerate(ids_T):
            batch.token[place] = int(token)
            batch.pos[place] = place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = int(place >= first)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        assert llama_cpp.llama_decode(self.context, batch) == 0, "llama.cpp cannot run this"
        found = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(found, (len(ids_T) - first, self.size)).copy()


def tokenize(job: dict) -> dict:
    """How many texts of each language get the ids that they should."""
    engine = Engine(job["model"], vocabulary_only=True)
    expected = json.loads(Path(job["texts"]).read_text())
    start, tokens, equal = time.monotonic(), 0, {}
    for tag, rows in expected.items():
        equal[tag] = 0
        for text, ids in rows:
            found = engine.tokenize(text)
            tokens += len(found)
            equal[tag] += found == ids
    texts = {tag: len(rows) for tag, rows in expected.items()}
    seconds = time.monotonic() - start
    return {"equal": equal, "texts": texts, "tokens_per_second": tokens / seconds}


def logits(job: dict) -> dict:
    """How far logits are from those in a file, and how often the likeliest token is the same."""
    expected = np.load(job["expected"])
    ids_NT, wanted_NTV = expected["ids"], expected["logits"]
    engine = Engine(job["model"], length=ids_NT.shape[1])
    worst = total = 0.0
    same = 0
    for ids_T, wanted_TV in zip(ids_NT, wanted_NTV, strict=True):
        found_TV = engine.logits(ids_T, 0)
        distance_TV = np.abs(found_TV - wanted_TV)
        worst, total = max(worst, float(distance_TV.max())), total + float(distance_TV.mean())
        same += int((found_TV.argmax(1) == wanted_TV.argmax(1)).sum())
    return {
        "max": worst,
        "mean": total / len(ids_NT),
        "greedy": same / ids_NT.size,
    }


def quantize(job: dict) -> dict:
    """Quantize with llama.cpp's own function, with or without an imatrix file."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.nthread = 1
    settings.ftype = TYPES[job["type"]]
    settings.allow_requantize = job["type"] == "F32"  # nothing is lost by that
    entries = []
    if job["imatrix"]:
        entries = read_imatrix(job["imatrix"])
        Row = llama_cpp.llama_model_imatrix_data
        rows = [
            Row(name.encode(), mean_I.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), mean_I.size)
            for name, mean_I in entries
        ]
        settings.imatrix = (Row * (len(rows) + 1))(*rows, Row(None, None, 0))
    start = time.monotonic()
    failed = llama_cpp.llama_model_quantize(
        job["model"].encode(), job["out"].encode(), ctypes.byref(settings)
    )
    assert failed == 0, f"llama_model_quantize gave {failed}"
    size = Path(job["out"]).stat().st_size
    return {"entries": len(entries), "bytes": size, "seconds": time.monotonic() - start}


def read_imatrix(path: str) -> list[tuple[str, np.ndarray]]:
    """Mean squared inputs by tensor name, as llama-quantize makes them of the file."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    return [
        (name, np.ascontiguousarray(tensors[f"{name}.in_sum2"] / tensors[f"{name}.counts"])[0])
        for name in names
    ]


def score(job: dict) -> dict:
    """Nats of every document: the last tokens of its windows, as their context predicts them."""
    found = np.load(job["windows"])
    ends, ids, scored, document = (found[name] for name in ("ends", "ids", "scored", "document"))
    pieces = np.split(ids, ends[:-1])
    engine = Engine(job["model"], length=max(map(len, pieces)) - 1)
    nats_D = np.zeros(int(document.max()) + 1)
    start, tokens = time.monotonic(), 0
    for piece_T, count, place in zip(pieces, scored, document, strict=True):
        first = len(piece_T) - 1 - count
        logits_NV = engine.logits(piece_T[:-1], first)
        top_N1 = logits_NV.max(1, keepdims=True)
        log_sum_N = np.log(np.exp(logits_NV - top_N1).sum(1, dtype=np.float64)) + top_N1[:, 0]
        target_N = logits_NV[np.arange(count), piece_T[first + 1 :]]
        nats_D[place] += float((log_sum_N - target_N).sum())
        tokens += len(piece_T) - 1
    np.save(job["out"], nats_D)
    seconds = time.monotonic() - start
    return {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}


def logprobs(job: dict) -> dict:
    """Of one text a language: log-probabilities of each next token, and the likeliest ones."""
    ids = json.loads(Path(job["ids"]).read_text())
    engine = Engine(job["model"], length=max(map(len, ids.values())))
    found, tokens, seconds = {}, 0, 0.0
    for tag, ids_T in ids.items():
        start = time.monotonic()
        logits_TV = engine.logits(np.array(ids_T[:-1]), 0).astype(np.float64)
        seconds += time.monotonic() - start
        tokens += len(logits_TV)
        top_T = logits_TV.max(1)
        log_sum_T = np.log(np.exp(logits_TV - top_T[:, None]).sum(1)) + top_T
        found[f"{tag}.log"] = logits_TV[np.arange(len(logits_TV)), ids_T[1:]] - log_sum_T
        found[f"{tag}.best"] = logits_TV.argmax(1)
    np.savez(job["out"], **found)
    return {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}


def main() -> None:
    llama_cpp.llama_log_set(quiet, None)
    llama_cpp.llama_backend_init()
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    does = {
        "tokenize": tokenize,
        "logits": logits,
        "logprobs": logprobs,
        "quantize": quantize,
        "score": score,
    }
    result = does[job["do"]](job)
    path.with_suffix(".result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
