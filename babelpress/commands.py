"""The public API: one function per command, same name, same options.

Every function gives an Outcome: rows of plain values (what `--json` prints) and where the result
lies. Help texts of the command line are these docstrings. Heavy packages are imported inside the
functions, so that `babelpress --help` answers at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from babelpress.errors import BadSetting

Progress = Annotated[Callable[[str, int, int], None], Parameter(parse=False)]
Words = Annotated[str, Parameter(allow_leading_hyphen=False)]


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command found: rows, the folder or file that it wrote, lines to say, exit code."""

    rows: list[dict[str, Any]]
    out: Path | None = None
    says: tuple[str, ...] = ()
    exit_code: int = 0
    columns: tuple[str, ...] = field(default=())


def languages(
    model: str,
    *,
    corpus: str = "embedded",
    only: str = "",
    bits: bool = True,
    device: str = "cpu",
) -> Outcome:
    """The languages of a model: training shares, tokenizer fertility, dense bits per byte.

    Example: babelpress languages babel-mini

    Args:
        model: Hub id or folder, a run, or babel-mini.
        corpus: Text to measure on: embedded, a folder, or hub:ID.
        only: Languages, by any name, or groups such as latin; all of the corpus by default.
        bits: Also measure bits per byte on the test split (a pass over that text).
        device: Where the model runs.
    """
    from babelpress import fertility, mixtures
    from babelpress.corpus import open_corpus
    from babelpress.evals import bits_per_byte
    from babelpress.gathering import fitting_length, languages_of
    from babelpress.models import open_model

    opened = open_model(model, device=device)
    text = open_corpus(corpus)
    tags = languages_of(text, _words(only))
    known = mixtures.distribution_of(opened.name)
    values = mixtures.distribution(known.distribution)
    total = sum(values.values.values())
    scores = {}
    if bits:
        documents = {tag: text.documents(tag, "test") for tag in tags}
        scores = bits_per_byte.measure(
            opened.model, opened.tokenizer, documents, window=fitting_length(opened, 1024)
        )
    rows = [
        {
            "language": tag,
            "share": values.values[tag] / total if tag in values.values else None,
            "disclosed": known.disclosed,
            **asdict(fertility.measure(opened.tokenizer, text.documents(tag, "test"))),
            "bits_per_byte": scores[tag].value if scores else None,
        }
        for tag in tags
    ]
    rows.sort(key=lambda row: -(row["share"] or 0))
    return Outcome(rows, says=(f"{known.words} (in {values.unit}, {values.stage}).",))


def mixture(
    policy: str,
    *,
    languages: str = "",
    corpus: str = "embedded",
    model: str = "",
    tokens: int = 16384,
) -> Outcome:
    """What a mixture policy gives: shares and tokens per language, before anything runs.

    Example: babelpress mixture mbs:256:bloom-roots --languages en,zh,fr,sw,yo

    Args:
        policy: english, only:LANG, uniform, proportional[:DIST], temperature:T[:DIST],
            mbs:N[:DIST], minimax, or a YAML of shares.
        languages: Languages or groups; those of the corpus by default.
        corpus: Where the languages come from if none are named.
        model: Whose training distribution is meant when the policy names none.
        tokens: Calibration tokens per language, as calibrate takes them.
    """
    from babelpress.corpus import open_corpus
    from babelpress.languages import select
    from babelpress.mixtures import mixture as build

    there = open_corpus(corpus).languages() if not languages else None
    tags = there if there is not None else select(_words(languages))
    mixed = build(policy, tags, model=model or None)
    rows = [
        {
            "language": tag,
            "share": share,
            "tokens": tokens if share > 0 else 0,
            "count": mixed.counts[tag] if mixed.counts else None,
        }
        for tag, share in mixed.shares.items()
    ]
    table = mixed.distribution or "no table"
    return Outcome(rows, says=(f"{mixed.policy}: {table}, {mixed.unit}. {mixed.note}",))


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
    device: str = "cpu",
    progress: Progress = _silent,
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
        device: Where the model runs.
    """
    from babelpress import gathering
    from babelpress.models import open_model

    asked = _calibration(
        corpus=corpus,
        languages=languages,
        tokens=tokens,
        length=length,
        seed=seed,
        evaluation=evaluation,
        count_special=count_special,
    )
    store = gathering.calibrate(
        open_model(model, device=device), asked, out, gram=gram, progress=progress
    )
    facts = store.manifest["calibration"]
    rows = [{"language": tag, **row} for tag, row in facts["languages"].items()]
    found = [f"{finding['level']}: {finding['words']}" for finding in facts["findings"]]
    return Outcome(rows, out, tuple(found), columns=("language", "tokens", "bytes", "documents"))


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
    evaluation: str = "",
    device: str = "cpu",
    progress: Progress = _silent,
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
        evaluation: Corpus that scores will be taken on, to be kept apart.
        device: Where the model runs.
    """
    from babelpress import recipe

    asked = _calibration(
        corpus=corpus,
        languages=languages,
        tokens=tokens,
        length=length,
        seed=seed,
        evaluation=evaluation,
    )
    step = {
        "method": method,
        "pattern": pattern,
        "mixture": mixture,
        "propagate": propagate or ("dense" if moments else "compressed"),
        "skip": _words(skip),
        "options": _options(option),
        "moments": str(moments) if moments else None,
    }
    data = {"model": model, "calibration": asked.model_dump(), "steps": [{"prune": step}]}
    return _press(recipe.of(data, where="prune"), out, device=device, progress=progress)


def press(
    model: str,
    recipe_file: Path,
    *,
    out: Path,
    change: Annotated[Sequence[str], Parameter(name="--set")] = (),
    dry_run: bool = False,
    device: str = "cpu",
    progress: Progress = _silent,
) -> Outcome:
    """Do a recipe: a chain of steps in YAML. Finished steps are not done again.

    Example: babelpress press babel-mini recipe.yaml --set steps.0.prune.pattern=2of4 --out run

    Args:
        model: Hub id or folder, babel-mini, or a finished run.
        recipe_file: The recipe.
        out: The run folder.
        change: PLACE=VALUE in the recipe, as in calibration.tokens=4096; may be repeated.
        dry_run: Print the steps and stop.
        device: Where the model runs.
    """
    from babelpress import recipe

    plan = recipe.load(recipe_file, model=model, changes=change)
    if dry_run:
        rows = [{"step": n, **s.model_dump(mode="json")} for n, s in enumerate(plan.steps, 1)]
        return Outcome(rows, out, (f"{len(rows)} steps would be done in {out}.",))
    return _press(plan, out, device=device, progress=progress)


def evaluate(
    model: str,
    *,
    on: str = "bits_per_byte",
    corpus: str = "embedded",
    languages: str = "",
    out: Path | None = None,
    documents: int = 0,
    window: int = 0,
    memory_mb: int = 256,
    device: str = "cpu",
    progress: Progress = _silent,
) -> Outcome:
    """Score a model in every language, keeping the tally of every document.

    Example: babelpress eval babel-mini --corpus "flores?src=flores" --out dense

    Args:
        model: Hub id or folder, babel-mini, or a run.
        on: Evaluations, commas between.
        corpus: Whose test split is scored.
        languages: Languages or groups; all of the corpus by default.
        out: Folder for results.jsonl and tallies/; a run keeps its own by default.
        documents: Score the first N test documents only (0: all).
        window: Tokens in a window (0: as many as the model takes, 1,024 at most).
        memory_mb: Logits in memory at once, at most.
        device: Where the model runs.
    """
    from babelpress import scores
    from babelpress.corpus import open_corpus
    from babelpress.models import open_model

    here = out or (Path(model) if (Path(model) / "recipe.yaml").exists() else None)
    if here is None:
        raise BadSetting(f"{model} is not a run: say with --out where its scores should go.")
    rows = scores.evaluate(
        open_model(model, device=device),
        here,
        open_corpus(corpus),
        on=_words(on),
        languages=_words(languages),
        documents=documents,
        window=window,
        memory_mb=memory_mb,
        progress=progress,
    )
    return Outcome(rows, here, columns=("language", "evaluation", "value", "documents"))


def compare(
    dense: Path,
    runs: Sequence[Path],
    *,
    on: str = "bits_per_byte",
    draws: int = 2000,
    seed: int = 0,
) -> Outcome:
    """Paired change per language of pressed runs against the dense model, with intervals.

    Example: babelpress compare dense run-english run-minimax

    Args:
        dense: Folder with the scores of the dense model.
        runs: Folders with the scores of pressed models.
        on: The evaluation.
        draws: Bootstrap draws.
        seed: Seed of the draws.
    """
    from babelpress import verdicts

    rows: list[dict[str, Any]] = []
    for run in runs:
        found = verdicts.against(dense, run, on=on, draws=draws, seed=seed)
        verdicts.note_prediction(run, on, found)
        rows += verdicts.rows(run.name, found)
    return Outcome(rows, columns=("run", "kind", "name", "change", "low", "high", "verdict"))


def gate(
    run: Path,
    *,
    against: Path,
    max_loss: float = 0.05,
    confident: bool = False,
    on: str = "bits_per_byte",
) -> Outcome:
    """Exit with 1 when any language loses more than allowed.

    Example: babelpress gate run --against dense --max-loss 0.05

    Args:
        run: The pressed run, scored.
        against: Folder with the scores of the dense model.
        max_loss: Largest relative loss allowed (0.05 is 5 %).
        confident: Judge the upper limit of the interval instead of the estimate.
        on: The evaluation.
    """
    from babelpress import verdicts
    from babelpress.compare import gate as failing

    found = verdicts.against(against, run, on=on)
    bad = failing(found, max_loss, confident)
    rows = [{**asdict(change), "verdict": change.verdict} for change in bad]
    judged = "upper limit" if confident else "estimate"
    says = (
        f"{len(bad)} of {len(found.changes)} languages lose more than {max_loss:.1%} "
        f"({judged}) against {against}."
    )
    columns = ("language", "dense", "pressed", "change", "low", "high")
    return Outcome(rows, says=(says,), exit_code=1 if bad else 0, columns=columns)


def report(
    dense: Path,
    runs: Sequence[Path],
    *,
    out: Path = Path("report.html"),
    on: str = "bits_per_byte",
    title: str = "",
) -> Outcome:
    """One offline HTML file: what each calibration did to each language.

    Example: babelpress report dense run-english run-minimax --out report.html

    Args:
        dense: Folder with the scores of the dense model.
        runs: Folders with the scores of pressed models.
        out: The file.
        on: The evaluation.
        title: Title of the page.
    """
    from babelpress import verdicts
    from babelpress.report import write_report

    given = verdicts.report_input(dense, list(runs), on=on, title=title)
    path = write_report(given, out)
    return Outcome([{"report": str(path), "bytes": path.stat().st_size}], path)


def demo(*, out: Path = Path("demo-run"), progress: Progress = _silent) -> Outcome:
    """The whole job on the embedded model and text, on a CPU, in under two minutes.

    Example: babelpress demo --out demo-run

    Args:
        out: Folder for moments, runs and the report; a second call goes on from what is there.
    """
    from babelpress import demonstration

    rows, page = demonstration.do(out, progress)
    next_one = (
        f"babelpress prune babel-mini --moments {out}/moments --mixture only:sw "
        f"--out {out}/only-swahili"
    )
    says = (f"report: {page}", f"next: {next_one}")
    return Outcome(rows, page, says)


def doctor(*, hub: bool = False) -> Outcome:
    """What is installed, what is missing, and the command that mends it.

    Example: babelpress doctor

    Args:
        hub: Also ask the model hub whether it answers (a network call).
    """
    from babelpress import diagnosis

    rows = diagnosis.look(hub=hub)
    missing = [row for row in rows if not row["ok"]]
    says = tuple(f"{row['what']}: {row['mend']}" for row in missing) or ("all is well",)
    return Outcome(rows, says=says)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadSetting(f"--option {pair} has no '='. Write it as damp=0.05.")
        found[name] = yaml.safe_load(value)
    return found


def _calibration(**asked: Any) -> Any:
    from babelpress import recipe

    asked["languages"] = tuple(_words(asked["languages"]))
    asked["evaluation"] = asked["evaluation"] or None
    data = {"model": "-", "calibration": asked, "steps": [{"prune": {}}]}
    return recipe.of(data, where="calibration").calibration


def _press(plan: Any, out: Path, *, device: str, progress: Progress) -> Outcome:
    from babelpress import run

    manifest = run.do(plan, out, device=device, progress=progress)
    rows = []
    for number, step in enumerate(manifest["steps"], 1):
        shares = step["mixture"]["shares"]
        rows += [
            {
                "step": number,
                "language": tag,
                "share": shares.get(tag, 0.0),
                "predicted_damage": harm,
            }
            for tag, harm in step["damage"].items()
        ]
    last = manifest["steps"][-1]
    method, pattern = last["step"]["method"], last["step"]["pattern"]
    says = (
        f"{method} {pattern}: {last['zeros']:,} of {last['weights']:,} weights are zero.",
        f"next: babelpress eval {out}",
    )
    return Outcome(rows, out, says)
