"""The jobs that both checkouts do: a name and the words of the command line, and nothing else.

A job writes into the folder that has its name, so a word that is the name of a job means that job's
result, and the job is done after it. Models of tests/pico.py lie at ../models/FAMILY.

Where a new checkout names things differently: a word for a word in RENAMED, whole lines in `new`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

RENAMED: dict[str, str] = {}  # words of a command line: as the old checkout has it, as the new one
RECIPE = "../recipe.yaml"
RECIPE_TEXT = """\
calibration: {tokens: 1024, length: 256, languages: "en,sw,hi,th,yo"}
steps:
  - prune: {method: sparsegpt, pattern: "2of4"}
  - quantize: {method: gptq, bits: 4, group: 64}
"""
RECIPE_NEW = RECIPE_TEXT

MINI = "babel-mini"
TEXT = "--tokens 1024 --length 256 --languages en,sw,hi,th,yo"
SMALL = "--tokens 256 --length 64 --languages en,sw,hi"
SCORED = "--languages en,sw,hi,th,yo --documents 3"
PATTERNS = {
    "magnitude": ("0.5", "0.5/layer", "2of4"),
    "wanda": ("0.5", "0.5/128", "2of4"),
    "ria": ("2of4", "0.5", "0.5/layer"),
    "sparsegpt": ("0.5", "2of4", "0.5/128"),
    "random": ("0.5/layer", "0.5", "0.25"),
}
WAYS = {
    "dense": "--propagate dense",
    "compressed": "--propagate compressed",
    "minimax": "--propagate dense --mixture minimax",
}
FAMILIES = (
    *("llama", "qwen3", "gemma3", "mistral", "bloom", "xglm", "gpt2", "gpt_neox", "opt"),
    *("qwen3_moe", "mixtral"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """A command. `copy`: its folder begins as a copy of that job's; `code`: how it should end."""

    name: str
    words: tuple[str, ...]
    copy: str = ""
    code: int = 0
    new: tuple[str, ...] = ()

    def in_new(self) -> "Job":
        """As the new checkout is to be asked."""
        words = self.new or self.words
        return replace(self, words=tuple(RENAMED.get(word, word) for word in words))


def job(name: str, line: str, *, into: bool = True, copy: str = "", code: int = 0) -> Job:
    """A job of a line; `into`: it writes its folder."""
    words = (*line.split(), *(("--out", name) if into else ()))
    return Job(name, words, copy, code)


def jobs() -> list[Job]:
    """All, in an order in which they can be done."""
    return [*_made(), *_families(), *_exported(), *_judged()]


def _made() -> Iterator[Job]:
    """Moments, pruned and quantized runs of babel-mini."""
    yield job("calibrate", f"calibrate {MINI} {TEXT}")
    yield job("calibrate-gram", f"calibrate {MINI} {TEXT} --gram")
    for method, patterns in PATTERNS.items():
        for (way, words), pattern in zip(WAYS.items(), patterns, strict=True):
            line = f"prune {MINI} --method {method} --pattern {pattern} {words} {TEXT}"
            yield job(f"prune-{method}-{way}", line)
    four = f"quantize {MINI} --bits 4 --group 64 {TEXT}"
    for method in ("rtn", "gptq", "awq"):
        for way in ("dense", "compressed"):
            yield job(f"quantize-{method}-{way}", f"{four} --method {method} --propagate {way}")
    three = f"quantize {MINI} --bits 3 --asymmetric --group channel {TEXT}"
    yield job("quantize-asymmetric", f"{three} --method gptq")
    yield job("quantize-noclip", f"{four} --method rtn --clip none --asymmetric")
    yield job("quantize-embeddings", f"{four} --method gptq --embeddings 8bit")
    moments = "--moments calibrate-gram --mixture only:hi"
    yield job("prune-moments", f"prune {MINI} --method sparsegpt {moments}")
    yield job("quantize-moments", f"quantize {MINI} --method gptq --group 64 {moments}")
    yield job("prune-skip", f"prune {MINI} --method ria --skip *down* --option power=0.25 {TEXT}")
    yield job("offload", f"prune {MINI} --method sparsegpt --offload {TEXT}")
    yield job("press", f"press {MINI} {RECIPE}")
    yield job("chain", f"quantize prune-wanda-compressed --method awq --group 64 {TEXT}")


def _families() -> Iterator[Job]:
    """Every family of tests/pico.py."""
    for family in FAMILIES:
        model = f"../models/{family}"
        prune = f"prune {model} --method sparsegpt --pattern 0.25 {SMALL}"
        yield job(f"{family}-prune", f"{prune} --min-tokens 1")
        yield job(f"{family}-quantize", f"quantize {model} --method gptq --group 16 {SMALL}")


def _exported() -> Iterator[Job]:
    """Every format."""
    of_codes = "--format {} --moments calibrate-gram"
    for form in ("compressed-tensors", "gptq", "gguf", "safetensors"):
        yield job(f"export-{form}", f"export quantize-gptq-compressed --format {form}")
    for form in ("imatrix", "text"):
        yield job(f"export-{form}", "export quantize-gptq-dense " + of_codes.format(form))
    yield job("export-sparse", "export press --format compressed-tensors")
    yield job("export-three", "export quantize-asymmetric --format gptq")
    yield job("export-asymmetric", "export quantize-noclip --format compressed-tensors")
    yield job("export-embeddings", "export quantize-embeddings --format gguf")
    yield job("export-f16", f"export {MINI} --format gguf --option kind=f16")


def _judged() -> Iterator[Job]:
    """Scores, and what is said of them."""
    yield job("eval-dense", f"eval {MINI} {SCORED}")
    both = "--on bits_per_byte,range"
    quantized, pruned = "quantize-gptq-compressed", "prune-wanda-compressed"
    yield job("eval-quantized", f"eval eval-quantized {SCORED} {both}", into=False, copy=quantized)
    yield job("eval-pruned", f"eval eval-pruned {SCORED} {both}", into=False, copy=pruned)
    # Comparing notes its finding in the run, so it has a run of its own.
    told = "compare eval-dense eval-pruned compare"
    yield job("compare", told, into=False, copy="eval-quantized")
    against = "eval-pruned --against eval-dense"
    yield job("gate-fails", f"gate {against} --max-loss 0.0001", into=False, code=1)
    yield job("gate-passes", f"gate {against} --max-loss 9 --confident", into=False)
    yield job("languages", f"languages {MINI} --only en,sw,hi,th,yo", into=False)
    some = f"--languages en,sw,hi,th,yo --model {MINI}"
    for name, policy in (
        ("uniform", "uniform"),
        ("proportional", "proportional"),
        ("temperature", "temperature:3"),
        ("mbs", "mbs:64"),
    ):
        yield job(f"mixture-{name}", f"mixture {policy} {some}", into=False)


def chosen(words: Sequence[str]) -> list[Job]:
    """Jobs with one of these words in their names (all without any), and all that they need."""
    known = {each.name: each for each in jobs()}
    wanted = {name for name in known if not words or any(word in name for word in words)}
    return [each for name, each in known.items() if name in _with_needs(wanted, known)]


def _with_needs(names: Iterable[str], known: dict[str, Job]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needs = {known[name].copy, *known[name].words} & known.keys()
            # The first word is the command: `calibrate` and `press` are names of jobs as well.
            waiting += needs - ({known[name].words[0]} - set(known[name].words[1:]))
    return found
