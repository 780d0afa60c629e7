"""Mixtures: how much each language weighs, as shares of tokens that sum to one.

A policy makes shares p_l for L languages, mostly from a distribution d_l: what a model or corpus
holds of each language, one file of data/distributions, in its own unit.

  english, only:LANG         that language alone
  uniform                    1 / L
  proportional[:DIST]        d_l / Σ d
  temperature:T[:DIST]       d_l^(1/T) / Σ d^(1/T); T = 1 is proportional, T = inf uniform
  mbs:N[:DIST]               Multilingual Brain Surgeon (Zeng et al. 2024, arXiv:2404.04748):
                             n_l = max(1, floor(N d_l / Σ d)), then made to sum to N; p_l = n_l / N
  minimax                    uniform, from which press/mixture_search.py starts
  measured                   the same, with losses that are measured (steps/_measured.py)
  lacking                    uniform, from which train/distilling.py starts
  FILE.yaml                  weights as written, one line per language
Directions of translation (eng_Latn>swh_Latn) take uniform, only:WAY, minimax and a YAML.

Units are never mixed: shares come from one distribution, bytes are used as they are, and the
mixture names its unit. A language that the distribution lacks is an error, never a guess.
The paper draws whole segments, so its shares are multiples of 1/N; ours weight tokens.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from babelpress.errors import BadSetting, UnknownName
from babelpress.numerics.apportioning import one_at_least
from babelpress.system import plain
from babelpress.system.plain import NotPlain
from babelpress.text.distributions import (
    PRIOR,
    Distribution,
    distribution,
    distribution_of,
    distributions,
    number_of,
    unreadable,
)
from babelpress.text.languages import ENGLISH, INTO, find, select

POLICIES = (
    "english",
    "only:LANG",
    "uniform",
    "proportional[:DIST]",
    "temperature:T[:DIST]",
    "mbs:N[:DIST]",
    "minimax",
    "measured",
    "lacking",
    "FILE.yaml",
)
MINIMAX, MEASURED = "minimax", "measured"
WHILE_PRESSING = (MINIMAX, MEASURED)  # of pressing alone, which finds the shares
LACKING = "lacking"  # of training alone
# As far as each is the same for everyone, for a shell to complete.
OFFERED = tuple(re.split(r"\[|LANG|(?<=:)[TN]", policy)[0] for policy in POLICIES[:-2])


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares by tag that sum to one. A language with share 0 was asked for and is left out.

    `distribution` is None where no table was used; then `unit` and `source` name the policy's own.
    `counts` are the segments of the mbs policy.
    """

    shares: dict[str, float]
    policy: str
    distribution: str | None
    unit: str
    stage: str
    source: str
    note: str
    counts: dict[str, int] | None = None

    def __post_init__(self) -> None:
        assert abs(math.fsum(self.shares.values()) - 1) < 1e-12, self.shares
        assert all(share >= 0 for share in self.shares.values()), self.shares


def mixture(
    policy: str,
    languages: Sequence[str],
    *,
    model: str | None = None,
    own: Distribution | None = None,
) -> Mixture:
    """The shares that `policy` gives `languages` (names or groups), in their order.

    Without a DIST the policy takes `own`, else the distribution of `model` where it is published,
    else the prior, and says so in `note`. Raises BadSetting where a language has no value, or where
    a number or a file of weights is not acceptable; UnknownName for a policy or language.
    """
    tags = select(languages)
    if not tags:
        raise BadSetting(f"the mixture '{policy}' has no languages. Name at least one.")
    if policy.lower().endswith((".yaml", ".yml")):
        return _from_yaml(Path(policy), tags)
    kind, _, rest = policy.partition(":")
    _check_directions(policy, kind, rest, tags)
    match kind:
        case "english" | "uniform" | "minimax" | "measured" | "lacking" if rest:
            raise BadSetting(f"{policy}: the policy {kind} takes nothing after the ':'.")
        case "english":
            return _only(policy, ENGLISH, tags)
        case "only":
            return _only(policy, rest, tags)
        case "uniform":
            return _uniform(policy, tags, "every language alike")
        case "minimax" | "measured":
            return _uniform(policy, tags, "uniform start; the shares are found while pressing")
        case "lacking":
            return _uniform(policy, tags, "uniform start; the shares are found while training")
        case "proportional":
            return _proportional(policy, tags, *_table(rest, model, own))
        case "temperature":
            number, _, name = rest.partition(":")
            return _temperature(policy, number, tags, *_table(name, model, own))
        case "mbs":
            number, _, name = rest.partition(":")
            return _mbs(policy, number, tags, *_table(name, model, own))
    raise UnknownName("mixture policy", policy, POLICIES, "a YAML of shares, given by its path")


def _check_directions(policy: str, kind: str, rest: str, tags: Sequence[str]) -> None:
    """Raise BadSetting for what goes by languages, where these are directions of translation."""
    if kind == MEASURED and any(INTO in tag for tag in tags):
        raise BadSetting(
            f"{policy} scores one text at a time, and an encoder-decoder reads pairs, by direction "
            f"of translation, as {tags[0]}. Use uniform, minimax or a YAML of shares."
        )
    by_language = kind in ("english", "proportional", "temperature", "mbs")
    by_language |= kind == "only" and INTO not in rest
    if by_language and any(INTO in tag for tag in tags):
        raise BadSetting(
            f"{policy} goes by languages, and here text is kept by direction of translation, as "
            f"{tags[0]}. Use uniform, minimax, only:{tags[0]} or a YAML of shares of directions."
        )


def _only(policy: str, name: str, tags: list[str]) -> Mixture:
    """All weight on one language, which need not be among those asked for."""
    chosen = find(name).tag
    shares = dict.fromkeys([*tags, chosen], 0.0) | {chosen: 1.0}
    return _by_rule(shares, policy, f"{chosen} alone")


def _uniform(policy: str, tags: list[str], note: str) -> Mixture:
    return _by_rule(dict.fromkeys(tags, 1 / len(tags)), policy, note)


def _proportional(policy: str, tags: list[str], table: Distribution, note: str) -> Mixture:
    return _from_table(_tempered(_values(table, tags), 1.0), policy, table, note)


def _temperature(
    policy: str, number: str, tags: list[str], table: Distribution, note: str
) -> Mixture:
    shares = _tempered(_values(table, tags), _positive(number, policy))
    if lost := [tag for tag, share in shares.items() if share == 0]:
        raise BadSetting(
            f"{policy} leaves nothing for {', '.join(lost)}: so low a temperature is beyond "
            f"double precision. Use at least 0.1, or only:LANG."
        )
    return _from_table(shares, policy, table, note)


def _mbs(policy: str, number: str, tags: list[str], table: Distribution, note: str) -> Mixture:
    if not (number.isascii() and number.isdigit()):
        raise BadSetting(f"{policy}: N must be a whole number of segments, as in mbs:256.")
    counts = _segments(_values(table, tags), int(number))
    shares = {tag: count / int(number) for tag, count in counts.items()}
    return _from_table(shares, policy, table, note, counts)


def _tempered(values: dict[str, float], temperature: float) -> dict[str, float]:
    # Divided by the largest first, so that no power of a byte count overflows.
    largest = max(values.values())
    powers = {tag: (value / largest) ** (1 / temperature) for tag, value in values.items()}
    return _normalised(powers)


def _normalised(weights: dict[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    return {tag: weight / total for tag, weight in weights.items()}


def _segments(values: dict[str, float], segments: int) -> dict[str, int]:
    if segments < len(values):
        raise BadSetting(
            f"mbs:{segments} has fewer segments than languages ({len(values)}), and each needs "
            f"one. Use at least mbs:{len(values)}."
        )
    return one_at_least(values, segments)


def _table(name: str, model: str | None, own: Distribution | None) -> tuple[Distribution, str]:
    """The distribution to use, and in words why, with its own note."""
    if name:
        table, why = distribution(name), ""
    elif own is not None:
        table, why = own, ""
    elif model is None:
        table = distribution(PRIOR)
        why = f"no model and no distribution were named; {PRIOR} is used as a prior. "
    else:
        known = distribution_of(model)
        table, why = distribution(known.distribution), f"{known.words}. "
    return table, why + table.note


def _values(table: Distribution, tags: list[str]) -> dict[str, float]:
    missing = [tag for tag in tags if tag not in table.values]
    if not missing:
        return {tag: table.values[tag] for tag in tags}
    raise BadSetting(
        f"the distribution {table.name} ({table.unit}{', a prior' if table.prior else ''}) has no "
        f"value for {', '.join(missing)}. Use uniform, write the shares in a YAML, leave these "
        f"out, or name a distribution that has all: {_holders(tags)}."
    )


def _holders(tags: Iterable[str]) -> str:
    tables = [distribution(name) for name in distributions()]
    return ", ".join(t.name for t in tables if set(tags) <= t.values.keys()) or "none here does"


def _from_table(
    shares: dict[str, float],
    policy: str,
    table: Distribution,
    note: str,
    counts: dict[str, int] | None = None,
) -> Mixture:
    return Mixture(shares, policy, table.name, table.unit, table.stage, table.source, note, counts)


def _by_rule(shares: dict[str, float], policy: str, note: str) -> Mixture:
    return Mixture(shares, policy, None, "share of tokens", "rule", "the policy itself", note)


def _from_yaml(path: Path, tags: list[str]) -> Mixture:
    weights = _weights(path)
    if extra := [tag for tag in weights if tag not in tags]:
        raise BadSetting(
            f"{path} weighs {', '.join(extra)}, which are not among the languages of this run. "
            f"Take them out, or add them to --languages."
        )
    if missing := [tag for tag in tags if tag not in weights]:
        raise BadSetting(
            f"{path} gives no weight for {', '.join(missing)}. Write 0 to leave a language out."
        )
    if not any(weights.values()):
        raise BadSetting(f"{path} gives every language the weight 0. One must be above 0.")
    shares = _normalised({tag: weights[tag] for tag in tags})
    return Mixture(shares, str(path), None, "share of tokens", "given", str(path), "user's shares")


def _weights(path: Path) -> dict[str, float]:
    """Weights by tag from a YAML mapping of language names to numbers of at least 0."""
    try:
        text = path.read_text(encoding="utf-8")
        plain.load(text)
        # Nodes, not values: plain YAML reads `no` (Norwegian) as false and hides repeated keys.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, NotPlain) as error:
        unreadable(path, error)
    if not isinstance(node, yaml.MappingNode):
        raise BadSetting(f"{path} is no list of shares. Write one 'language: weight' a line.")
    weights: dict[str, float] = {}
    for key, value in node.value:
        tag = find(str(key.value)).tag
        if tag in weights:
            raise BadSetting(f"{path} weighs {tag} twice (again as '{key.value}'). Keep one.")
        weights[tag] = number_of(value.value, f"{path}: the weight of {key.value}")
    return weights


def _positive(text: str, policy: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if number > 0:
        return number
    raise BadSetting(f"{policy}: T must be above 0, or inf, as in temperature:3.")


def check_there(mixed: "Mixture", there: Sequence[str]) -> None:
    """Raise BadSetting where a mixture gives a share to a language that nothing is seen of."""
    wanted = [tag for tag, share in mixed.shares.items() if share > 0]
    if missing := [tag for tag in wanted if tag not in there]:
        raise BadSetting(
            f"the mixture {mixed.policy} gives a share to {', '.join(missing)}, which is not among "
            f"the languages of this calibration: {', '.join(there)}. Add it with --languages."
        )
