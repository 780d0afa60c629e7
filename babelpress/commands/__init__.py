"""The public functions: one for each command, same name, same options.

Every function gives an Outcome: rows of plain values (what `--json` prints) and where the result
lies. Options, defaults and help are declared once, in the settings of steps and evaluations or in
the signatures here (declared.py). Heavy packages are imported inside the functions, so that
`babelpress --help` answers at once.
"""

from collections.abc import Callable
from typing import Any

from babelpress.commands.advising import advise
from babelpress.commands.comparing import compare, gate, report
from babelpress.commands.demo import demo
from babelpress.commands.exporting import export
from babelpress.commands.fitting import fit
from babelpress.commands.inside import insight
from babelpress.commands.judging import evaluate
from babelpress.commands.looking import doctor, languages, mixture
from babelpress.commands.outcome import Outcome
from babelpress.commands.pressing import calibrate, press, step
from babelpress.commands.sweeping import sweep
from babelpress.commands.writing import write
from babelpress.steps import KINDS

eval = evaluate
prune, quantize = step("prune"), step("quantize")

COMMANDS: dict[str, Callable[..., Outcome]] = {
    "demo": demo,
    "languages": languages,
    "mixture": mixture,
    "calibrate": calibrate,
    "prune": prune,
    "quantize": quantize,
    **{kind: step(kind) for kind in KINDS.names() if kind not in ("prune", "quantize")},
    "write": write,
    "press": press,
    "sweep": sweep,
    "advise": advise,
    "fit": fit,
    "eval": evaluate,
    "compare": compare,
    "gate": gate,
    "report": report,
    "insight": insight,
    "export": export,
    "doctor": doctor,
}


def __getattr__(name: str) -> Any:
    """The command of a kind of step that this file does not name."""
    if name in COMMANDS:
        return COMMANDS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
