"""One file is enough: it is written into a copy of the package, and everything knows of it.

A criterion, a rule of allocation, an evaluation, an export format and a kind of step, each used
through the command line of the copy and found in help, recipe, card, report and reference page.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pico
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from babelpress.moments.moments import Moments
from babelpress.moments.store import Store

ROOT = Path(__file__).parents[1]
REFERENCE = Path("docs") / "reference.py"
RECIPES = Path("docs") / "recipes.md"
TEXT = "--languages en,sw --tokens 96 --length 32"
CALIBRATION = "calibration: {languages: [en, sw], tokens: 96, length: 32}"
DRIVER = """
import contextlib, io, json, os, runpy, sys, traceback
from pathlib import Path

import babelpress
from babelpress import cli

copy = Path.cwd()
assert Path(babelpress.__file__).parent == copy / "babelpress", babelpress.__file__
found = {}
for kind, lines in json.load(sys.stdin).items():
    os.chdir(copy / kind)
    found[kind] = {}
    for name, words in lines.items():
        paper, code = io.StringIO(), None
        with contextlib.redirect_stdout(paper), contextlib.redirect_stderr(paper):
            try:
                code = cli.main(words) if isinstance(words, list) else print(eval(words))
            except Exception:
                traceback.print_exc()
        found[kind][name] = [code, paper.getvalue()]
os.chdir(copy)
runpy.run_path("docs/reference.py")["main"]()
print(json.dumps(found))
"""


# ---- a file is added -----------------------------------------------------------------------


@dataclass(frozen=True)
class Used:
    """What came of the commands of one file: exit codes, and what they printed."""

    folder: Path
    codes: dict[str, int | None]
    said: dict[str, str]

    @classmethod
    def of(cls, folder: Path, found: dict[str, tuple[int | None, str]]) -> "Used":
        """From what the driver says."""
        codes = {name: code for name, (code, _) in found.items()}
        return cls(folder, codes, {name: text for name, (_, text) in found.items()})

    @property
    def docs(self) -> str:
        """The generated pages of the copy."""
        pages = ("reference.md", RECIPES.name)
        docs = self.folder.parent / "docs"
        return "\n".join((docs / page).read_text(encoding="utf-8") for page in pages)

    def words(self, *path: str) -> str:
        """A text file below the folder."""
        return self.folder.joinpath(*path).read_text(encoding="utf-8")

    def rows(self, name: str) -> list[dict]:
        """The rows of a command that was given --json."""
        return json.loads(self.said[name].strip().splitlines()[-1])["results"]

    def step(self, run: str) -> dict:
        """The last step of a run's manifest."""
        return json.loads(self.words(run, "manifest.json"))["steps"][-1]

    def weights(self, *path: str) -> dict[str, torch.Tensor]:
        """The weights of a run, or of the folder of a model."""
        return load_file(self.folder.joinpath(*path) / "model.safetensors")


@dataclass(frozen=True)
class Added:
    """One file of the package, what lies beside it, and the command lines that are done with it."""

    path: str
    source: str
    files: dict[str, str]
    lines: dict[str, str]


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """What came of all: the files are added to one copy, and one process does all command lines.

    To import what models need takes longer than the commands do.
    """
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "babelpress", copy / "babelpress")
    (copy / REFERENCE).parent.mkdir()
    for name in (REFERENCE, RECIPES):
        shutil.copy(ROOT / name, copy / name)
    added = {}
    for kind, add in ADDED.items():
        (copy / kind).mkdir()
        added[kind] = add(copy / kind)
        beside(copy / kind, added[kind].files)
    before = hashes(copy)
    for each in added.values():
        (copy / "babelpress" / each.path).write_text(each.source, encoding="utf-8")
    asked = {kind: dict(map(as_words, each.lines.items())) for kind, each in added.items()}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(asked),
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    changed = {name for name, _ in before.items() ^ hashes(copy).items()}
    assert changed == {f"babelpress/{each.path}" for each in added.values()}
    return {kind: Used.of(copy / kind, lines) for kind, lines in found.items()}


def as_words(line: tuple[str, str]) -> tuple[str, str | list[str]]:
    """A command line as words; a call of the library as it is."""
    name, text = line
    return name, text if text.startswith("babelpress.") else shlex.split(text)


def beside(folder: Path, files: Mapping[str, str]) -> None:
    """A folder with a pico model and some files in it."""
    pico.model().save_pretrained(folder / "tiny")
    pico.tokenizer().save_pretrained(folder / "tiny")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def hashes(folder: Path) -> dict[str, str]:
    """What every file of the copy holds."""
    paths = [*folder.glob("babelpress/**/*.*"), folder / REFERENCE]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.suffix not in (".pyc", ".pyi")
    }


def in_blocks(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The linears of the blocks."""
    return {name: each for name, each in weights.items() if name.endswith("_proj.weight")}


def zeros_of_rows(weights: dict[str, torch.Tensor], block: int, name: str) -> list[int]:
    """How many zeros each row of a linear of a block has."""
    return (weights[f"model.layers.{block}.{name}.weight"] == 0).sum(1).tolist()


# ---- a criterion ---------------------------------------------------------------------------

CRITERION = '''\
"""Mean size: a weight matters as much as the mean size of its input. Shapes: O outputs, I inputs.

Ours: no paper.
"""

from torch import Tensor

from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

READS = ("sumabs",)
DIFFERS = ("There is no paper to differ from.",)


def prune(weight_OI: Tensor, stats: Blend, pattern: Pattern, *, power: float = 1.0) -> Tensor:
    """Zero the weights with the lowest |w| * mean(|x|)^power."""
    score_OI = weight_OI.float().abs() * stats.require_mean_abs().float() ** power
    return zero_lowest(weight_OI, score_OI, stats, pattern)
'''
CRITERION_RECIPE = f"""\
{CALIBRATION}
steps:
  - prune: {{method: mean_size, pattern: "0.25", options: {{power: 3.0}}}}
"""


def add_criterion(folder: Path) -> Added:
    by_hand = "prune tiny --moments moments --pattern 0.25 --mixture shares.yaml --method"
    return Added(
        "prune/mean_size.py",
        CRITERION,
        {"recipe.yaml": CRITERION_RECIPE, "shares.yaml": "en: 0.2\nsw: 0.8\n"},
        {
            "help": "prune --help",
            "calibrate": f"calibrate tiny {TEXT} --out moments",
            "run": f"{by_hand} mean_size --option power=2.0 --out run",
            "plain": f"{by_hand} mean_size --out plain",
            "magnitude": f"{by_hand} magnitude --out magnitude",
            "other": f"{by_hand} mean_size --option strength=2 --out other",
            "press": "press tiny recipe.yaml --out pressed",
            "dense": "eval tiny --languages en,sw --documents 2 --out dense",
            "eval": "eval run --languages en,sw --documents 2",
            "report": "report dense run --out report.html",
            "export": "export run --format safetensors --against dense --out exported",
        },
    )


def mean_sizes(seen: Mapping[str, Moments]) -> list[float]:
    """The mean of |x| of every input, with the shares of shares.yaml."""
    english, swahili = seen["eng_Latn"], seen["swh_Latn"]
    assert english.sumabs_I is not None
    assert swahili.sumabs_I is not None
    sums = zip(english.sumabs_I.tolist(), swahili.sumabs_I.tolist(), strict=True)
    return [0.2 * one / english.n + 0.8 * other / swahili.n for one, other in sums]


def slow_mean_size(row: list[float], means: list[float]) -> list[float]:
    """The definition with a power of 2, one weight at a time; a quarter of the row goes."""
    scores = [abs(w) * mean**2 for w, mean in zip(row, means, strict=True)]
    lowest = sorted(range(len(row)), key=scores.__getitem__)[: len(row) // 4]
    return [0.0 if j in lowest else w for j, w in enumerate(row)]


def test_a_criterion_zeros_what_its_definition_says_as_plain_loops(criterion):
    dense, pruned = criterion.weights("tiny"), criterion.weights("run", "model")
    store, seen = Store.open(criterion.folder / "moments"), set()

    for block in range(2):
        for site, by_language in store.load(block).items():
            means = mean_sizes(by_language)
            for name in (f"model.layers.{block}.{linear}.weight" for linear in site.linears):
                expected = [slow_mean_size(row, means) for row in dense[name].tolist()]
                assert pruned[name].tolist() == expected
                seen.add(name)
    assert seen == set(in_blocks(dense))


def test_a_criterion_has_an_option_of_its_own_that_the_command_line_sets(criterion):
    names = ("run", "plain", "magnitude")
    runs = [in_blocks(criterion.weights(name, "model")) for name in names]
    masks = [torch.cat([(w == 0).flatten() for w in each.values()]) for each in runs]

    assert [int(mask.sum()) for mask in masks] == [3840] * 3
    assert not any(torch.equal(masks[i], masks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert criterion.step("run")["step"]["options"] == {"power": 2.0}
    assert criterion.codes["other"] == 2
    assert "mean_size has no option strength. It accepts power=1.0." in criterion.said["other"]


def test_a_criterion_is_in_help_and_recipe(criterion):
    assert "mean_size, " in criterion.said["help"]  # among the others
    assert criterion.codes["press"] == 0
    (step,) = yaml.safe_load(criterion.words("pressed", "recipe.yaml"))["steps"]
    assert step["prune"]["method"] == "mean_size"
    assert step["prune"]["options"] == {"power": 3.0}
    assert "mean_size 0.25: 3,840 of 15,360 weights are zero." in criterion.said["press"]


def test_a_criterion_is_in_card_report_and_docs(criterion):
    assert criterion.codes["report"] == criterion.codes["export"] == 0
    card = criterion.words("exported", "README.md")
    assert "# tiny: mean\\_size 0.25" in card
    assert "| mean\\_size | 0.25; power 2.0 |" in card
    assert "mean_size 0.25</bdi>" in criterion.words("report.html")
    line = next(x for x in criterion.docs.splitlines() if x.startswith("- **mean_size** — "))
    assert "as much as the mean size of its input." in line
    assert "Options: `power=1.0`. Differs: There is no paper" in line


# ---- a rule of allocation ------------------------------------------------------------------

RULE = '''\
"""Slope: the deeper a block, the less of it stays; `fall` is between the first and the last."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from babelpress.moments.blend import Blend


def measure(weights: Mapping[str, Tensor], stats: Mapping[str, Blend]) -> float:
    """Nothing: only the place of a block counts."""
    return 0.0


def densities(measured: Sequence[float], density: float, *, fall: float = 0.2) -> list[float]:
    """On a line, `density` in the mean."""
    last = max(1, len(measured) - 1)
    return [density + fall * (0.5 - block / last) for block in range(len(measured))]
'''
RULE_RECIPE = f"""\
{CALIBRATION}
steps:
  - prune:
      {{method: magnitude, pattern: "0.25", allocate: slope, allocation: {{fall: -0.1}}}}
"""
SQUARE, WIDE = "self_attn.q_proj", "mlp.down_proj"  # 32 and 48 inputs


def add_rule(folder: Path) -> Added:
    asked = f"prune tiny {TEXT} --method magnitude --pattern 0.25 --allocate slope"
    return Added(
        "allocate/slope.py",
        RULE,
        {"recipe.yaml": RULE_RECIPE},
        {
            "help": "prune --help",
            "run": f"{asked} --allocate-option fall=0.1 --out run",
            "other": f"{asked} --allocate-option rise=0.1 --out other",
            "press": "press tiny recipe.yaml --out pressed",
            "dense": "eval tiny --languages en,sw --documents 2 --out dense",
            "eval": "eval run --languages en,sw --documents 2",
            "report": "report dense run --out report.html",
            "export": "export run --format safetensors --against dense --out exported",
        },
    )


# 0.2 of 32 and 48 inputs are 6.4 and 9.6, 0.3 are 9.6 and 14.4; sums must be 16 and 24.
def test_a_rule_of_allocation_gives_blocks_their_own_with_exact_totals(rule):
    run = rule.weights("run", "model")

    assert zeros_of_rows(run, 0, SQUARE) == [6] * 32
    assert zeros_of_rows(run, 1, SQUARE) == [10] * 32
    assert zeros_of_rows(run, 0, WIDE) == [10] * 32
    assert zeros_of_rows(run, 1, WIDE) == [14] * 32
    assert rule.step("run")["zeros"] == 15360 // 4
    assert rule.step("run")["allocated"] == [1472 / 7680, 2368 / 7680]


def test_a_rule_of_allocation_has_an_option_of_its_own_that_a_recipe_sets(rule):
    pressed = rule.weights("pressed", "model")

    assert rule.codes["press"] == 0
    assert zeros_of_rows(pressed, 0, SQUARE) == [10] * 32
    assert zeros_of_rows(pressed, 1, SQUARE) == [6] * 32
    assert rule.codes["other"] == 2
    assert "slope has no option rise. It accepts fall=0.2." in rule.said["other"]


def test_a_rule_of_allocation_is_in_help_recipe_card_report_and_docs(rule):
    assert "dlp, minimax, owl, slope, uniform" in rule.said["help"]
    (step,) = yaml.safe_load(rule.words("run", "recipe.yaml"))["steps"]
    assert (step["prune"]["allocate"], step["prune"]["allocation"]) == ("slope", {"fall": 0.1})
    assert rule.codes["report"] == rule.codes["export"] == 0
    assert "| magnitude | 0.25; by block as slope says |" in rule.words("exported", "README.md")
    assert "&#34;allocate&#34;: &#34;slope&#34;" in rule.words("report.html")
    assert "- **slope** — Slope: the deeper a block, the less of it stays" in rule.docs
    assert "Options: `fall=0.2`." in rule.docs


# ---- an evaluation -------------------------------------------------------------------------

PROVERBS = {
    "eng_Latn": (
        "The early bird catches the worm.",
        "All that glitters is not gold.",
        "A friend in need is a friend indeed.",
        "Where there is smoke there is fire.",
    ),
    "swh_Latn": (
        "Haraka haraka haina baraka.",
        "Haba na haba hujaza kibaba.",
        "Umoja ni nguvu, utengano ni udhaifu.",
        "Asiyefunzwa na mamaye hufunzwa na ulimwengu.",
        "Mtoto umleavyo ndivyo akuavyo.",
    ),
}
EVALUATION = '''\
"""First k: the share of next tokens that are among the `k` that the model ranks first.

Its documents are its own: proverbs, the corpus `proverbs`.

Shapes: N scored tokens, V vocabulary.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from babelpress.errors import BadCorpus
from babelpress.evals._next_token import sums
from babelpress.evals._windows import prepare
from babelpress.numerics.tally import Tally
from babelpress.system.progress import silent

METRIC = "first_k"
SPOKEN = "share of next tokens ranked high"
LOWER_IS_BETTER = False
PROVERBS = {}


@dataclass(frozen=True)
class Proverb:
    id: str
    text: str


class Proverbs:
    name = "proverbs"

    def languages(self) -> list[str]:
        return list(PROVERBS)

    def documents(self, tag: str, split: str) -> Sequence[Proverb]:
        return [Proverb(f"proverb-{n}", text) for n, text in enumerate(PROVERBS[tag])]

    def require(self, tags: Iterable[str]) -> None:
        if missing := set(tags) - set(PROVERBS):
            raise BadCorpus(f"there are no proverbs in {', '.join(sorted(missing))}.")


def texts(corpus: str) -> Proverbs:
    if corpus != "proverbs":
        raise BadCorpus(f"{corpus} is not what first_k reads. Write --corpus proverbs.")
    return Proverbs()


def measure(
    model, tokenizer, documents, *, window: int, k: int = 5, memory_mb: int = 256, progress=silent
) -> dict[str, Tally]:
    prepared = prepare(tokenizer, documents, window=window)
    hits = sums(
        model, prepared, partial(_hit, k=k), what="first k", memory_mb=memory_mb, progress=progress
    )
    return {tag: Tally(one.documents, hits[tag], _tokens(one)) for tag, one in prepared.items()}


def _hit(logits_NV: Tensor, target_N: Tensor, *, k: int) -> Tensor:
    own_N1 = logits_NV.gather(1, target_N[:, None])
    return ((logits_NV > own_N1).sum(1) < k).float()


def _tokens(prepared) -> np.ndarray:
    found_D = np.zeros(len(prepared.documents))
    for window in prepared.windows:
        found_D[window.document] += window.scored
    return found_D
'''.replace("PROVERBS = {}", f"PROVERBS = {PROVERBS}")
EVALUATION_SWEEP = """\
model: mini
calibration: {languages: [en, sw], tokens: 96, length: 32}
steps:
  - prune: {method: magnitude, pattern: "0.75", mixture: uniform}
evaluate: {on: [first_k], corpus: proverbs, options: {k: 40}}
"""


def add_evaluation(folder: Path) -> Added:
    on = "--on first_k --corpus proverbs"
    # In float32, so that no rank hangs on how a batch is rounded.
    embedded = ROOT / "babelpress" / "data" / "babel-mini"
    AutoModelForCausalLM.from_pretrained(embedded).float().save_pretrained(folder / "mini")
    AutoTokenizer.from_pretrained(embedded).save_pretrained(folder / "mini")
    return Added(
        "evals/first_k.py",
        EVALUATION,
        {"sweep.yaml": EVALUATION_SWEEP},
        {
            "help": "eval --help",
            "dense": f"eval mini {on} --option k=40 --out dense --json",
            "every": f"eval mini {on} --option k=8192 --out every --json",
            "plain": f"eval mini {on} --out plain --json",
            "elsewhere": "eval mini --on first_k --out elsewhere",
            "other": f"eval mini {on} --option depth=3 --out other",
            "prune": f"prune mini {TEXT} --method magnitude --pattern 0.75 --out run",
            "eval": f"eval run {on} --option k=40 --json",
            "compare": "compare dense run --on first_k --json",
            "failed": "gate run --against dense --on first_k --max-loss 0.05",
            "passed": "gate dense --against run --on first_k --max-loss 0.05",
            "report": "report dense run --on first_k --out report.html",
            "sweep": "sweep sweep.yaml --out swept --json",
        },
    )


def slow_first_k(folder: Path, k: int) -> dict[str, float]:
    """The definition, one token at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = {}
    for tag, texts in PROVERBS.items():
        hits = tokens = 0
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            for place, token in enumerate(ids):
                before = torch.tensor([[tokenizer.bos_token_id, *ids[:place]]])
                with torch.no_grad():
                    logits = model(before).logits[0, -1].tolist()
                hits += sum(each > logits[token] for each in logits) < k
                tokens += 1
        found[tag] = hits / tokens
    return found


def by_language(rows: list[dict], key: str = "value") -> dict[str, float]:
    return {row["language"]: row[key] for row in rows if row["language"] and row[key] is not None}


def test_an_evaluation_scores_its_own_documents_as_its_definition_says(evaluation):
    dense, run = evaluation.rows("dense"), evaluation.rows("eval")

    assert [row["documents"] for row in dense] == [4, 5]
    assert {row["corpus"] for row in dense} == {"proverbs"}
    assert by_language(dense) == slow_first_k(evaluation.folder / "mini", 40)
    assert by_language(run) == slow_first_k(evaluation.folder / "run" / "model", 40)


def test_an_evaluation_has_an_option_of_its_own(evaluation):
    many, plain = by_language(evaluation.rows("dense")), by_language(evaluation.rows("plain"))

    assert all(0 < plain[tag] < many[tag] < 1 for tag in PROVERBS)
    assert by_language(evaluation.rows("every")) == dict.fromkeys(PROVERBS, 1.0)
    assert evaluation.codes["other"] == 2
    assert "first_k has k=5" in evaluation.said["other"]
    assert evaluation.codes["elsewhere"] == 2
    assert "Write --corpus proverbs." in evaluation.said["elsewhere"]


def test_an_evaluation_is_compared_and_gated_in_its_own_direction(evaluation):
    dense, run = by_language(evaluation.rows("dense")), by_language(evaluation.rows("eval"))
    rows = [row for row in evaluation.rows("compare") if row["kind"] == "language"]

    assert all(run[tag] < 0.9 * dense[tag] for tag in PROVERBS)
    for tag, change in by_language(rows, "change").items():
        assert change == pytest.approx(1 - run[tag] / dense[tag])
    assert len(rows) == 2
    assert (evaluation.codes["failed"], evaluation.codes["passed"]) == (1, 0)
    assert "failed: 2 of 2 languages lose more than 5 %" in evaluation.said["failed"]


def test_an_evaluation_is_what_a_sweep_scores_by(evaluation):
    rows = evaluation.rows("sweep")

    assert {row["evaluation"] for row in rows} == {"first_k"}
    assert by_language(rows) == by_language(evaluation.rows("eval"))
    assert by_language(rows, "dense") == by_language(evaluation.rows("dense"))
    (recipe,) = (evaluation.folder / "swept" / "runs").iterdir()
    assert (recipe / "recipe.yaml").exists()


def test_an_evaluation_is_in_help_report_and_docs(evaluation):
    assert ", first_k, " in " ".join(evaluation.said["help"].replace("│", " ").split())
    assert evaluation.codes["report"] == 0
    assert "share of next tokens ranked high" in evaluation.words("report.html")
    line = next(x for x in evaluation.docs.splitlines() if x.startswith("- **first_k** — "))
    assert "Its documents are its own" in line
    assert line.endswith("Options: `k=5`.")


# ---- an export format ----------------------------------------------------------------------

FORMAT = '''\
"""A table of how many weights of every linear are zero, for a spreadsheet."""

from pathlib import Path

from babelpress.export._source import Source, record
from babelpress.models.linears import linears, weight
from babelpress.models.walk import Walk
from babelpress.system.files import write_text


def write(source: Source, folder: Path, *, mark: str = ",") -> list[str]:
    """Write zeros.csv; `mark` stands between the cells."""
    rows = [("linear", "zeros", "weights")]
    for index, block in enumerate(Walk(source.opened.model).blocks):
        for name, linear in linears(block).items():
            weight_OI = weight(linear)
            zeros = int((weight_OI == 0).sum())
            rows.append((f"{index}.{name}", str(zeros), str(weight_OI.numel())))
    write_text(folder / "zeros.csv", "".join(f"{mark.join(row)}\\n" for row in rows))
    record(source, folder, "zero-table")
    return [f"{len(rows) - 1} linears"]
'''
FORMAT_RECIPE = f"""\
{CALIBRATION}
steps:
  - prune: {{method: magnitude, pattern: "0.25", skip: ["*o_proj"]}}
"""


def add_form(folder: Path) -> Added:
    return Added(
        "export/zero_table.py",
        FORMAT,
        {"recipe.yaml": FORMAT_RECIPE},
        {
            "help": "export --help",
            "press": "press tiny recipe.yaml --out run",
            "dense": "eval tiny --languages en,sw --documents 2 --out dense",
            "eval": "eval run --languages en,sw --documents 2",
            "export": "export run --format zero-table --against dense --out table",
            "marked": "export run --format zero-table --option 'mark=;' --out marked",
            "other": "export run --format zero-table --option digits=2 --out other",
        },
    )


def test_a_format_writes_its_file(form):
    (head, *rows) = [line.split(",") for line in form.words("table", "zeros.csv").splitlines()]
    zeros = {name: (int(zeros), int(weights)) for name, zeros, weights in rows}

    assert form.codes["export"] == 0
    assert head == ["linear", "zeros", "weights"]
    assert len(zeros) == 14
    for block in range(2):
        assert zeros[f"{block}.self_attn.o_proj"] == (0, 1024)
        assert zeros[f"{block}.self_attn.k_proj"] == (128, 512)
        assert zeros[f"{block}.mlp.down_proj"] == (384, 1536)
    assert "14 linears" in form.said["export"]


def test_a_format_has_an_option_of_its_own(form):
    text = form.words("table", "zeros.csv")

    assert form.words("marked", "zeros.csv") == text.replace(",", ";") != text
    assert form.codes["other"] == 2
    assert "zero-table has no option digits. It accepts mark=,." in form.said["other"]
    assert not (form.folder / "other").exists()


def test_a_format_is_in_help_and_docs_and_has_recipe_and_card_beside_it(form):
    assert "text, zero-table." in form.said["help"]
    made = json.loads(form.words("table", "babelpress.json"))
    assert made["format"] == "zero-table"
    assert made["recipe"]["steps"][0]["prune"]["skip"] == ["*o_proj"]
    assert "| magnitude | 0.25 |" in form.words("table", "README.md")
    assert "- **zero-table** — A table of how many weights of every linear are zero" in form.docs
    assert "Options: `mark=,`." in form.docs


# ---- a kind of step ------------------------------------------------------------------------

KIND = '''\
"""Clip the weights of all blocks: what is further from zero than `limit` deviations comes nearer.

No text is looked at.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from babelpress.steps._kind import Done, Estimate, ModelRow, StepReport, StepSettings, Told
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import setting
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.models.open import Opened
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold

EXAMPLE = "babelpress clip babel-mini --limit 2 --out run"


class Settings(StepSettings):
    """One clipping step."""

    limit: float = setting(3.0, "Standard deviations of a linear that its weights keep to.", gt=0)


class Report(StepReport):
    """How many weights came nearer to zero."""

    moved: int = 0


def say(settings: Settings) -> str:
    return f"clip to {settings.limit:g} deviations"


def do(
    opened: "Opened",
    calibration: CalibrationSettings,
    settings: Settings,
    folder: Path,
    *,
    hold: "Hold",
    progress: Progress = silent,
) -> Done:
    from babelpress.models.linears import linears, set_weight, weight
    from babelpress.models.walk import Walk
    from babelpress.models.weights import weights_hash

    model = ModelRow(name=opened.name, fingerprint=weights_hash(opened.model))
    blocks, moved = Walk(opened.model).blocks, 0
    for done, block in enumerate(blocks, 1):
        for linear in linears(block).values():
            weight_OI = weight(linear)
            most = settings.limit * weight_OI.float().std(correction=0).item()
            moved += int((weight_OI.abs() > most).sum())
            set_weight(linear, weight_OI.clamp(-most, most))
        progress("clip", done, len(blocks))
    step = settings.model_dump(mode="json")
    return Done(Report(kind="clip", step=step, model=model, moved=moved), {})


def tell(report: Report) -> Told:
    limit = report.step["limit"]
    return Told(
        done=f"clip {limit:g}",
        adjective="clipped",
        how=f"{limit:g} deviations",
        lines=(f"clip: {report.moved:,} weights came nearer to zero.",),
        remarks=(f"{report.moved:,} weights came nearer to zero.",),
        note=("Clipping makes nothing smaller.", "It makes room for grids."),
    )


def estimate(trial: "Trial", settings: Settings, *, chained: bool) -> Estimate:
    return Estimate({"clip": 90.0 + chained}, trial.base, 2**30)
'''
KIND_RECIPE = f"""\
{CALIBRATION}
steps:
  - clip: {{limit: 1.5}}
  - prune: {{method: magnitude, pattern: "0.25"}}
  - clip: {{limit: 1.0}}
"""
KIND_SWEEP = """\
model: tiny
steps:
  - clip: {}
vary:
  steps.0.clip.limit: [1.5, 2.0]
evaluate: {languages: [en, sw], documents: 2}
"""


def add_kind(folder: Path) -> Added:
    return Added(
        "steps/clip.py",
        KIND,
        {"recipe.yaml": KIND_RECIPE, "sweep.yaml": KIND_SWEEP},
        {
            "all": "--help",
            "help": "clip --help",
            "run": "clip tiny --limit 2 --out run",
            "other": "clip tiny --limit 0 --out other",
            "library": "babelpress.clip('tiny', limit=2, out='library')",
            "plan": "press tiny recipe.yaml --dry-run --out pressed",
            "press": "press tiny recipe.yaml --out pressed",
            "dense": "eval tiny --languages en,sw --documents 2 --out dense",
            "eval": "eval run --languages en,sw --documents 2 --json",
            "eval pressed": "eval pressed --languages en,sw --documents 2",
            "report": "report dense run pressed --out report.html",
            "export": "export pressed --format safetensors --against dense --out exported",
            "sweep": "sweep sweep.yaml --out swept --json",
        },
    )


def test_a_kind_of_step_does_what_it_says(kind):
    dense, run = in_blocks(kind.weights("tiny")), kind.weights("run", "model")
    moved = 0

    assert len(dense) == 14
    for name, weight_OI in dense.items():
        values = weight_OI.double().flatten().tolist()
        mean = sum(values) / len(values)
        most = 2 * (sum((each - mean) ** 2 for each in values) / len(values)) ** 0.5
        expected = [max(-most, min(most, each)) for each in values]
        assert run[name].flatten().tolist() == pytest.approx(expected, rel=1e-6)
        moved += sum(abs(each) > most for each in values)
    assert kind.step("run")["moved"] == moved > 0


def test_a_kind_of_step_is_a_command_with_its_settings(kind):
    assert kind.codes["run"] == 0, kind.said["run"]
    assert f"clip: {kind.step('run')['moved']:,} weights came nearer to zero." in kind.said["run"]
    assert "clip" in [line.split()[1] for line in kind.said["all"].splitlines() if "│ " in line]
    assert "--limit FLOAT" in kind.said["help"]
    assert "Standard deviations of a linear that its weights keep to. [default: 3.0]" in (
        " ".join(kind.said["help"].replace("│", " ").split())
    )
    assert "Example: babelpress clip babel-mini --limit 2 --out run" in kind.said["help"]
    assert kind.codes["other"] == 2
    assert "limit: Input should be greater than 0" in kind.said["other"]


def test_a_kind_of_step_is_a_function_of_the_library(kind):
    library, run = kind.weights("library", "model"), kind.weights("run", "model")

    assert "Traceback" not in kind.said["library"], kind.said["library"]
    assert all(torch.equal(library[name], each) for name, each in run.items())


def test_a_kind_of_step_is_a_step_of_a_recipe_between_others(kind):
    pressed = in_blocks(kind.weights("pressed", "model"))
    steps = yaml.safe_load(kind.words("pressed", "recipe.yaml"))["steps"]

    assert kind.codes["press"] == 0, kind.said["press"]
    assert [next(iter(each.items())) for each in steps][::2] == [
        ("clip", {"limit": 1.5}),
        ("clip", {"limit": 1.0}),
    ]
    for weight_OI in pressed.values():
        assert int((weight_OI == 0).sum()) == weight_OI.numel() // 4
        # The largest of both ends are alike, for both were cut at the same place.
        assert weight_OI.max() == -weight_OI.min()
        assert int((weight_OI == weight_OI.max()).sum()) > 1


def test_a_kind_of_step_says_before_it_is_done_what_it_will_take(kind):
    lines = kind.said["plan"].splitlines()

    assert kind.codes["plan"] == 0
    assert "step 1: clip to 1.5 deviations" in lines
    assert "step 3: clip to 1 deviations" in lines
    assert any(line.startswith("step 1: about 90 s (clip 90 s), ") for line in lines)
    assert any(line.startswith("step 3: about 91 s (clip 91 s), ") for line in lines)


def test_a_kind_of_step_varies_in_a_sweep(kind):
    rows = kind.rows("sweep")
    two = [row for row in rows if row["places"] == {"steps.0.clip.limit": 2.0}]

    assert kind.codes["sweep"] == 0
    assert [row["error"] for row in rows] == [None] * 4
    assert len({row["value"] for row in rows}) == 4
    assert by_language(two) == by_language(kind.rows("eval"))


def test_a_kind_of_step_is_in_card_and_report(kind):
    assert kind.codes["report"] == kind.codes["export"] == 0
    card, page = kind.words("exported", "README.md"), kind.words("report.html")
    moved = f"{kind.step('pressed')['moved']:,}"
    assert "# tiny: clip 1.5 then magnitude 0.25 then clip 1" in card
    assert "| 3 | clip | – | 1 deviations | – | – | nothing |" in card
    assert f"Step 3: {moved} weights came nearer to zero." in card
    assert "\n- clipped\n- pruned\n" in card
    assert '<bdi dir="auto">clip 2</bdi>' in page
    assert "clip 1.5 then magnitude 0.25 then clip 1<" in page
    assert "Clipping makes nothing smaller." in page


def test_a_kind_of_step_is_in_the_docs(kind):
    help_of_limit = "Standard deviations of a linear that its weights keep to."

    assert "### - clip: {…}" in kind.docs
    assert f"| `limit` | `3.0` | {help_of_limit} |" in kind.docs
    assert "### babelpress clip\n" in kind.docs
    assert "Example: babelpress clip babel-mini --limit 2 --out run" in kind.docs


# ---- fixtures ------------------------------------------------------------------------------

ADDED = {
    "criterion": add_criterion,
    "rule": add_rule,
    "evaluation": add_evaluation,
    "form": add_form,
    "kind": add_kind,
}


@pytest.fixture
def criterion(every):
    return every["criterion"]


@pytest.fixture
def rule(every):
    return every["rule"]


@pytest.fixture
def evaluation(every):
    return every["evaluation"]


@pytest.fixture
def form(every):
    return every["form"]


@pytest.fixture
def kind(every):
    return every["kind"]
