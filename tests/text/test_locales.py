"""Names of locales: the parts that they have, and the language that they mean."""

import pytest

from babelpress.errors import AmbiguousName, UnknownName
from babelpress.text.languages import find, known
from babelpress.text.locales import Locale, parse

# As FLEURS, MASSIVE, Common Voice and systems name them, each with what it must mean.
NAMES = {
    "eng_Latn": "en-US en_us en-GB en_US.UTF-8 en_US_POSIX en_Latn",
    "swh_Latn": "sw-KE sw_ke sw_Latn swa-KE swh-Latn-TZ SW_KE",
    "spa_Latn": "es-419 es_mx",
    "arb_Arab": "ar-EG ar_eg ar-SA",
    "zho_Hans": "cmn_hans_cn zh-SG zh_CN zh_Hans_HK",
    "zho_Hant": "zh_Hant_TW zh-TW zh-HK zh-MO cmn-TW",
    "zho_Latn": "zh-Latn-CN",
    "yue_Hant": "yue_hant_hk yue-HK",
    "pan_Guru": "pa-IN pa_in",
    "pnb_Arab": "pa-Arab pa-PK pan-PK",
    "srp_Cyrl": "sr_rs sr-Cyrl-RS",
    "srp_Latn": "sr-Latn sr-Latn-RS sr-ME sr_RS@latin sr@latin",
    "uzn_Cyrl": "uz-Cyrl-UZ",
    "uzn_Latn": "uz_uz",
    "uzs_Arab": "uz-AF",
    "azb_Arab": "az-IR",
    "azj_Latn": "az_az",
    "prs_Arab": "fa-AF",
    "pes_Arab": "fa_ir",
    "khk_Cyrl": "mn-Cyrl mn_mn mn-Cyrl-MN",
    "hin_Latn": "hi_Latn hi-Latn-IN",
    "kor_Hang": "ko-Kore-KR ko_kr",
    "urd_Arab": "ur-Aran ur_pk",
    "nob_Latn": "no_NO nb-NO",
    "nno_Latn": "nn-NO",
    "gaz_Latn": "om_et",
    "tgl_Latn": "fil_ph tl-PH",
    "roh_Latn": "rm-sursilv rm-vallader",
    "cat_Latn": "ca-valencia ca_ES@valencia",
    "deu_Latn": "de-CH-1996",
}


@pytest.mark.parametrize(
    ("name", "tag"), [(name, tag) for tag, names in NAMES.items() for name in names.split()]
)
def test_a_locale_means_its_language_in_the_script_that_it_asks_for(name, tag):
    assert find(name).tag == tag == find(name.replace("_", "-")).tag


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("mn-Mong", "khk_Cyrl, not in Mong"),
        ("mn-CN", "khk_Cyrl, not in Mong"),
        ("kk_CN", "kaz_Cyrl, not in Arab"),
        ("ku-IQ", "kmr_Cyrl, kmr_Latn, not in Arab"),
        ("sw_Arab_KE", "swh_Latn, not in Arab"),
        ("yue-CN", "yue_Hant, not in Hans"),
    ],
)
def test_a_script_that_the_table_lacks_is_never_another_one(name, there):
    with pytest.raises(UnknownName, match=there):
        find(name)
    assert known(name) is None


def test_a_code_of_several_languages_is_so_with_a_region_and_not_with_a_script():
    with pytest.raises(AmbiguousName, match="bos_Latn, hrv_Latn"):
        find("sh-BA")
    assert find("sh-Cyrl").tag == "srp_Cyrl"


@pytest.mark.parametrize(
    "name",
    [
        "en-sw",
        "en_train",
        "sw_new",
        "sw-raw",
        "en_data",
        "data",
        "xx-Goth",
        "C.UTF-8",
        "en-999",
        "",
    ],
)
def test_what_is_no_locale_is_no_language(name):
    assert known(name) is None


def test_a_name_does_not_count_as_a_code():
    # Yau is a name of yuw_Latn, which nobody calls by it in a locale.
    assert find("Yau").tag == "yuw_Latn"
    assert known("yau_PG") != find("Yau")


def test_the_parts_are_those_of_the_name():
    assert parse("zh_hant_TW") == Locale("zh", "Hant", "TW")
    assert parse("de-CH-1996") == Locale("de", "", "CH", ("1996",))
    parts = {name: parse(name) for name in ("de-CH-1996", "sw", "zh-TW", "sw-KE")}
    assert all(parts.values())
    varieties = {name: each.variety for name, each in parts.items() if each}
    assert (varieties["de-CH-1996"], varieties["sw"]) == ("CH-1996", "")
    scripts = {name: each.asks_script() for name, each in parts.items() if each}
    assert (scripts["zh-TW"], scripts["sw-KE"]) == ("Hant", "")


def test_a_name_in_another_normalization_is_the_same():
    assert find("E\u0300de\u0300 Yoru\u0300ba\u0301").tag == "yor_Latn"
