"""The model card of a run: what was done, what each language lost, what it is not good for.

Markdown with a YAML head, as model hubs read it. The head comes from a dumper, and every string
passes `escaping.markdown` on its way into the text, which is `data/card.md.j2`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from babelpress import evals
from babelpress.errors import AmbiguousName, BadModel, BadRun, UnknownName
from babelpress.models.accepted import decodes, opened_as
from babelpress.models.names import HUB_ID, resolve
from babelpress.report.data import NOTHING
from babelpress.report.losses import (
    Judged,
    findings,
    judged_in,
    judged_on,
    loss,
    named,
    percent,
    ranges,
    speed,
    worst_first,
)
from babelpress.report.told import (
    adjectives,
    done,
    listings,
    on_size,
    part_of,
    policies,
    tell,
    zeros,
)
from babelpress.runs.manifest import CONFIG, Manifest, read
from babelpress.runs.places import MODEL
from babelpress.steps._kind import StepReport
from babelpress.system import plain
from babelpress.system.escaping import clean, fence, markdown
from babelpress.system.files import DATA, read_json
from babelpress.system.plain import NotPlain
from babelpress.text import languages

CARRIED = 12  # names that a card shows
UNKNOWN = "unknown"
TRAINED = "finetune"  # the hub's word for what has learnt, be it of a task or of its teacher


@dataclass(frozen=True, slots=True)
class Served:
    """How to serve what lies beside a card: program, language and text of every way.

    `library` is the hub's name of what reads the folder, empty where no library does.
    """

    ways: tuple[tuple[str, str, str], ...]
    library: str


TRANSFORMERS = """from transformers import {opener}, AutoTokenizer

folder = "model"  # beside this card
model = {opener}.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)"""


def card(run: Path, *, dense: Path | None = None, served: Served | None = None) -> str:
    """The card of a finished run as Markdown; `dense` holds the scores of its dense model.

    `served` says how to serve what lies beside it: by default the run itself.

    Raises BadRun where the run is not finished, or where its scores and the dense ones do not fit.
    """
    manifest = read(run)
    config = _config(run)
    served = served or _of_run(config)
    judged = judged_on(run, dense)
    measured = {tag for each in judged for tag in each.own}
    recipe = "---\n".join(_yaml(each) for each in manifest.recipes)
    return _template().render(
        _raw(
            front=_yaml(_front(measured, manifest, served, config)),
            recipe=recipe,
            fence=fence(recipe),
        )
        | _deeds(manifest)
        | {
            "metric": evals.facts(judged_in(run)).spoken,
            "losses": [loss(each) for each in judged],
            "findings": [line for each in judged for line in findings(each)],
            "ranges": ranges(run),
            "ledger": _ledger(manifest),
            "speed": speed(run, dense),
            "served": [
                (name, *_raw(how=how, text=text).values()) for name, how, text in served.ways
            ],
            "limits": _limits(measured, manifest, judged),
            "licence": _licence_words(manifest),
        }
    )


def _config(run: Path) -> Mapping[str, Any]:
    """The config of the run's model; nothing where its weights were deleted."""
    path = run / MODEL / CONFIG
    return read_json(path) if path.exists() else {}


def _of_run(config: Mapping[str, Any]) -> Served:
    """How the run itself is served: what is no decoder alone only as transformers opens it."""
    opener, _ = opened_as(config)
    python = ("transformers", "python", TRANSFORMERS.format(opener=opener))
    vllm = ("vLLM", "bash", "vllm serve model")
    return Served((vllm, python) if decodes(config) else (python,), "transformers")


# ---- head ----------------------------------------------------------------------------------


def _front(
    measured: Iterable[str], manifest: Manifest, served: Served, config: Mapping[str, Any]
) -> dict[str, Any]:
    tags = {*_calibrated(manifest), *measured}
    told = [tell(step) for step in manifest.chain]
    methods = [each.method for each in told if each.method]
    spoken = {side for tag in tags for side in languages.sides(tag)}
    codes = sorted(filter(None, map(_code, spoken)))
    front: dict[str, Any] = {
        **({"language": codes} if codes else {}),
        **(_licence(manifest) or {"license": "other", "license_name": UNKNOWN}),
        "base_model": _hub_name(manifest),
        **({"library_name": served.library} if served.library else {}),
        "pipeline_tag": opened_as(config)[1],
        "tags": ["babelpress", "multilingual", *adjectives(manifest), *methods],
    }
    if relation := next((each.relation for each in reversed(told) if each.relation), ""):
        front["base_model_relation"] = relation
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
    return manifest.origin.name


def _hub_name(manifest: Manifest) -> str:
    """The base model as a hub knows it; of a folder only its name, not where it lay."""
    name = _base(manifest)
    if HUB_ID.fullmatch(name) and not Path(name).exists():
        return name.partition("@")[0]
    return Path(name).name


def _licence(manifest: Manifest) -> dict[str, Any]:
    """The licence lines of the base model's own card; empty where it does not say."""
    try:
        folder = Path(resolve(_base(manifest)))
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
    steps = manifest.chain
    last = manifest.shares
    mixed = {n: each.mixture.shares for n, each in enumerate(steps, 1) if each.mixture.shares}
    texts = _texts(manifest)
    seen = {tag for text in texts.values() for tag in text["languages"]}
    tags = sorted(seen, key=lambda tag: (-last.get(tag, 0), tag))
    return {
        "base": _hub_name(manifest),
        "done": done(manifest),
        "policy": policies(manifest),
        "version": manifest.surroundings.get("versions", {}).get("babelpress", ""),
        "steps": [_step(number, step) for number, step in enumerate(steps, 1)],
        "texts": [
            {"steps": where, **{key: text.get(key, UNKNOWN) for key in ("corpus", "seed")}}
            for where, text in texts.items()
        ],
        "mixed": list(mixed),
        "listings": listings(manifest),
        "carried": _carried(manifest.carried),
        "tokenizer": manifest.tokenizer,
        "scanned": [
            named(tag)
            | {
                "tokens": [_tokens(text, tag) for text in texts.values()],
                "shares": [part_of(each.get(tag, 0.0)) for each in mixed.values()],
            }
            for tag in tags
        ],
    }


def _texts(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Every calibration text by the steps that looked at it; one that all did has no steps."""
    texts: list[tuple[dict[str, Any], list[str]]] = []
    for number, step in enumerate(manifest.chain, 1):
        if step.calibration.get("languages"):
            same = [numbers for text, numbers in texts if text == step.calibration]
            same[0].append(str(number)) if same else texts.append((step.calibration, [str(number)]))
    if len(texts) == 1:
        return {"": texts[0][0]}
    return {" and ".join(numbers): text for text, numbers in texts}


def _tokens(text: Mapping[str, Any], tag: str) -> str:
    row = text["languages"].get(tag)
    return f"{row['tokens']:,}" if row else NOTHING


def _carried(names: Sequence[str]) -> str:
    """The first tensors that were carried over, and how many more there are."""
    shown = ", ".join(names[:CARRIED])
    more = f" and {len(names) - CARRIED} more, which the manifest names"
    return shown + more * (len(names) > CARRIED)


def _step(number: int, step: StepReport) -> dict[str, Any]:
    told = tell(step)
    return {
        "number": number,
        "kind": step.kind,
        "method": told.method or NOTHING,
        "how": told.how or NOTHING,
        "policy": told.mixture or NOTHING,
        "propagate": told.fed_by or NOTHING,
        "skip": told.left_out,
        "remarks": told.remarks,
    }


# ---- what it is ----------------------------------------------------------------------------


def _ledger(manifest: Manifest) -> dict[str, Any] | None:
    found = manifest.ledger
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
                "share": part_of(part["bytes_stored"] / found["bytes_stored"]),
                "bits": f"{part['bits']:.2f}",
            }
            for part in (*found["parts"], whole)
        ],
        "says": " ".join(filter(None, (on_size(found), zeros(found)))),
    }


def _limits(measured: Iterable[str], manifest: Manifest, judged: Sequence[Judged]) -> list[str]:
    calibrated, measured = _calibrated(manifest), sorted(measured)
    lines = []
    for each in judged:
        changes = sorted(each.found.changes, key=worst_first) if each.found else []
        if worse := [change for change in changes if change.verdict == "worse"]:
            shown = ", ".join(f"{named(c.language)['name']} ({percent(c.change)})" for c in worse)
            lines.append(
                f"Languages that are significantly worse than in the dense model{each.on}: {shown}."
            )
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
    told = [tell(step) for step in manifest.chain]
    trained = any(each.relation == TRAINED for each in told)
    nothing = "" if trained else " Nothing was added to it."
    lines.append(f"Whatever its base model is not good for.{nothing}")
    others = [each for each, step in zip(told, manifest.chain, strict=True) if not step.dev]
    if not any(each.relation for each in others):  # else it is smaller, and perhaps faster
        lines += dict.fromkeys(limit for each in told for limit in each.limits)
    return lines


# ---- words ---------------------------------------------------------------------------------


def _calibrated(manifest: Manifest) -> list[str]:
    """Languages with a share in any step, or that one was done for."""
    shares = [step.mixture.shares for step in manifest.chain]
    served = {tag for step in manifest.chain for tag in step.served}
    return sorted(served | {tag for each in shares for tag, share in each.items() if share > 0})


def _list(tags: Sequence[str]) -> str:
    return ", ".join(named(tag)["name"] for tag in tags)


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
    text = (DATA / "card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(text)
