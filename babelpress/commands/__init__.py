"""The public API: one function per command, same name, same options.

Every function gives an Outcome: rows of plain values (what `--json` prints; the `Returns` of a
docstring lists their keys) and where the result lies. Help texts of the command line are these
docstrings. Heavy packages are imported inside the functions, so that `babelpress --help` answers at
once.
"""

from babelpress.commands.exporting import export
from babelpress.commands.judging import compare, demo, evaluate, gate, report
from babelpress.commands.looking import doctor, languages, mixture
from babelpress.commands.outcome import Outcome
from babelpress.commands.pressing import calibrate, press, prune, quantize
from babelpress.commands.sweeping import sweep

__all__ = [
    "Outcome",
    "calibrate",
    "compare",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "gate",
    "languages",
    "mixture",
    "press",
    "prune",
    "quantize",
    "report",
    "sweep",
]
