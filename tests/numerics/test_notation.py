"""Patterns and grids are read and checked as they are written, without torch."""

import subprocess
import sys

import pytest

from babelpress.errors import BadSetting
from babelpress.numerics import notation
from babelpress.numerics.patterns import parse

WRITTEN = {
    "0.5": "0.5",
    " .25 ": "0.25",
    "0.5/layer": "0.5/layer",
    "0.30/128": "0.3/128",
    "2of4": "2of4",
    "2 : 4": "2of4",
    "1 of 8": "1of8",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_pattern_is_written_in_one_way_only(text):
    assert notation.written(text) == WRITTEN[text] == str(parse(text))


@pytest.mark.parametrize("text", ["half", "1.0", "-0.1", "0.5/0", "0.5/x", "5of4", "0of4", "3:4"])
def test_what_is_no_pattern_is_refused_alike(text):
    said = set()
    for read in (notation.pattern, notation.written, parse):
        with pytest.raises(BadSetting) as caught:
            read(text)
        said.add(str(caught.value))
    assert len(said) == 1


def test_a_grid_that_there_is_not_is_refused():
    notation.check_grid(3, "channel", "mse")
    for wrong in ((5, 16, "mse"), (4, 0, "mse"), (4, "row", "mse"), (4, 16, "max")):
        with pytest.raises(BadSetting, match=r"Choose one of|Give a number"):
            notation.check_grid(*wrong)


def test_nothing_heavy_is_imported():
    code = "import sys, babelpress.numerics.notation; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
