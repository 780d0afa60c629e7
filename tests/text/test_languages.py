"""Look-up of languages: every name that a corpus or model uses, and the traps among them."""

import os
import time
from pathlib import Path

import pytest

from babelpress.errors import AmbiguousName, BadSetting, UnknownName
from babelpress.text import languages, scripts
from babelpress.text.languages import all_languages, find, groups, select

CORPUS = {
    "en": "eng_Latn",
    "fr": "fra_Latn",
    "es": "spa_Latn",
    "pt": "por_Latn",
    "de": "deu_Latn",
    "it": "ita_Latn",
    "ru": "rus_Cyrl",
    "zh": "zho_Hans",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "ar": "arb_Arab",
    "fa": "pes_Arab",
    "hi": "hin_Deva",
    "bn": "ben_Beng",
    "ta": "tam_Taml",
    "th": "tha_Thai",
    "vi": "vie_Latn",
    "id": "ind_Latn",
    "tr": "tur_Latn",
    "fi": "fin_Latn",
    "et": "est_Latn",
    "eu": "eus_Latn",
    "sw": "swh_Latn",
    "yo": "yor_Latn",
    "ha": "hau_Latn",
    "ig": "ibo_Latn",
    "am": "amh_Ethi",
    "so": "som_Latn",
    "om": "gaz_Latn",
    "zu": "zul_Latn",
    "ht": "hat_Latn",
}

# Wide codes, deprecated codes and codes of single sources, each with what it must mean.
TRAPS = {
    "zho_Hans": "zh cmn zho chi zh-Hans zh-CN cmn_Hans cmn_Hani Chinese Mandarin",
    "zho_Hant": "zh-Hant zh_TW cmn_Hant chinese_traditional",
    "nob_Latn": "no nb nob nor Norwegian",
    "nno_Latn": "nn nno",
    "swh_Latn": "sw swa swh Swahili Kiswahili SWH-LATN",
    "swc_Latn": "swc",
    "tgl_Latn": "tl tgl fil fil_Latn Filipino Tagalog",
    "heb_Hebr": "iw he heb",
    "ind_Latn": "id in ind",
    "ydd_Hebr": "yi ji yid ydd",
    "arb_Arab": "ar ara arb Arabic",
    "arb_Latn": "ar-Latn ar_rom",
    "pes_Arab": "fa fas per pes fas_Arab Farsi",
    "prs_Arab": "prs Dari",
    "gaz_Latn": "om orm gaz Oromo",
    "zsm_Latn": "ms msa zsm",
    "est_Latn": "et est ekk ekk_Latn",
    "lvs_Latn": "lv lav lvs",
    "khk_Cyrl": "mn mon khk",
    "npi_Deva": "ne nep npi",
    "ory_Orya": "or ori ory Oriya",
    "als_Latn": "sq sqi als",
    "uzn_Latn": "uz uzb uzn",
    "uzn_Cyrl": "uz-Cyrl",
    "kmr_Latn": "ku kur kmr Kurmanji",
    "plt_Latn": "mg mlg plt",
    "azj_Latn": "az aze azj",
    "pbt_Arab": "ps pus pbt",
    "srp_Cyrl": "sr srp sr-Cyrl serbian_cyrillic",
    "srp_Latn": "sr-Latn serbian_latin",
    "hin_Latn": "hi-Latn hi_rom",
    "jav_Latn": "jw jv",
    "mww_Latn": "hmn",
    "yue_Hant": "yue yue_Hani",
    "grn_Latn": "gn gug_Latn",
    "kon_Latn": "kg ktu_Latn",
    "mya_Mymr": "my my_zaw",
    "jpn_Jpan": "jp",
    "pcm_Latn": "pidgin",
    "run_Latn": "kirundi",
    "dan_Latn": "dan",
    "lat_Latn": "Latin",
}


@pytest.mark.parametrize(
    ("name", "tag"), [(name, tag) for tag, names in TRAPS.items() for name in names.split()]
)
def test_a_code_means_the_language_that_its_sources_mean(name, tag):
    assert find(name).tag == tag


@pytest.mark.parametrize(("code", "tag"), list(CORPUS.items()))
def test_the_languages_of_the_corpus_answer_to_code_tag_and_english_name(code, tag):
    language = find(code)

    assert language.tag == tag == find(tag).tag == find(language.name).tag


def test_every_file_of_the_real_corpus_has_a_language():
    if "BABELPRESS_DATA" not in os.environ:
        pytest.skip("BABELPRESS_DATA does not name a folder with text/<language>.jsonl.gz")
    files = sorted((Path(os.environ["BABELPRESS_DATA"]) / "text").glob("*.jsonl.gz"))

    tags = {find(file.name.removesuffix(".jsonl.gz")).tag for file in files}

    assert tags == set(CORPUS.values())


def test_every_language_is_found_by_its_tag_whatever_the_case_and_dashes():
    for language in all_languages():
        assert find(language.tag) is language
        assert find(language.tag.upper().replace("_", "-")) is language


def test_every_alias_finds_its_language_or_says_that_it_is_ambiguous():
    for language in all_languages():
        for alias in language.aliases:
            try:
                assert find(alias) is language
            except AmbiguousName as error:
                assert language.tag in str(error)


def test_an_autonym_finds_its_language():
    assert find("Èdè Yorùbá").tag == "yor_Latn"
    assert find("日本語").tag == "jpn_Jpan"


def test_an_ambiguous_name_lists_its_candidates():
    with pytest.raises(AmbiguousName, match="bos_Latn, hrv_Latn, srp_Cyrl, srp_Latn"):
        find("sh")
    with pytest.raises(AmbiguousName, match="dsb_Latn, hsb_Latn"):
        find("Sorbian")


def test_an_unknown_name_gives_near_misses():
    with pytest.raises(UnknownName, match=r"no language is called 'swahilli'.*'Swahili'"):
        find("swahilli")


def test_an_unknown_name_is_told_how_names_are_written_and_not_all_of_them():
    with pytest.raises(UnknownName, match=r"a code \(sw, swh\), a tag") as caught:
        find("qqqqqq")

    assert "Known" not in str(caught.value) and "more" not in str(caught.value)
    with pytest.raises(UnknownName, match="'low-resource'"):
        select("low-resorce")


@pytest.mark.parametrize("name", ["", "?", "code", "unknown", "und", "aligned", "xx-Goth"])
def test_what_is_no_language_is_not_found(name):
    with pytest.raises(UnknownName):
        find(name)


def test_ten_thousand_look_ups_take_less_than_a_second():
    find("sw")
    start = time.perf_counter()

    for _ in range(10_000):
        find("Swahili")

    assert time.perf_counter() - start < 1


def test_select_keeps_the_order_and_drops_duplicates():
    assert select("sw, en,swa ,Yoruba") == ["swh_Latn", "eng_Latn", "yor_Latn"]
    assert select(["zu", "swh_Latn", "zul"]) == ["zul_Latn", "swh_Latn"]


def test_groups_go_by_script_resource_level_and_family():
    among = ["am", "en", "sw", "ru", "yo", "ta", "ht"]

    assert select("latin", among) == ["eng_Latn", "swh_Latn", "yor_Latn", "hat_Latn"]
    assert select("non-latin", among) == ["amh_Ethi", "rus_Cyrl", "tam_Taml"]
    assert select("Cyrl", among) == ["rus_Cyrl"]
    assert select("high-resource", among) == ["eng_Latn", "rus_Cyrl"]
    assert select("mid-resource", among) == ["tam_Taml"]
    assert select("low-resource", among) == ["amh_Ethi", "swh_Latn", "yor_Latn", "hat_Latn"]
    assert select("niger_congo", among) == ["swh_Latn", "yor_Latn"]
    assert select("afro-asiatic", among) == ["amh_Ethi"]
    assert select("indo-european", among) == ["eng_Latn", "rus_Cyrl"]
    assert select("ru,niger-congo", among) == ["rus_Cyrl", "swh_Latn", "yor_Latn"]


def test_among_restricts_groups_but_not_names():
    assert select("ja,Cyrl", ["ru", "en"]) == ["jpn_Jpan", "rus_Cyrl"]


def test_a_group_without_members_is_an_error():
    with pytest.raises(BadSetting, match=r"'mayan'.*eng_Latn, swh_Latn"):
        select("mayan", ["en", "sw"])


def test_a_language_whose_name_is_a_script_code_is_the_language():
    assert select("Thai") == ["tha_Thai"]
    assert "Thai" not in groups()


def test_every_group_that_is_listed_has_members():
    for group in groups():
        assert select(group), group


def test_the_two_latin_groups_part_all_languages():
    tags = [language.tag for language in all_languages()]

    assert sorted(select("latin") + select("non-latin")) == tags


def test_the_table_is_read_once():
    assert languages.all_languages() is languages.all_languages()


def test_what_is_no_language_is_a_row_whose_script_nobody_knows():
    row = languages.find("zxx")

    assert (row.tag, row.name) == ("zxx_Zyyy", "No linguistic content")
    assert scripts.share(row.script, scripts.counts(["def f(x): return x"])) is None


# ---- directions of translation -------------------------------------------------------------


def test_a_direction_answers_as_a_language_does():
    way = find("en>sw")

    assert (way.tag, way.name) == ("eng_Latn>swh_Latn", "English to Swahili")
    assert find("Swahili > eng_Latn").tag == "swh_Latn>eng_Latn"
    assert find(way.tag) == way
    # what is written decides on script and family, unless it is English
    assert (find("en>th").script, find("th>en").script) == ("Thai", "Latn")
    assert find("en>th").family == find("th>en").family == find("th").family
    # the lower level of both
    assert (find("de>en").resource, find("de>sw").resource) == ("high", find("sw").resource)
    assert languages.sides(way.tag) == ("eng_Latn", "swh_Latn")
    assert languages.sides("swh_Latn") == ("swh_Latn",)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("en>en", BadSetting, "eng_Latn>eng_Latn is no direction: name two languages"),
        ("en>sw>ha", BadSetting, "has more than two languages"),
        ("en>klingonese", UnknownName, "klingonese"),
    ],
)
def test_what_is_no_direction_is_refused(name, error, words):
    with pytest.raises(error, match=words):
        find(name)


def test_a_language_stands_for_its_directions_among_directions():
    among = languages.both_ways(["eng_Latn", "swh_Latn", "tha_Thai"])
    sw, th = among[:2], among[2:]

    assert sw == ["eng_Latn>swh_Latn", "swh_Latn>eng_Latn"]
    assert select("sw", among=among) == sw
    assert select("th,en>sw", among=among) == [*th, sw[0]]
    assert select("en", among=among) == among
    assert select("non-latin", among=among) == ["eng_Latn>tha_Thai"]
    # one that is not there is refused by who reads it
    assert select("sw>th", among=among) == ["swh_Latn>tha_Thai"]
    assert select("sw") == ["swh_Latn"]
