"""Commands that make something of a model: calibrate, prune, quantize, press."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from babelpress.commands import asked
from babelpress.commands import outcome as o
from babelpress.commands.outcome import Outcome, Progress, Row, Table, silent

COUNTS = ("blocks", "tokens", "characters", "bytes", "documents")
AUDITED = ("pieces", "script_share", "unknown_share")


def calibrate(
    model: str,
    *,
    out: Path,
    corpus: str = "embedded",
    languages: str = "",
    tokens: int = 16384,
    length: int = 2048,
    seed: int = 0,
    gram: bool = False,
    evaluation: str = "",
    count_special: bool = False,
    offload: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> Outcome:
    """Take moments of a model: what every layer sees in every language. Resumes when interrupted.

    Example: babelpress calibrate babel-mini --corpus embedded --gram --out moments

    Args:
        model: Hub id or folder, a run, or babel-mini.
        out: The moments folder; a half-written one of the same work is finished.
        corpus: embedded, self (the model writes it), a folder, or hub:ID[@revision].
        languages: Languages or groups; all of the corpus by default.
        tokens: Tokens per language; a language with less gives all it has and is named.
        length: Tokens in a block at most.
        seed: Which text is drawn.
        gram: Also keep Gram matrices, which sparsegpt needs.
        evaluation: Corpus that scores will be taken on, to be kept apart; the corpus itself if
            none is named.
        count_special: Let special tokens count in the moments.
        offload: Let what does not fit in memory lie in the folder; the result is the same.
        device: Where the model runs.

    Returns:
        language: canonical tag
        blocks: blocks of equal length
        tokens: tokens that counted
        characters: characters of the text
        bytes: UTF-8 bytes of the text
        documents: documents that the text came from
        pieces: pieces of documents that were drawn; null for text that the model wrote
        script_share: share of letters in the language's script; null for that text
        unknown_share: share of unknown tokens; null for that text
    """
    from babelpress import gathering
    from babelpress.opening import open_model

    wanted = asked.calibration(
        languages,
        evaluation,
        corpus=corpus,
        tokens=tokens,
        length=length,
        seed=seed,
        count_special=count_special,
    )
    opened = open_model(model, device=device)
    store = gathering.calibrate(opened, wanted, out, gram=gram, offload=offload, progress=progress)
    facts = store.manifest["calibration"]
    rows: list[Row] = [
        {
            "language": tag,
            **{key: each[key] for key in COUNTS},
            **{key: each.get(key) for key in AUDITED},
        }
        for tag, each in facts["languages"].items()
    ]
    columns = (o.tag(), o.name(), *(o.count(key, key) for key in ("tokens", "bytes", "documents")))
    found = [f"{finding['level']}: {finding['words']}" for finding in facts["findings"]]
    line = (
        f"babelpress prune {quote(model)} --moments {quote(str(out))} --mixture minimax --out run"
    )
    return Outcome(rows, out, (Table(columns, rows),), (*found, f"next: {line}"))


def prune(
    model: str,
    *,
    out: Path,
    method: str = "wanda",
    pattern: str = "0.5",
    mixture: str = "uniform",
    moments: Path | None = None,
    corpus: str = "embedded",
    languages: str = "",
    tokens: int = 16384,
    length: int = 2048,
    seed: int = 0,
    propagate: str = "",
    skip: str = "",
    option: Sequence[str] = (),
    min_tokens: int | None = None,
    evaluation: str = "",
    offload: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> Outcome:
    """Prune a model in one step. Kept zeros are exact; embeddings and head are left alone.

    Example: babelpress prune babel-mini --method wanda --pattern 0.5 --mixture minimax --out run

    Args:
        model: Hub id or folder, babel-mini, or a finished run: steps chain.
        out: The run folder.
        method: magnitude, wanda, ria, sparsegpt or random.
        pattern: 0.5 (of every row), 0.5/layer, 0.5/128 (of every 128 columns), 2of4 (keep 2).
        mixture: How languages are weighted; see `babelpress mixture --help`.
        moments: A moments folder of this model: nothing is read or run, propagate is dense.
        corpus: Calibration text where no moments are given.
        languages: Languages or groups; all of the corpus by default.
        tokens: Tokens per language.
        length: Tokens in a block at most.
        seed: Which text is drawn.
        propagate: dense or compressed: what each block is fed while pressing.
        skip: Sites or linears to leave dense, by name; * allowed; commas between.
        option: NAME=VALUE of the method, as in --option damp=0.05; may be repeated.
        min_tokens: Experts that saw fewer tokens stay as they are; by default the method decides.
        evaluation: Corpus that scores will be taken on, to be kept apart.
        offload: Let what does not fit in memory lie in the folder; the result is the same.
        device: Where the model runs.

    Returns:
        step: 1
        language: canonical tag
        share: weight of the language in the mixture
        predicted_damage: share of its layers' outputs that the language loses, mean over sites
    """
    from babelpress import recipe

    wanted = asked.calibration(
        languages, evaluation, corpus=corpus, tokens=tokens, length=length, seed=seed
    )
    step = {
        **asked.step(method, mixture, moments, propagate, skip, option, min_tokens),
        "pattern": pattern,
    }
    data = {"model": model, "calibration": wanted.model_dump(), "steps": [{"prune": step}]}
    return _press(recipe.of(data, where="the command line"), out, device, offload, progress)


def quantize(
    model: str,
    *,
    out: Path,
    method: str = "gptq",
    bits: int = 4,
    group: str = "128",
    asymmetric: bool = False,
    clip: str = "mse",
    keep_zeros: bool = True,
    embeddings: str = "dense",
    mixture: str = "uniform",
    moments: Path | None = None,
    corpus: str = "embedded",
    languages: str = "",
    tokens: int = 16384,
    length: int = 2048,
    seed: int = 0,
    propagate: str = "",
    skip: str = "",
    option: Sequence[str] = (),
    min_tokens: int | None = None,
    evaluation: str = "",
    offload: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> Outcome:
    """Quantize a model in one step. Of a pruned model every zero stays exactly zero.

    The run keeps integers, scales and zero points in codes/, which `babelpress export` packs, and
    in model/ the weights that they stand for.

    Example: babelpress quantize babel-mini --method gptq --bits 4 --group 64 --out run

    Args:
        model: Hub id or folder, babel-mini, or a finished run: steps chain.
        out: The run folder.
        method: rtn, gptq or awq.
        bits: 2, 3, 4 or 8 for a weight.
        group: How many inputs of a row share a scale, or channel for the whole row.
        asymmetric: Give every group a zero point of its own.
        clip: mse, the range of a group that has the least squared error, or none.
        keep_zeros: Leave weights that are zero exactly zero.
        embeddings: dense, or 8bit: embedding and head at eight bits too (export takes it to gguf).
        mixture: How languages are weighted; see `babelpress mixture --help`.
        moments: A moments folder of this model: nothing is read or run, propagate is dense.
        corpus: Calibration text where no moments are given.
        languages: Languages or groups; all of the corpus by default.
        tokens: Tokens per language.
        length: Tokens in a block at most.
        seed: Which text is drawn.
        propagate: dense or compressed: what each block is fed while pressing.
        skip: Sites or linears to leave dense, by name; * allowed; commas between.
        option: NAME=VALUE of the method, as in --option damp=0.05; may be repeated.
        min_tokens: Experts that saw fewer tokens stay as they are; by default the method decides.
        evaluation: Corpus that scores will be taken on, to be kept apart.
        offload: Let what does not fit in memory lie in the folder; the result is the same.
        device: Where the model runs.

    Returns:
        step: 1
        language: canonical tag
        share: weight of the language in the mixture
        predicted_damage: share of its layers' outputs that the language loses, mean over sites
    """
    from babelpress import recipe

    wanted = asked.calibration(
        languages, evaluation, corpus=corpus, tokens=tokens, length=length, seed=seed
    )
    step = {
        **asked.step(method, mixture, moments, propagate, skip, option, min_tokens),
        "bits": bits,
        "group": int(group) if group.isdecimal() else group,
        "symmetric": not asymmetric,
        "clip": clip,
        "keep_zeros": keep_zeros,
        "embeddings": embeddings,
    }
    data = {"model": model, "calibration": wanted.model_dump(), "steps": [{"quantize": step}]}
    return _press(recipe.of(data, where="the command line"), out, device, offload, progress)


def press(
    model: str,
    recipe_file: Path,
    *,
    out: Path,
    change: Annotated[Sequence[str], Parameter(name="--set")] = (),
    dry_run: bool = False,
    offload: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> Outcome:
    """Do a recipe: a chain of steps in YAML. Finished steps are not done again.

    Example: babelpress press babel-mini recipe.yaml --set steps.0.prune.pattern=2of4 --out run

    Args:
        model: Hub id or folder, babel-mini, or a finished run.
        recipe_file: The recipe.
        out: The run folder.
        change: PLACE=VALUE in the recipe, as in calibration.tokens=4096; may be repeated.
        dry_run: Say what would be done and what it would take, from trying the first block, and
            stop.
        offload: Let what does not fit in memory lie in the folder; the result is the same.
        device: Where the model runs.

    Returns:
        step: number of the step, from 1
        language: canonical tag
        share: weight of the language in the mixture; with --dry-run minimax shows its start
        predicted_damage: as of prune; null with --dry-run
    """
    from babelpress import recipe

    plan = recipe.load(recipe_file, model=model, changes=change)
    if dry_run:
        return _plan(plan, out, device, offload)
    return _press(plan, out, device, offload, progress)


def _press(plan: Any, out: Path, device: str, offload: bool, progress: Progress) -> Outcome:
    from babelpress import loads, run

    manifest = run.do(plan, out, device=device, offload=offload, progress=progress)
    rows: list[Row] = [
        {
            "step": number,
            "language": tag,
            "share": step["mixture"]["shares"].get(tag, 0.0),
            "predicted_damage": harm,
        }
        for number, step in enumerate(manifest["steps"], 1)
        for tag, harm in step["damage"].items()
    ]
    says = (
        _did(manifest["steps"][-1]),
        *loads.says(manifest["steps"][-1].get("experts")),
        *_size(manifest["ledger"]),
        f"next: babelpress eval {quote(str(out))}",
    )
    harm = (o.share("predicted_damage", "predicted damage"),)
    return Outcome(rows, out, _by_step(rows, harm), says)


def _did(step: Row) -> str:
    """One line about a finished step."""
    from babelpress.loads import some

    asked_for = step["step"]
    if step["kind"] == "prune":
        share = f"{step['zeros']:,} of {step['weights']:,} weights are zero."
        return f"{asked_for['method']} {asked_for['pattern']}: {share}"
    says = [f"{asked_for['method']} at {step['grid']}: {step['weights']:,} weights."]
    if step["were_zero"] and asked_for["keep_zeros"]:
        says.append(f"{step['were_zero']:,} pruned ones are still exactly zero.")
    if step["unfolded"]:
        says.append(f"Not scaled, for no layer before can: {some(step['unfolded'])}.")
    return " ".join(says)


def _size(ledger: Row) -> list[str]:
    """What the file would weigh packed, where that is less than dense."""
    if ledger["bytes_stored"] >= ledger["bytes_dense"]:
        return []
    dense, stored = (ledger[key] / 2**20 for key in ("bytes_dense", "bytes_stored"))
    parts = ", ".join(
        f"{part['part']} {100 * part['bytes_stored'] / ledger['bytes_stored']:.0f} %"
        for part in ledger["parts"]
    )
    return [
        f"packed {stored:.1f} MiB of {dense:.1f} dense, {ledger['bits_per_weight']:.2f} bits a "
        f"weight: {parts}."
    ]


def _plan(plan: Any, out: Path, device: str, offload: bool) -> Outcome:
    from babelpress import mixtures
    from babelpress.estimate import estimate

    rows: list[Row] = []
    says = []
    for number, step in enumerate(plan.steps, 1):
        now = step.work
        mixed = mixtures.mixture(now.mixture, _languages(plan, now), model=plan.model)
        rows += [
            {"step": number, "language": tag, "share": share, "predicted_damage": None}
            for tag, share in mixed.shares.items()
        ]
        source = now.moments or f"{plan.calibration.corpus}, {plan.calibration.tokens:,} tokens"
        says.append(
            f"step {number}: {now.method} {_how(now)}, {now.mixture}, on {source} in "
            f"{len(mixed.shares)} languages, propagate {now.propagate}"
        )
    near = next(parent for parent in out.absolute().parents if parent.exists())
    told = estimate(plan, device=device, offload=offload, near=near)
    for number, found in enumerate(told, 1):
        says.append(f"step {number}: {_cost(found)}")
    return Outcome(rows, out, _by_step(rows, ()), (*says, f"into {out}; nothing was done."))


def _cost(found: Any) -> str:
    """An estimate in a line, the longest phases named."""
    longest = sorted(found.phases.items(), key=lambda each: -each[1])[:3]
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest if seconds >= 1)
    memory, disk = found.memory_bytes / 2**30, found.disk_bytes / 2**30
    return (
        f"about {found.seconds:.0f} s{f' ({phases})' if phases else ''}, {memory:.2f} GiB of "
        f"memory, {disk:.2f} GiB of disk"
    )


def _how(step: Any) -> str:
    return step.pattern if "pattern" in type(step).model_fields else str(step.grid)


def _languages(plan: Any, step: Any) -> list[str]:
    """The languages that a step would see, without opening the model."""
    from babelpress.corpus import open_corpus
    from babelpress.gathering import SELF, languages_of
    from babelpress.store import Store

    if step.moments:
        return Store.open(Path(step.moments)).identity["languages"]
    corpus = "embedded" if plan.calibration.corpus == SELF else plan.calibration.corpus
    return languages_of(open_corpus(corpus), plan.calibration.languages)


def _by_step(rows: Sequence[Row], more: tuple[o.Column, ...]) -> tuple[Table, ...]:
    columns = (o.tag(), o.name(), o.share("share", "share"), *more)
    numbers = sorted({row["step"] for row in rows})
    return tuple(
        Table(
            columns,
            [row for row in rows if row["step"] == number],
            f"step {number}" if len(numbers) > 1 else "",
        )
        for number in numbers
    )
