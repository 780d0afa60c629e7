import pytest

from babelpress.text import scripts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Maji, ni uhai! 123", {"Latn": 10}),
        ("привет", {"Cyrl": 6}),
        ("ውሃ", {"Ethi": 2}),
        ("水を飲むカメラー々", {"Hani": 3, "Hira": 2, "Kana": 4}),
        ("물 水", {"Hang": 1, "Hani": 1}),
        ("ᱥᱟ ߒߞߏ ａ", {"Olck": 2, "Nkoo": 3, "Latn": 1}),
        ("१२ 🙂 …", {"Deva": 2}),
    ],
)
def test_characters_are_counted_by_script(text, expected):
    assert scripts.counts([text[:2], text[2:]]) == expected


@pytest.mark.parametrize(
    ("script", "text", "share"),
    [
        ("Latn", "abc я", 0.75),
        ("Jpan", "水をカ я", 0.75),
        ("Hans", "水木 ab", 0.5),
        ("Hang", "물水火 a", 0.75),
        ("Kore", "물水 ab", 0.5),
        ("Latn", "123 …", None),
        ("Zzzz", "abc", None),
    ],
)
def test_the_share_of_a_script_counts_all_its_parts(script, text, share):
    assert scripts.share(script, scripts.counts([text])) == share
