"""Policies against the paper's own counts, plain arithmetic and properties over random mixtures."""

import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelpress.errors import BadSetting, UnknownName
from babelpress.text.mixtures import (
    Mixture,
    distribution,
    distribution_of,
    distributions,
    mixture,
)

PAPER = [
    "en",
    "zh-Hans",
    "fr",
    "es",
    "pt",
    "ar",
    "vi",
    "hi",
    "id",
    "bn",
    "ta",
    "te",
    "ur",
    "ne",
    "mr",
    "gu",
    "zh-Hant",
    "sw",
    "yo",
    "ig",
]
BLOOM = sorted(distribution("bloom").values)
some_languages = st.lists(st.sampled_from(BLOOM), min_size=1, unique=True)
table_name = st.sampled_from(["bloom", "bloom-roots"])


def test_mbs_gives_the_counts_of_the_paper():
    found = mixture("mbs:256:bloom-roots", PAPER)

    assert found.counts is not None
    assert list(found.counts.values()) == [87, 47, 37, 31, 14, 13, 7, 4, 3, 3] + [1] * 10
    assert found.shares["eng_Latn"] == 87 / 256
    assert found.shares["ibo_Latn"] == 1 / 256


@pytest.fixture
def table(tmp_path):
    """A distribution of known numbers: 60, 25, 14 and 1 of 100."""
    path = tmp_path / "four.toml"
    path.write_text(
        'name = "four"\nunit = "pages"\nstage = "raw"\nsource = "made up"\n'
        "[values]\nen = 60\nsw = 25\nta = 14\nyo = 1\n[not-languages]\ncode = 900\n"
    )
    return str(path)


@pytest.mark.parametrize(
    ("segments", "counts"),
    [
        (10, [6, 2, 1, 1]),  # the floors and the one for yo make 10
        (11, [6, 3, 1, 1]),  # floors 6 2 1 and 1: one short, remainders .6 .75 .54
        (5, [2, 1, 1, 1]),  # 3 1 1 1 is one too many, taken from en
        (4, [1, 1, 1, 1]),
        (99, [59, 25, 14, 1]),  # 59 24 13 1: two short, remainders .4 .75 .86
    ],
)
def test_mbs_takes_a_surplus_from_the_largest_and_gives_by_remainder(table, segments, counts):
    found = mixture(f"mbs:{segments}:{table}", ["en", "sw", "ta", "yo"])

    assert found.counts is not None
    assert list(found.counts.values()) == counts


def test_mbs_takes_a_large_surplus_one_by_one_from_whoever_has_most(tmp_path):
    path = tmp_path / "skewed.toml"
    small = "".join(f"{tag} = 1\n" for tag in ["sw", "yo", "ha", "ig", "zu"])
    path.write_text(
        'name = "s"\nunit = "u"\nstage = "raw"\nsource = "s"\n[values]\n'
        f"en = 5000\nfr = 4000\n{small}"
    )

    found = mixture(f"mbs:12:{path}", ["fr", "en", "sw", "yo", "ha", "ig", "zu"])

    # 5 6 and five ones are 16: four go, en 6 -> 5, then en, fr, en (the larger value first)
    assert found.counts is not None
    assert list(found.counts.values()) == [4, 3, 1, 1, 1, 1, 1]


def test_mbs_needs_a_segment_for_every_language(table):
    with pytest.raises(BadSetting, match=r"mbs:3 has fewer segments than languages \(4\)"):
        mixture(f"mbs:3:{table}", ["en", "sw", "ta", "yo"])


@pytest.mark.parametrize("number", ["", "x", "2.5", "-3", "²"])
def test_mbs_takes_a_whole_number(number):
    with pytest.raises(BadSetting, match="whole number"):
        mixture(f"mbs:{number}:bloom", ["en"])


def test_proportional_leaves_out_what_was_not_asked_and_code(table):
    found = mixture(f"proportional:{table}", ["yo", "en", "ta"])

    expected = {"yor_Latn": 1 / 75, "eng_Latn": 60 / 75, "tam_Taml": 14 / 75}
    assert found.shares == pytest.approx(expected)
    assert list(found.shares) == list(expected)
    assert (found.unit, found.stage, found.distribution) == ("pages", "raw", "four")


def test_temperature_takes_the_root(table):
    found = mixture(f"temperature:2:{table}", ["en", "sw"])

    root = math.sqrt(60) + math.sqrt(25)
    assert found.shares == pytest.approx(
        {"eng_Latn": math.sqrt(60) / root, "swh_Latn": math.sqrt(25) / root}
    )


@pytest.mark.parametrize("number", ["0", "-1", "nan", "hot", ""])
def test_temperature_is_a_number_above_zero(number):
    with pytest.raises(BadSetting, match="T must be above 0"):
        mixture(f"temperature:{number}:bloom", ["en"])


def test_a_temperature_that_would_lose_a_language_is_refused():
    with pytest.raises(BadSetting, match="leaves nothing for swh_Latn"):
        mixture("temperature:0.001:bloom", ["en", "sw"])


@settings(deadline=None)
@given(some_languages, table_name)
def test_temperature_one_is_proportional(tags, name):
    proportional = mixture(f"proportional:{name}", tags)

    assert mixture(f"temperature:1:{name}", tags).shares == proportional.shares


@settings(deadline=None)
@given(some_languages, table_name)
def test_temperature_to_infinity_is_uniform(tags, name):
    uniform = mixture("uniform", tags).shares

    assert mixture(f"temperature:inf:{name}", tags).shares == pytest.approx(uniform, rel=1e-12)
    assert mixture(f"temperature:1e9:{name}", tags).shares == pytest.approx(uniform, rel=1e-6)


@settings(deadline=None)
@given(some_languages, table_name, st.floats(0.3, 1e6))
def test_shares_sum_to_one_and_no_language_is_lost(tags, name, temperature):
    for policy in (
        "uniform",
        "minimax",
        "measured",
        f"proportional:{name}",
        f"temperature:{temperature}:{name}",
    ):
        shares = mixture(policy, tags).shares
        assert list(shares) == tags
        assert abs(math.fsum(shares.values()) - 1) < 1e-12
        assert all(share > 0 for share in shares.values())


@settings(deadline=None)
@given(some_languages, st.floats(1, 50), st.floats(1.01, 3))
def test_a_higher_temperature_never_makes_the_smallest_smaller(tags, temperature, step):
    cool = mixture(f"temperature:{temperature}:bloom", tags).shares
    warm = mixture(f"temperature:{temperature * step}:bloom", tags).shares

    assert min(warm.values()) >= min(cool.values()) * (1 - 1e-12)


@settings(deadline=None)
@given(some_languages, table_name, st.integers(0, 3000))
def test_mbs_sums_to_the_segments_and_each_language_has_one(tags, name, more):
    segments = len(tags) + more

    found = mixture(f"mbs:{segments}:{name}", tags)

    assert found.counts is not None
    assert sum(found.counts.values()) == segments
    assert min(found.counts.values()) >= 1
    assert found.shares == {tag: count / segments for tag, count in found.counts.items()}
    values = distribution(name).values
    by_size = [found.counts[tag] for tag in sorted(tags, key=values.__getitem__)]
    assert all(b >= a - 1 for a, b in itertools.pairwise(by_size))


def test_one_language_alone_lists_the_others_with_nothing():
    assert mixture("english", ["sw", "en"]).shares == {"swh_Latn": 0, "eng_Latn": 1}
    assert mixture("only:yo", ["sw", "en"]).shares == {"swh_Latn": 0, "eng_Latn": 0, "yor_Latn": 1}


@pytest.mark.parametrize("policy", ["minimax", "measured"])
def test_what_is_found_while_pressing_starts_uniform_and_keeps_its_name(policy):
    uniform, found = mixture("uniform", ["sw", "en", "ta"]), mixture(policy, "sw,en,ta")

    assert uniform.shares == found.shares == dict.fromkeys(uniform.shares, 1 / 3)
    assert (uniform.policy, found.policy) == ("uniform", policy)
    assert uniform.distribution is None
    assert "found while pressing" in found.note


def test_directions_of_translation_are_not_measured():
    with pytest.raises(BadSetting, match=r"one text at a time.* as eng_Latn>swh_Latn"):
        mixture("measured", ["en>sw"])


def test_a_yaml_of_shares_is_normalised_in_the_order_asked(tmp_path):
    path = tmp_path / "shares.yaml"
    path.write_text("Swahili: 3\nno: 1  # Norwegian, not false\nta: 0\n")

    found = mixture(str(path), ["nb", "sw", "ta"])

    assert found.shares == {"nob_Latn": 0.25, "swh_Latn": 0.75, "tam_Taml": 0}
    assert list(found.shares) == ["nob_Latn", "swh_Latn", "tam_Taml"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("swahilli: 1\nen: 1\n", UnknownName, "'Swahili'"),
        ("sw: 1\n", BadSetting, "no weight for eng_Latn"),
        ("sw: 1\nen: 1\nta: 1\n", BadSetting, "weighs tam_Taml"),
        ("sw: 1\nen: 1\nswa: 2\n", BadSetting, "swh_Latn twice"),
        ("sw: 1\nen: 1\nsw: 2\n", BadSetting, "swh_Latn twice"),
        ("sw: -1\nen: 2\n", BadSetting, "the weight of sw is -1"),
        ("sw: nan\nen: 2\n", BadSetting, "the weight of sw is nan"),
        ("sw: much\nen: 2\n", BadSetting, "the weight of sw is much"),
        ("sw: [1]\nen: 2\n", BadSetting, "the weight of sw"),
        ("sw: 0\nen: 0\n", BadSetting, "every language the weight 0"),
        ("- sw\n- en\n", BadSetting, "no list of shares"),
        ("", BadSetting, "no list of shares"),
        ("sw: [1\n", BadSetting, "cannot be read"),
    ],
)
def test_a_yaml_of_shares_that_cannot_be_meant_fails(tmp_path, text, error, words):
    path = tmp_path / "shares.yml"
    path.write_text(text)

    with pytest.raises(error, match=words) as caught:
        mixture(str(path), ["sw", "en"])
    assert "\n" not in str(caught.value)


def test_a_yaml_that_is_not_there_or_not_text_fails_in_one_line(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")

    for name in ("absent.yaml", "binary.yaml"):
        with pytest.raises(BadSetting, match=f"{name} cannot be read"):
            mixture(str(tmp_path / name), ["sw"])


def test_a_language_without_a_value_is_named_with_what_to_do():
    with pytest.raises(
        BadSetting, match=r"llama-2 \(% of documents\) has no value for swh_Latn.*uniform.*bloom"
    ):
        mixture("proportional:llama-2", ["en", "sw"])


@pytest.mark.parametrize("policy", ["proportional", "temperature:2", "mbs:9"])
def test_english_under_the_prior_is_an_error_not_a_guess(policy):
    with pytest.raises(BadSetting, match=r"fineweb-2 \(UTF-8 bytes, a prior\).*eng_Latn"):
        mixture(policy, ["en", "sw"], model="Qwen/Qwen3-0.6B")


def test_an_undisclosed_model_says_so_and_names_the_prior():
    known = distribution_of("Qwen/Qwen3-0.6B")
    found = mixture("proportional", ["fr", "sw"], model="Qwen/Qwen3-0.6B")

    assert known.distribution == "fineweb-2"
    assert not known.disclosed
    assert "Qwen/Qwen3-0.6B are not disclosed; fineweb-2" in known.words
    assert known.words in found.note
    assert (found.distribution, found.unit) == ("fineweb-2", "UTF-8 bytes")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("bigscience/bloom-560m", "bloom"),
        ("bigscience/bloomz-7b1/", "bloom"),
        ("facebook/xglm-564M", "xglm"),
        ("facebook/xglm-4.5B", "cc100-xl"),
        ("google/mt5-small", "mt5"),
        ("CohereForAI/aya-101", "mt5"),
        ("FacebookAI/xlm-roberta-base", "xlm-r"),
        ("/models/Llama-2-7b-hf", "llama-2"),
        ("OpenLLM-France/Lucie-7B", "lucie"),
        ("babel-mini", "babel-mini"),
    ],
)
def test_a_disclosed_model_has_its_own_distribution(model, name):
    assert distribution_of(model)[:2] == (name, True)


@pytest.mark.parametrize(
    "model",
    ["google/gemma-3-1b-pt", "meta-llama/Llama-3.2-1B", "CohereLabs/aya-expanse-8b", "mistral-7b"],
)
def test_models_that_publish_nothing_are_not_disclosed(model):
    known = distribution_of(model)

    assert known[:2] == ("fineweb-2", False)
    assert "not disclosed" in known.words


def test_a_model_nobody_knows_is_not_called_undisclosed():
    assert "not known" in distribution_of("runs/7/model").words


def test_the_models_own_distribution_is_used_unless_another_is_named():
    assert mixture("proportional", ["sw", "en"], model="bloom-560m").distribution == "bloom"
    named = mixture("mbs:9:bloom-roots", ["sw", "en"], model="bloom-560m")
    assert named.distribution == "bloom-roots"


def test_groups_and_duplicates_are_resolved():
    assert list(mixture("uniform", ["sw", "Swahili", "en"]).shares) == ["swh_Latn", "eng_Latn"]


def test_no_languages_is_an_error():
    with pytest.raises(BadSetting, match="Name at least one"):
        mixture("uniform", [])


@pytest.mark.parametrize("policy", ["uniform:3", "english:en", "minimax:1", "measured:6"])
def test_a_policy_without_options_takes_none(policy):
    with pytest.raises(BadSetting, match="takes nothing after"):
        mixture(policy, ["en"])


def test_a_wrong_policy_or_distribution_says_the_right_ones():
    with pytest.raises(UnknownName, match=r"Did you mean 'uniform'.*minimax"):
        mixture("unifrom", ["en"])
    with pytest.raises(UnknownName, match=r"Did you mean 'bloom'.*bloom-roots"):
        mixture("proportional:blom", ["en"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("en = 1\nEnglish = 2\n", "eng_Latn twice"),
        ("en = 0\n", "is 0"),
        ("en = -2\n", "at least 0"),
        ("en = true\n", "at least 0"),
        ("", "no values"),
        ("en =\n", "cannot be read"),
    ],
)
def test_a_distribution_file_that_cannot_be_meant_fails(tmp_path, body, words):
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "m"\nunit = "u"\nstage = "raw"\nsource = "s"\n[values]\n{body}')

    with pytest.raises(BadSetting, match=words):
        distribution(str(path))


def test_a_distribution_file_needs_its_unit(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "m"\nstage = "raw"\nsource = "s"\n[values]\nen = 1\n')

    with pytest.raises(BadSetting, match="lacks unit"):
        distribution(str(path))


def test_what_is_no_language_never_enters_a_mixture(table):
    assert distribution(table).not_languages == {"code": 900}
    assert "code" not in mixture("proportional:bloom", BLOOM).shares


def test_shares_that_do_not_sum_to_one_are_no_mixture():
    with pytest.raises(AssertionError):
        Mixture({"eng_Latn": 0.9}, "p", None, "u", "s", "s", "n")


def test_every_distribution_can_be_used_whole():
    for name in distributions():
        shares = mixture(f"proportional:{name}", list(distribution(name).values)).shares
        assert all(share > 0 for share in shares.values())


def test_importing_mixtures_loads_no_heavy_package():
    code = (
        "import sys, babelpress.text.mixtures; print({'torch', 'transformers'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


# ---- directions of translation -------------------------------------------------------------

WAYS = ["eng_Latn>swh_Latn", "swh_Latn>eng_Latn"]


def test_directions_are_weighted_as_languages_are(tmp_path):
    assert mixture("uniform", WAYS).shares == dict.fromkeys(WAYS, 0.5)
    assert mixture("only:sw>en", WAYS).shares == {WAYS[0]: 0.0, WAYS[1]: 1.0}
    (tmp_path / "shares.yaml").write_text("en>sw: 3\nswh_Latn>eng_Latn: 1\n")
    assert mixture(str(tmp_path / "shares.yaml"), WAYS).shares == {WAYS[0]: 0.75, WAYS[1]: 0.25}


@pytest.mark.parametrize(
    "policy", ["english", "only:sw", "proportional", "temperature:3", "mbs:64"]
)
def test_what_goes_by_languages_is_refused_of_directions(policy):
    words = r"kept by direction of translation, as eng_Latn>swh_Latn\. Use"
    with pytest.raises(BadSetting, match=words):
        mixture(policy, WAYS)
