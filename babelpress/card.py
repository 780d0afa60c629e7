"""The model card of a run: what was done, what each language lost, what it is not good for.

Markdown with a YAML head, as model hubs read it. The head comes from a dumper, and every string
passes `escaping.markdown` on its way into the text, which is `data/card.md.j2`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from babelpress import evals, languages, opening, plain, scores
from babelpress.compare import ALPHA, NO_DIFFERENCE, Change, Comparison, Summary, compare
from babelpress.errors import AmbiguousName, BadModel, BadRun, UnknownName
from babelpress.escaping import clean, fence, markdown
from babelpress.files import read_json
from babelpress.plain import NotPlain

MANIFEST = "manifest.json"
ON = "bits_per_byte"
RANGE = "range"
DRAWS = 2000
SPOKEN = {"bits_per_byte": "bits per byte"}
VERDICTS = {
    "worse": "Significantly worse",
    "better": "significantly better",
    NO_DIFFERENCE: NO_DIFFERENCE,
}
KINDS = {"prune": "pruned", "quantize": "quantized"}
UNKNOWN = "unknown"
NOTHING = "–"

Manifest = Mapping[str, Any]


def card(run: Path, *, dense: Path | None = None) -> str:
    """The card of a finished run as Markdown; `dense` holds the scores of its dense model.

    Raises BadRun where the run is not finished, or where its scores and the dense ones do not fit.
    """
    path = run / MANIFEST
    if not path.exists():
        raise BadRun(f"{run} has no {MANIFEST}: it is no finished run. Finish it first.")
    manifest = read_json(path)
    found = _comparison(run, dense) if dense else None
    recipe = _yaml(manifest["recipe"])
    return _template().render(
        _raw(front=_yaml(_front(run, manifest)), recipe=recipe, fence=fence(recipe))
        | _deeds(manifest)
        | _losses(run, found)
        | {
            "findings": _findings(found),
            "beyond": _beyond(run),
            "ledger": _ledger(manifest),
            "limits": _limits(run, manifest, found),
            "licence": _licence_words(manifest),
        }
    )


def done(manifest: Manifest) -> str:
    """What was done to a run, step by step: `wanda 0.5 then gptq 4 bits, group 64`."""
    return " then ".join(f"{row['step']['method']} {_how(row)}" for row in manifest["steps"])


def mostly(ledger: Mapping[str, Any]) -> str:
    """A sentence where more than half of what is stored is no layer; else nothing."""
    largest = max(ledger["parts"], key=lambda part: part["bytes_stored"])
    share = largest["bytes_stored"] / ledger["bytes_stored"]
    if largest["part"] == "blocks" or share <= 0.5:
        return ""
    return f"Most of the file, {_share(share)}, is the {largest['part']}, not the layers."


# ---- head ----------------------------------------------------------------------------------


def _front(run: Path, manifest: Manifest) -> dict[str, Any]:
    tags = {*_calibrated(manifest), *scores.values(run, ON)}
    kinds = list(dict.fromkeys(row.get("kind", "prune") for row in manifest["steps"]))
    methods = [str(row["step"]["method"]) for row in manifest["steps"]]
    codes = sorted(filter(None, map(_code, tags)))
    front: dict[str, Any] = {
        **({"language": codes} if codes else {}),
        **(_licence(manifest) or {"license": "other", "license_name": UNKNOWN}),
        "base_model": _hub_name(manifest),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["babelpress", "multilingual", *(KINDS.get(k, k) for k in kinds), *methods],
    }
    if "quantize" in kinds:
        front["base_model_relation"] = "quantized"
    return front


def _code(tag: str) -> str:
    """ISO 639-1, else 639-3, else language and script: the shortest that is this language alone."""
    try:
        language = languages.find(tag)
    except (UnknownName, AmbiguousName):
        return ""
    short = [name for name in language.aliases if len(name) == 2 and name.isascii()]
    for code in (*short, language.tag.partition("_")[0]):
        try:
            if languages.find(code) == language:
                return code
        except (UnknownName, AmbiguousName):
            continue
    return language.tag.replace("_", "-")


def _base(manifest: Manifest) -> str:
    return str(manifest["steps"][0]["model"]["name"])


def _hub_name(manifest: Manifest) -> str:
    """The base model as a hub knows it; of a folder only its name, not where it lay."""
    name = _base(manifest)
    if opening.HUB_ID.fullmatch(name) and not Path(name).exists():
        return name.partition("@")[0]
    return Path(name).name


def _licence(manifest: Manifest) -> dict[str, Any]:
    """The licence lines of the base model's own card; empty where it does not say."""
    try:
        folder = Path(opening.resolve(_base(manifest)))
    except (BadModel, BadRun):
        return {}
    path = folder / "README.md"
    if not path.is_file():
        return {}
    head = path.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    try:
        found = plain.load(head.removeprefix("---")) if head.startswith("---") else None
    except NotPlain:
        return {}  # a card whose head nobody can read does not say either
    if not isinstance(found, dict) or "license" not in found:
        return {}
    return {key: found[key] for key in ("license", "license_name", "license_link") if key in found}


def _licence_words(manifest: Manifest) -> str:
    lines = _licence(manifest)
    if not lines:
        return (
            f"Unknown: the licence of {_hub_name(manifest)} is not stated where this card was "
            "made. Look it up, and name it above, before this model is given to others."
        )
    named = ", ".join(str(value) for value in lines.values())
    return (
        f"That of {_hub_name(manifest)}, by its card: {named}. Its terms hold for this model too."
    )


# ---- what was done -------------------------------------------------------------------------


def _deeds(manifest: Manifest) -> dict[str, Any]:
    rows = manifest["steps"]
    calibration = rows[-1].get("calibration", {})
    shares = [row["mixture"].get("shares", {}) for row in rows]
    tags = sorted(calibration.get("languages", {}), key=lambda tag: (-shares[-1].get(tag, 0), tag))
    return {
        "base": _hub_name(manifest),
        "done": done(manifest),
        "policy": rows[-1]["mixture"]["policy"],
        "version": manifest.get("surroundings", {}).get("versions", {}).get("babelpress", ""),
        "steps": [_step(number, row) for number, row in enumerate(rows, 1)],
        "corpus": calibration.get("corpus", UNKNOWN),
        "seed": calibration.get("seed", UNKNOWN),
        "scanned": [
            _named(tag)
            | {
                "tokens": f"{calibration['languages'][tag]['tokens']:,}",
                "shares": [_share(each.get(tag, 0.0)) for each in shares],
            }
            for tag in tags
        ],
    }


def _step(number: int, row: Manifest) -> dict[str, Any]:
    step = row["step"]
    options = ", ".join(f"{key} {value}" for key, value in step.get("options", {}).items())
    eight = "embedding and head at 8 bits" if step.get("embeddings") == "8bit" else ""
    return {
        "number": number,
        "kind": row.get("kind", "prune"),
        "method": step["method"],
        "how": "; ".join(filter(None, (_how(row), options, eight))),
        "policy": row["mixture"]["policy"],
        "propagate": "pressed" if step.get("propagate") == "compressed" else "dense",
        "skip": ", ".join(step.get("skip", ())),
        "unfolded": ", ".join(row.get("unfolded", ())),
    }


def _how(row: Manifest) -> str:
    """The pattern of a pruning step, the grid of a quantization."""
    return str(row["grid"] if "grid" in row else row["step"]["pattern"])


# ---- what it costs -------------------------------------------------------------------------


def _comparison(run: Path, dense: Path) -> Comparison:
    first, second = scores.tallies(dense, ON), scores.tallies(run, ON)
    return compare(
        first,
        second,
        lower_is_better=evals.get(ON).LOWER_IS_BETTER,
        draws=max(DRAWS, round(2 * len(first) / ALPHA)),
    )


def _losses(run: Path, found: Comparison | None) -> dict[str, Any]:
    own = scores.values(run, ON)
    changes = sorted(found.changes, key=_worst_first) if found else []
    return {
        "metric": SPOKEN[ON],
        "changes": [_change(change) for change in changes],
        "alone": [_named(tag) | {"value": f"{own[tag]:.3f}"} for tag in sorted(own)],
    }


def _worst_first(change: Change) -> tuple[float, str]:
    return (-change.change, change.language)


def _change(change: Change) -> dict[str, Any]:
    return _named(change.language) | {
        "dense": f"{change.dense:.3f}",
        "pressed": f"{change.pressed:.3f}",
        "change": _percent(change.change),
        "interval": f"{_percent(change.low)} to {_percent(change.high)}",
        "verdict": change.verdict,
    }


def _findings(found: Comparison | None) -> list[str]:
    """The worst language first, then how many are significantly worse."""
    if found is None:
        return []
    number = len(found.changes)
    if not any(change.significant for change in found.changes):
        return [f"No significant difference from the dense model in any of {number} languages."]
    by_name = {summary.name: summary for summary in found.summaries}
    worst, mean = by_name["worst"], by_name["mean"]
    language = _named(worst.language or "")["name"]
    return [
        f"Worst language: {language}, {_with_interval(worst)} in {SPOKEN[ON]}.",
        f"Mean of {number} languages: {_with_interval(mean)}. {_counted(found)}.",
    ]


def _counted(found: Comparison) -> str:
    """How many languages have which verdict."""
    verdicts = Counter(change.verdict for change in found.changes)
    return "; ".join(
        f"{words} in {verdicts[verdict]}"
        for verdict, words in VERDICTS.items()
        if verdicts[verdict]
    )


def _with_interval(summary: Summary) -> str:
    low, high = _percent(summary.low), _percent(summary.high)
    return f"{_percent(summary.value)} (95 % interval {low} to {high})"


def _beyond(run: Path) -> list[dict[str, Any]]:
    values, sites = scores.values(run, RANGE), scores.sites(run, RANGE)
    rows = []
    for tag in sorted(values, key=lambda tag: (-values[tag], tag)):
        by_site = sites.get(tag, {})
        worst = max(by_site, key=by_site.__getitem__, default=NOTHING)
        there = _share(by_site[worst]) if by_site else NOTHING
        rows.append(_named(tag) | {"share": _share(values[tag]), "site": worst, "there": there})
    return rows


def _ledger(manifest: Manifest) -> dict[str, Any] | None:
    found = manifest.get("ledger")
    if not found:
        return None
    whole = {**found, "part": "whole", "bits": found["bits_per_weight"]}
    return {
        "rows": [
            {
                "part": part["part"],
                "parameters": f"{part['parameters']:,}",
                "dense": f"{part['bytes_dense']:,}",
                "stored": f"{part['bytes_stored']:,}",
                "share": _share(part["bytes_stored"] / found["bytes_stored"]),
                "bits": f"{part['bits']:.2f}",
            }
            for part in (*found["parts"], whole)
        ],
        "says": mostly(found),
    }


def _limits(run: Path, manifest: Manifest, found: Comparison | None) -> list[str]:
    calibrated, measured = _calibrated(manifest), scores.values(run, ON)
    lines = []
    if found and (
        worse := [c for c in sorted(found.changes, key=_worst_first) if c.verdict == "worse"]
    ):
        each = ", ".join(f"{_named(c.language)['name']} ({_percent(c.change)})" for c in worse)
        lines.append(f"Languages that are significantly worse than in the dense model: {each}.")
    if unseen := [tag for tag in measured if tag not in calibrated]:
        lines.append(f"Languages that it was measured in but not calibrated on: {_list(unseen)}.")
    if unknown := [tag for tag in calibrated if tag not in measured]:
        lines.append(
            f"Languages that it was calibrated on but not measured in, so that nobody knows what "
            f"they lost: {_list(unknown)}."
        )
    lines.append(
        "Every language that is not named here: it was neither calibrated on nor measured."
    )
    lines.append("Whatever its base model is not good for. Nothing was added to it.")
    if all(row.get("kind", "prune") == "prune" for row in manifest["steps"]):
        lines.append("Speed: the zeros lie in an ordinary dense file, and make nothing faster.")
    return lines


# ---- words ---------------------------------------------------------------------------------


def _calibrated(manifest: Manifest) -> list[str]:
    """Languages with a share in any step."""
    shares = [row["mixture"].get("shares", {}) for row in manifest["steps"]]
    return sorted({tag for each in shares for tag, share in each.items() if share > 0})


def _named(tag: str) -> dict[str, Any]:
    try:
        return {"tag": tag, "name": languages.find(tag).name}
    except (UnknownName, AmbiguousName):
        return {"tag": tag, "name": tag}


def _list(tags: Sequence[str]) -> str:
    return ", ".join(_named(tag)["name"] for tag in tags)


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %".replace("-", "\u2212")


def _share(value: float) -> str:
    """Three digits, never an exponent."""
    if value == 0 or value >= 0.1:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.4f} %" if value < 0.001 else f"{100 * value:.2f} %"


def _yaml(value: Any) -> str:
    """YAML without a character that cannot be seen."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text if clean(text) == text else yaml.safe_dump(value, sort_keys=False)


def _raw(**texts: str) -> dict[str, Any]:
    """Text that stands where Markdown is not read."""
    from markupsafe import Markup

    return {name: Markup(text) for name, text in texts.items()}


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        return value if isinstance(value, Markup) else markdown(str(value))

    environment = Environment(
        undefined=StrictUndefined, finalize=plain, trim_blocks=True, lstrip_blocks=True
    )
    text = files("babelpress").joinpath("data/card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(text)
