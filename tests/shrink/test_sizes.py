"""Sizes as a user says them: shares and numbers, rounded down, never to nothing."""

import pytest
from running import refusal

from babelpress.errors import BadSetting
from babelpress.shrink._sizes import Size, size


@pytest.mark.parametrize(
    ("asked", "full", "multiple", "stays"),
    [
        ("0.75", 2048, 64, 1536),
        ("0.7", 640, 64, 448),  # 447.99… in floats
        ("0.75", 128, 64, 64),
        ("1500", 2048, 64, 1472),
        ("1500", 2048, 256, 1280),
        ("1.0", 1000, 64, 1000),  # all of them, whatever the multiple
        ("1000", 1000, 64, 1000),
        ("0.75", 18, 1, 13),
        ("3", 4, 1, 3),
        ("2", 4, 2, 2),
    ],
)
def test_what_stays_is_a_multiple_and_never_more_than_asked(asked, full, multiple, stays):
    assert Size(asked, "ffn", "neurons").of(full, multiple) == stays


@pytest.mark.parametrize(
    ("value", "text"), [(0.75, "0.75"), ("0.75", "0.75"), (14, "14"), (1.0, "1.0"), (None, None)]
)
def test_numbers_and_their_text_are_the_same(value, text):
    assert size(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "1.5",
        2048.0,
        "many",
        "0",
        0,
        -1,
        "nan",
        "0.0",
        "inf",
        "-0.5",
        True,
        "+1",
        "1e-999999",
        "1_0",
        "٣",
    ],
)
def test_what_is_no_size_is_one_line(value):
    line = refusal(BadSetting, size, value)

    assert str(value) in line
    assert "Write 0.75 for three quarters" in line


def test_more_than_there_are_is_one_line():
    line = refusal(BadSetting, Size("20", "blocks", "blocks").of, 18)

    assert line == (
        "--blocks 20 is more than the 18 blocks there are. Give fewer, or a share, as "
        "--blocks 0.75."
    )


def test_what_rounding_makes_nothing_is_one_line():
    line = refusal(BadSetting, Size("0.02", "ffn", "neurons").of, 2048, 64, "--multiple")

    assert line == (
        "--ffn 0.02 of 2,048 neurons is fewer than --multiple, 64, and none would be left. Give "
        "--ffn 64 or more, or a smaller --multiple than 64."
    )


def test_what_was_rounded_is_said():
    asked = Size("0.7", "ffn", "neurons")

    assert asked.rounded(2048, 1408) == "--ffn 0.7 of 2,048 neurons was rounded down to 1,408."
    assert asked.rounded(640, 448) == ""
