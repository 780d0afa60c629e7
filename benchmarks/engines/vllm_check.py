"""Does vLLM load what we write, cut text as we do, and give the log-probabilities of transformers?

    python benchmarks/engines/vllm_check.py expect MODEL FILE --data TEXTS     where babelpress is
    ENV/bin/python benchmarks/engines/vllm_check.py check EXPORT FILE          where vLLM is

`expect` reads the first FLORES article of every language of a corpus folder with MODEL (a folder;
RUN/model of a run) in transformers, in float32 and in bfloat16, and writes token ids and the
log-probability of every token after the first. `check` reads the same in vLLM from EXPORT (what
`babelpress export` wrote of that run, or the same folder) in bfloat16 and prints, by language,
whether the text gives the same tokens, the mean log-probabilities, and how far single ones are
apart; beside it how far transformers in bfloat16 is from float32. It ends with 1 where tokens
differ, or where the mean distance is more than SLACK times that one. ENV: vllm-requirements.txt.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

# Packages are imported where they are used: no environment has both.

TOKENS = 96  # of every text, at most
SLACK = 3  # times the distance of transformers in bfloat16 from float32

Text = dict[str, Any]


def expect(model: str, file: Path, data: str) -> None:
    """Write texts, ids and log-probabilities by language."""
    from babelpress.models.open import open_model
    from babelpress.text.corpus import open_corpus

    corpus = open_corpus(f"{data}?src=flores")
    texts: dict[str, Text] = {}
    for dtype in ("float32", "bfloat16"):
        opened = open_model(model, dtype=dtype)
        encode: Any = opened.tokenizer
        for tag in corpus.languages():
            text = next(iter(corpus.documents(tag, "test"))).text
            ids = encode(text)["input_ids"][:TOKENS]
            found = texts.setdefault(tag, {"text": text, "ids": ids})
            found[dtype] = log_probabilities(opened.model, ids)
    file.write_text(json.dumps(texts), "utf-8")
    print(f"{len(texts)} languages, {sum(len(t['ids']) for t in texts.values())} tokens -> {file}")


def log_probabilities(model: Any, ids: list[int]) -> list[float]:
    """Of every token after the first, in nats."""
    import torch

    with torch.no_grad():
        ids_1T = torch.tensor([ids])
        logits_TV = model(input_ids=ids_1T).logits[0, :-1].float()
        chosen_T = logits_TV.log_softmax(-1).gather(1, ids_1T[0, 1:, None])[:, 0]
    return chosen_T.tolist()


def check(export: Path, file: Path) -> int:
    """A table by language; 1 where something does not agree."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    import vllm  # type: ignore[import-not-found]

    texts: dict[str, Text] = json.loads(file.read_text("utf-8"))
    engine = vllm.LLM(
        model=str(export), dtype="bfloat16", enforce_eager=True, max_model_len=2 * TOKENS
    )
    asked = vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    prompts: Any = [{"prompt_token_ids": each["ids"]} for each in texts.values()]
    answers = engine.generate(prompts, asked)
    tokenizer: Any = engine.get_tokenizer()
    print("| language | tokens | mean, transformers | vLLM | distance | of bfloat16 | most |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    wrong: list[str] = []
    for (tag, each), answer in zip(texts.items(), answers, strict=True):
        ids: list[int] = each["ids"]
        given: Any = answer.prompt_logprobs
        found = [given[t][ids[t]].logprob for t in range(1, len(ids))]
        same = tokenizer(each["text"])["input_ids"][:TOKENS] == ids
        far, known = apart(found, each["float32"]), apart(each["bfloat16"], each["float32"])
        means = [sum(values) / len(values) for values in (each["float32"], found)]
        cells = [f"{len(ids)}" if same else f"{len(ids)}, differ", *(f"{m:.3f}" for m in means)]
        cells += [f"{value:.4f}" for value in (sum(far) / len(far), sum(known) / len(known))]
        print(f"| {tag} | {' | '.join(cells)} | {max(far):.3f} |")
        if not same or not sum(far) <= SLACK * sum(known):  # NaN is not
            wrong.append(tag)
    print(f"\n{len(texts) - len(wrong)} of {len(texts)} languages agree. {', '.join(wrong)}")
    return 1 if wrong else 0


def apart(some: list[float], others: list[float]) -> list[float]:
    """Distances, one by one."""
    return [abs(one - other) for one, other in zip(some, others, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("expect")
    first.add_argument("model")
    first.add_argument("file", type=Path)
    first.add_argument("--data", required=True)
    second = commands.add_parser("check")
    second.add_argument("export", type=Path)
    second.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.command == "check":
        return check(given.export, given.file)
    expect(given.model, given.file, given.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
