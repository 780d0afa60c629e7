"""The gallery: every analysis has a picture there, light and dark, and the script that takes them.

Its commands are parsed by tests/test_docs.py; they are done, all of them, by `make gallery`.
"""

import importlib.util
import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import CHROMIUM

from babelpress.insight import ANALYSES
from babelpress.insight._kept import Kept, write
from babelpress.insight._pictures import Picture, Point
from babelpress.report.insight import PAGE, write_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ALL = 1_200_000  # bytes of all pictures
TEXT = (DOCS / "gallery.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def gallery():
    """benchmarks/gallery.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "benchmarks" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_every_analysis_has_a_picture_of_its_own_in_light_and_dark(gallery):
    found = gallery.shots(TEXT)

    assert {shot.analysis for shot in found} == set(ANALYSES.names())
    shown = {str(path.relative_to(DOCS)) for path in (DOCS / "gallery").iterdir()}
    assert shown == set(re.findall(r'"(gallery/[^"]+)"', TEXT))
    assert shown == {
        f"gallery/{shot.analysis}-{shot.picture}-{scheme}.png"
        for shot in found
        for scheme in gallery.SCHEMES
    }


def test_pictures_are_small_and_those_of_both_schemes_equally_large(gallery):
    sizes = []
    for shot in gallery.shots(TEXT):
        both = [Path(str(shot.path).replace("SCHEME", each)) for each in gallery.SCHEMES]
        light, dark = (path.read_bytes() for path in both)

        assert size(light) == size(dark) and light != dark
        sizes += [len(light), len(dark)]
    assert max(sizes) <= gallery.LARGEST and sum(sizes) < ALL


def test_the_commands_of_the_page_look_with_every_analysis(gallery):
    lines = gallery.command_lines(TEXT)

    assert {program for program, *_ in lines} == {"babelpress"}
    looks = [words for _, name, *words in lines if name == "insight"]
    asked = [words[words.index("--on") + 1].split(",") for words in looks]
    assert sorted(name for each in asked for name in each) == ANALYSES.names()
    assert "(gallery.md)" in (DOCS / "insight.md").read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium")
def test_a_picture_of_two_panels_shows_both_side_by_side(gallery, tmp_path):
    points = tuple(
        Point(run, str(block), "Swahili", value * (block + 1))
        for run, value in (("english", 3.0), ("uniform", 1.0))
        for block in range(3)
    )
    heat = Picture(
        *("languages", "Whose?", "Swahili's.", points),
        across="block",
        down="language",
        value="dB",
        panel="run",
    )
    alone = replace(heat, name="alone", points=points[:3])
    kept = Kept("damage", "f00", "What pressing damages, and where", "m", {}, (heat, alone), {})
    write(tmp_path / "inside", kept, json.loads('[{"value": 1.0}]'), {})
    write_page([kept], tmp_path / "inside" / PAGE, model="m", runs=["english", "uniform"])
    shots = [
        gallery.Shot("damage", name, tmp_path / f"{name}-SCHEME.png")
        for name in ("languages", "alone")
    ]

    said = list(gallery.take(shots, tmp_path))

    assert said[2] == said[5] == "  Swahili's." and len(said) == 6
    light, dark, one = (
        (tmp_path / f"{name}.png").read_bytes()
        for name in ("languages-light", "languages-dark", "alone-light")
    )
    assert size(light) == size(dark) and light != dark
    assert size(light)[0] == size(one)[0] and size(light)[1] > size(one)[1]  # titles over panels


def test_a_picture_that_is_too_large_is_refused_and_not_written(gallery, tmp_path):
    shot = gallery.Shot("damage", "languages", tmp_path / "x-SCHEME.png")

    with pytest.raises(ValueError, match=r"x-dark\.png has 120,001 bytes, over 120,000\."):
        gallery.save(shot, "dark", b"x" * 120_001)
    assert not list(tmp_path.iterdir())
