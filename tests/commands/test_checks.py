"""Whatever is wrong with a call and cheap to know is told before torch is imported."""

import json
import subprocess
import sys

import pytest

from babelpress import commands
from babelpress.commands import checks
from babelpress.errors import BabelpressError

CALLS = """
import json, sys
from babelpress import commands
from babelpress.errors import BabelpressError
said = []
for name, given in json.loads(sys.argv[1]):
    try:
        commands.COMMANDS[name](**given)
        said.append("nothing")
    except BabelpressError as error:
        said.append(str(error))
    assert "torch" not in sys.modules, (name, given, said[-1])
print(json.dumps(said))
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "y").write_text("x")
    (tmp_path / "r.yaml").write_text(
        "calibration: {languages: [swq]}\nsteps: [{prune: {}}, {quantize: {}}]\n"
    )
    (tmp_path / "seen").mkdir()
    seen = {"identity": {"languages": ["eng_Latn", "swh_Latn"]}}
    (tmp_path / "seen" / "manifest.json").write_text(json.dumps(seen))
    for name, corpus in (("told", "nowhere"), ("own", "self")):
        (tmp_path / name).mkdir()
        made_of = json.dumps({**seen, "calibration": {"corpus": corpus}})
        (tmp_path / name / "manifest.json").write_text(made_of)
    (tmp_path / "packed" / "model").mkdir(parents=True)
    (tmp_path / "packed" / "model" / "config.json").write_text('{"model_type": "llama"}')
    made = {"kind": "quantize", "model": {"name": "m", "fingerprint": "f"}}
    manifest = {"recipe": {}, "steps": [made], "cost": {}, "surroundings": {}}
    (tmp_path / "packed" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "s.yaml").write_text("model: nomodel\nsteps: [{prune: {propagate: dense}}]\n")
    scored = (
        "model: babel-mini\nsteps: [{prune: {propagate: dense}}]\nevaluate: {corpus: nowhere}\n"
    )
    (tmp_path / "e.yaml").write_text(scored)
    return tmp_path


MINI = {"model": "babel-mini"}
WRONG = [
    ("calibrate", {"model": "nomodel", "out": "o"}, "'nomodel' is neither"),
    ("calibrate", {**MINI, "out": "o", "languages": "swq"}, "no language is called 'swq'"),
    ("calibrate", {**MINI, "out": "o", "corpus": "nowhere"}, "there is no folder nowhere"),
    ("calibrate", {**MINI, "out": "o", "evaluation": "nowhere"}, "there is no folder nowhere"),
    ("calibrate", {**MINI, "out": "afile"}, "afile is a file"),
    ("calibrate", {**MINI, "out": "afile/o"}, "afile is a file"),
    ("calibrate", {**MINI, "out": "full"}, "full is not empty and no moments folder"),
    ("insight", {"dense": "nomodel", "on": "similarity"}, "'nomodel' is neither"),
    ("insight", {"dense": "babel-mini", "on": "damage"}, "damage needs 1 run at least"),
    ("insight", {"runs": "full", "on": "damage"}, "full is no finished run"),
    (
        "insight",
        {"dense": "babel-mini", "on": "similarity", "moments": "full"},
        "no moments folder",
    ),
    ("insight", {"dense": "babel-mini", "on": "similarit"}, "no analysis is called 'similarit'"),
    ("insight", {"dense": "babel-mini", "on": "neurons", "out": "afile"}, "afile is a file"),
    (
        "insight",
        {"dense": "babel-mini", "on": "similarity,neurons", "option": ["rate=2"]},
        "neurons's option rate must be over 0 and at most 1; it is 2",
    ),
    ("insight", {"dense": "babel-mini", "on": "neurons", "languages": "sw"}, "needs 2 of them"),
    (
        "insight",
        {"dense": "babel-mini", "on": "features", "moments": "seen", "languages": "fr"},
        "seen has no moments of fra_Latn; it has eng_Latn, swh_Latn",
    ),
    ("prune", {**MINI, "out": "full"}, "full is not empty and holds no run"),
    ("prune", {**MINI, "out": "o", "mixture": "unform"}, "no mixture policy is called 'unform'"),
    ("prune", {**MINI, "out": "o", "moments": "full"}, "full has no manifest.json"),
    ("prune", {**MINI, "out": "o", "moments": "seen", "mixture": "unform"}, "called 'unform'"),
    ("prune", {**MINI, "out": "o", "moments": "seen", "mixture": "only:fr"}, "share to fra_Latn"),
    ("prune", {**MINI, "out": "o", "pattern": "4of2"}, "keep 4 of 2 makes no sense"),
    ("prune", {**MINI, "out": "o", "option": ["damp=1"]}, "wanda has no option damp"),
    ("prune", {**MINI, "out": "o", "languages": "swq"}, "no language is called 'swq'"),
    ("quantize", {"model": "nomodel", "out": "o"}, "'nomodel' is neither"),
    ("quantize", {**MINI, "out": "o", "bits": 5}, "bits is 5"),
    ("press", {**MINI, "recipe_file": "r.yaml", "out": "o"}, "no language is called 'swq'"),
    ("press", {**MINI, "recipe_file": "none.yaml", "out": "o"}, "none.yaml cannot be read"),
    (
        "prune",
        {**MINI, "out": "o", "method": "worst_language", "option": ["p=8"]},
        "worst_language's p is for over=pnorm, not for max",
    ),
    (
        "prune",
        {**MINI, "out": "o", "method": "ria", "option": ["permute=true"]},
        "ria's permute is for patterns that keep n of m, not for 0.5",
    ),
    ("eval", {"model": "nomodel", "out": "o"}, "'nomodel' is neither"),
    ("eval", {**MINI, "out": "afile"}, "afile is a file"),
    ("eval", {**MINI, "out": "o", "languages": "swq"}, "no language is called 'swq'"),
    ("eval", {**MINI, "on": "rankc", "languages": "swq"}, "no language is called 'swq'"),
    ("quantize", {"model": "packed", "out": "o"}, "packed: no step can follow its quantize, for"),
    (
        "eval",
        {**MINI, "option": ["stride=abc"]},
        "bits_per_byte's option stride must be of the type int; it is 'abc'",
    ),
    (
        "eval",
        {**MINI, "on": "rankc", "option": ["task=5"]},
        "rankc's option task must be of the type str; it is 5",
    ),
    ("eval", {**MINI, "on": "range"}, "range must know what calibration saw, and babel-mini"),
    ("eval", {**MINI, "moments": "seen"}, "--moments has no effect on bits_per_byte"),
    ("eval", {**MINI, "generate": 4}, "add --out"),
    ("compare", {"dense": "nowhere", "runs": "full"}, "there is no folder nowhere"),
    ("export", {**MINI, "out": "o", "format": "gguf", "option": ["kid=f16"]}, "has no option kid"),
    ("export", {**MINI, "out": "o", "format": "gguf", "against": "nowhere"}, "no folder nowhere"),
    ("export", {**MINI, "out": "o", "format": "gguf", "type": "q4_x"}, "kind is 'q4_x'. Choose"),
    (
        "export",
        {**MINI, "out": "o", "format": "imatrix", "moments": "seen"},
        "--moments needs shares of languages",
    ),
    (
        "export",
        {**MINI, "out": "o", "format": "imatrix", "moments": "seen", "mixture": "only:ha"},
        "ha",
    ),
    (
        "export",
        {**MINI, "out": "o", "format": "imatrix", "moments": "seen", "mixture": "minimax"},
        "minimax is found while pressing",
    ),
    (
        "export",
        {**MINI, "out": "o", "format": "imatrix", "moments": "seen", "mixture": "measured"},
        "measured is found while pressing",
    ),
    (
        "prune",
        {**MINI, "out": "o", "mixture": "measured", "corpus": "self"},
        "plain text that was not read, and the calibration reads self",
    ),
    (
        "quantize",
        {**MINI, "out": "o", "mixture": "measured", "moments": "told"},
        "the mixture measured needs more of the text that told was made of: there is no folder",
    ),
    (
        "prune",
        {**MINI, "out": "o", "mixture": "measured", "moments": "own"},
        "plain text that was not read, and moments in own are of self",
    ),
    (
        "export",
        {**MINI, "out": "o", "format": "imatrix", "moments": "full", "mixture": "uniform"},
        "it is no moments folder",
    ),
    (
        "export",
        {**MINI, "out": "o", "format": "imatrix", "mixture": "uniform"},
        "--mixture is read with --moments",
    ),
    ("export", {"model": "nomodel", "out": "o", "format": "gguf"}, "'nomodel' is neither"),
    ("export", {**MINI, "out": "full", "format": "gguf"}, "full exists already"),
    ("export", {**MINI, "out": "o", "format": "ggug"}, "no export format is called 'ggug'"),
    ("export", {**MINI, "out": "o", "format": "onnx"}, "only encoders are written as onnx"),
    ("report", {"dense": "full", "runs": "full", "out": "full"}, "full is a folder"),
    ("sweep", {"sweep_file": "s.yaml", "out": "o"}, "'nomodel' is neither"),
    ("sweep", {"sweep_file": "e.yaml", "out": "o"}, "there is no folder nowhere"),
    ("languages", {"model": "nomodel"}, "'nomodel' is neither"),
    ("languages", {**MINI, "only": "swq"}, "no language is called 'swq'"),
    ("mixture", {"policy": "unform"}, "no mixture policy is called 'unform'"),
]


def test_what_is_cheap_to_know_is_told_without_torch(places):
    calls = json.dumps([[name, given] for name, given, _ in WRONG])
    made = subprocess.run(
        [sys.executable, "-c", CALLS, calls],
        check=False,
        capture_output=True,
        text=True,
        cwd=places,
    )
    assert not made.returncode, made.stderr
    for (name, given, words), said in zip(WRONG, json.loads(made.stdout), strict=True):
        assert words in said, (name, given)
    assert {path.name for path in places.iterdir()} == {
        "afile",
        "full",
        "seen",
        "packed",
        "told",
        "own",
        "r.yaml",
        "s.yaml",
        "e.yaml",
    }


def test_a_folder_that_may_not_be_written_is_told(places, monkeypatch):
    monkeypatch.setattr(checks.os, "access", lambda *_: False)
    with pytest.raises(BabelpressError, match="may not be written"):
        commands.calibrate("babel-mini", out="o")


def test_a_hub_is_asked_for_nothing():
    checks.model("owner/name@0123abc")
    assert checks.text("hub:owner/texts", ["sw"]) == ["swh_Latn"]
    assert checks.text("hub:owner/texts") == []


def test_whoever_waits_for_imports_is_told(monkeypatch):
    seen = []
    monkeypatch.delitem(sys.modules, "babelpress.models.open", raising=False)
    monkeypatch.setattr(checks.importlib, "import_module", seen.append)
    checks.load(lambda *each: seen.append(each))
    assert seen == [(checks.HEAVY, 0, 1), "babelpress.models.open", (checks.HEAVY, 1, 1)]
    seen.clear()
    monkeypatch.undo()
    __import__("babelpress.models.open")
    checks.load(lambda *each: seen.append(each))
    assert not seen
