"""The tables of data/: their form, their rules, and the totals that their sources state."""

import csv
import math
import re
import tomllib

import pytest

from babelpress.system.files import DATA
from babelpress.text.languages import COLUMNS, all_languages, find
from babelpress.text.mixtures import distribution, distributions

SHARED = {"zho_Hant": "zho_Hans", "prs_Arab": "pes_Arab"}
every_table = pytest.mark.parametrize("name", distributions())


def rows() -> list[list[str]]:
    with (DATA / "languages.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.reader(table))


def raw(name: str) -> dict:
    return tomllib.loads((DATA / "distributions" / f"{name}.toml").read_text(encoding="utf-8"))


def folded(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")


def test_languages_csv_has_its_columns_in_every_row():
    header, *body = rows()

    assert tuple(header) == COLUMNS
    assert {len(row) for row in body} == {len(COLUMNS)}


def test_tags_are_sorted_unique_and_end_in_the_script():
    tags = [language.tag for language in all_languages()]

    assert tags == sorted(set(tags))
    for language in all_languages():
        assert re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", language.tag)
        assert language.tag.endswith(language.script)


def test_nothing_is_padded_or_a_question_mark():
    for cell in (cell for row in rows() for cell in row):
        assert "?" not in cell
        assert cell == cell.strip()


def test_names_and_aliases_are_whole():
    names = [folded(language.name) for language in all_languages()]

    assert all(names)
    assert len(names) == len(set(names))
    for language in all_languages():
        own = [folded(name) for name in (language.tag, language.name, *language.aliases)]
        assert all(own)
        assert len(own) == len(set(own)), language


def test_no_alias_hides_a_tag():
    tags = {folded(language.tag) for language in all_languages()}

    for language in all_languages():
        assert not tags & {folded(alias) for alias in language.aliases}, language


def test_families_and_levels_are_words_of_the_table():
    for language in all_languages():
        assert re.fullmatch(r"[a-z-]*", language.family)
        assert language.resource in {"high", "mid", "low"}


def test_every_language_of_a_published_table_has_a_family():
    for name in (name for name in distributions() if name != "fineweb-2"):
        for tag in distribution(name).values:
            assert find(tag).family, tag


def test_resource_levels_follow_the_rule_that_the_module_states():
    size = distribution("fineweb-2").values

    for language in all_languages():
        held = size.get(SHARED.get(language.tag, language.tag), 0)
        level = "high" if held >= 100e9 else "mid" if held >= 10e9 else "low"
        assert language.resource == ("high" if language.tag == "eng_Latn" else level), language


@every_table
def test_a_distribution_says_what_it_is(name):
    table = distribution(name)

    assert table.name == name
    assert table.stage in {"raw", "sampled"}
    assert all((table.unit, table.source, table.note))
    assert table.prior == (name == "fineweb-2")


@every_table
def test_a_distribution_is_keyed_by_canonical_tags_and_positive(name):
    values = raw(name)["values"]

    assert all(find(tag).tag == tag for tag in values)
    assert all(math.isfinite(value) and value > 0 for value in values.values())


@every_table
def test_what_is_no_language_is_kept_apart(name):
    for entry in raw(name).get("not-languages", {}):
        assert entry in {"code", "unknown", "aligned", "und"} or entry[:3] in {"xx-", "und"}


@pytest.mark.parametrize(
    ("name", "languages", "others", "total"),
    [
        ("bloom", 46, 1, 1.0),
        ("bloom-roots", 46, 1, 1_614_479_114_961),
        ("xglm", 30, 0, 0.9999),
        ("mt5", 107, 0, 100.01),
        ("xlm-r", 99, 0, 2467.2),
        ("cc100-xl", 113, 1, 8396.56),
        ("llama-2", 27, 1, 99.99),
        ("gpt-3", 94, 24, 181_014_683_608 / 0.92647),
        ("lucie", 5, 2, 100.0),
    ],
)
def test_entries_and_totals_are_those_of_the_source(name, languages, others, total):
    table = distribution(name)
    held = sum(table.values.values()) + sum(table.not_languages.values())

    assert (len(table.values), len(table.not_languages)) == (languages, others)
    assert held == pytest.approx(total, rel=1e-5)


def test_the_long_tail_of_fineweb_2_is_complete():
    table = distribution("fineweb-2")

    assert (len(table.values), len(table.not_languages)) == (1870, 43)
    assert table.values["swh_Latn"] / sum(table.values.values()) == pytest.approx(1.4e-4, rel=0.05)
    assert "eng_Latn" not in table.values


@pytest.mark.parametrize(
    ("name", "tag", "value"),
    [
        ("bloom", "swh_Latn", 0.000162197),
        ("bloom-roots", "ibo_Latn", 14_078_521),
        ("xglm", "tha_Thai", 0.044),
        ("mt5", "heb_Hebr", 1.06),
        ("mt5", "rus_Latn", 0.46),
        ("xlm-r", "mya_Mymr", 2.0),
        ("xlm-r", "zho_Hant", 16.6),
        ("xlm-r", "hin_Latn", 0.5),
        ("cc100-xl", "gaz_Latn", 0.09),
        ("llama-2", "nob_Latn", 0.03),
        ("gpt-3", "eng_Latn", 181_014_683_608),
        ("lucie", "ita_Latn", 3.771),
    ],
)
def test_single_values_are_those_of_the_source(name, tag, value):
    assert distribution(name).values[tag] == pytest.approx(value, rel=1e-5)


def test_models_name_distributions_that_exist():
    models = tomllib.loads((DATA / "models.toml").read_text(encoding="utf-8"))
    named = {row["distribution"] for row in models["model"]}

    assert named <= {*distributions(), "babel-mini"}
    for row in [*models["model"], models["undisclosed"]]:
        assert all(pattern == pattern.casefold() for pattern in row["patterns"])
