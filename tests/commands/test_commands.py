"""Every command on a pico model: rows with the documented keys, tables that fit a terminal."""

import contextlib
import io
import json
import math
from itertools import product
from pathlib import Path
from shutil import rmtree

import pico
import pytest
import torch
from safetensors.torch import load_file

from babelpress import cli, commands
from babelpress.commands import sweeping
from babelpress.commands.declared import rows_of
from babelpress.errors import BabelpressWarning, BadSetting
from babelpress.text import languages

ROOT = Path(__file__).parents[2]
TONGUES = ["--languages", "en,Swahili,hi,ja"]
TAGS = {"eng_Latn", "swh_Latn", "hin_Deva", "jpn_Jpan"}
RECIPE = """\
calibration: {tokens: 200, languages: "en,sw,hi,ja"}
steps:
  - prune: {method: magnitude, pattern: "0.25"}
  - prune: {method: wanda, pattern: "1of4", mixture: "only:hi", skip: ["*down*"]}
"""
SWEEP = """\
model: tiny
calibration: {tokens: 200, languages: "en,sw,hi,ja"}
steps:
  - prune: {method: magnitude, propagate: dense}
vary:
  steps.0.prune.pattern: ["0.25", "1of4"]
evaluate: {languages: [en, sw], documents: 2}
"""
TOPICS = "index_id\tcategory\ttext\n1\tsports\tGoli zuri\n2\ttravel\tSafari ndefu\n"
every_command = pytest.mark.parametrize("name", [n for n in commands.COMMANDS if n != "demo"])
SUMMARIES = {
    "mean",
    "worst",
    "low_resource",
    "high_resource",
    "latin",
    "non_latin",
    "spread",
    "gap",
}


def documented(name: str) -> list[str]:
    """The keys that a command says its rows have."""
    return list(rows_of(commands.COMMANDS[name]))


def said(words: list[str]) -> str:
    """Standard output of a command that succeeds."""
    paper = io.StringIO()
    with contextlib.redirect_stdout(paper):
        assert cli.main(words) == 0
    return paper.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a pico model, a recipe, and short texts that the commands will fill."""
    folder = tmp_path_factory.mktemp("work")
    pico.model().save_pretrained(folder / "tiny")
    pico.tokenizer().save_pretrained(folder / "tiny")
    pico.model("bert").save_pretrained(folder / "reading")
    pico.tokenizer().save_pretrained(folder / "reading")
    for tag, split in product(("swh_Latn", "hin_Deva"), ("train", "dev", "test")):
        (folder / "topics" / tag).mkdir(parents=True, exist_ok=True)
        (folder / "topics" / tag / f"{split}.tsv").write_text(TOPICS)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "sweep.yaml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        yield folder


LINES = {
    "languages": ["languages", "tiny", "--only", "en,Swahili,hi,ja"],
    "mixture": ["mixture", "mbs:64", *TONGUES, "--model", "xglm-564M"],
    "calibrate": ["calibrate", "tiny", *TONGUES, "--tokens", "200", "--out", "moments"],
    "prune": ["prune", "tiny", "--moments", "moments", "--pattern", "0.25", "--out", "run"],
    "quantize": [
        *("quantize", "tiny", *TONGUES, "--tokens", "200", "--bits", "3", "--group", "16"),
        *("--mixture", "only:sw", "--embeddings", "8bit", "--out", "coded"),
    ],
    "press": ["press", "tiny", "recipe.yaml", "--out", "pressed"],
    "export": ["export", "run", "--format", "safetensors", "--out", "exported"],
    "eval": ["eval", "tiny", *TONGUES, "--documents", "3", "--out", "dense"],
    "eval run": ["eval", "run", *TONGUES, "--documents", "3"],
    "eval pressed": ["eval", "pressed", *TONGUES, "--documents", "3"],
    "eval coded": ["eval", "coded", *TONGUES, "--documents", "3", "--on", "bits_per_byte,range"],
    "compare": ["compare", "dense", "run", "pressed"],
    "gate": ["gate", "run", "--against", "dense", "--max-loss", "-1"],
    "report": ["report", "dense", "run", "pressed", "coded", "--out", "report.html"],
    "insight": ["insight", "run", "pressed", "--on", "overlap", "--out", "inside"],
    "sweep": ["sweep", "sweep.yaml", "--out", "swept"],
    "advise": [
        *("advise", "tiny", *TONGUES, "--tokens", "100", "--length", "32", "--pattern", "0.25"),
        *("--documents", "6", "--minutes", "1e-6", "--out", "advice"),
    ],
    "fit": [
        *("fit", "tiny", *TONGUES, "--tokens", "100", "--length", "32", "--size", "90%"),
        *("--documents", "6", "--minutes", "1e-6", "--max-loss", "9", "--out", "fitted"),
    ],
    "distill": [
        *("distill", "tiny", *TONGUES, "--layers", "1", "--steps", "2", "--batch", "2"),
        *("--tokens", "200", "--length", "32", "--out", "student"),
    ],
    "finetune": [
        *("finetune", "reading", "--task", "topic", "--corpus", "topics", "--epochs", "1"),
        *("--out", "tuned"),
    ],
    "shrink": [
        *("shrink", "tiny", *TONGUES, "--tokens", "200", "--ffn", "0.5", "--multiple", "8"),
        *("--blocks", "1", "--out", "shrunk"),
    ],
    "recover": [
        *("recover", "run", *TONGUES, "--tokens", "200", "--length", "32", "--steps", "2"),
        *("--batch", "64", "--out", "repaired"),
    ],
    "trim": ["trim", "tiny", *TONGUES, "--size", "259", "--out", "trimmed"],
    "write": ["write", "babel-mini", "--languages", "hi", "--tokens", "800", "--out", "written"],
    "doctor": ["doctor"],
}


@pytest.fixture(scope="module")
def documents(place):
    """What every command prints with --json."""
    found = {}
    for name, words in LINES.items():
        paper = io.StringIO()
        with contextlib.redirect_stdout(paper):
            cli.main([*words, "--json"])
        found[name] = json.loads(paper.getvalue())
    return found


def rows(documents, name):
    return documents[name]["results"]


# ---- what holds for all --------------------------------------------------------------------


@every_command
def test_rows_have_exactly_the_documented_keys(name, documents):
    found = documents[name]

    assert found["command"] == name
    assert found["results"]
    for row in found["results"]:
        assert sorted(row) == sorted(documented(name))


@every_command
def test_languages_are_canonical_tags(name, documents):
    for row in rows(documents, name):
        if row.get("language") is not None:
            assert languages.find(row["language"]).tag == row["language"]


@every_command
def test_tables_fit_eighty_columns_and_nothing_is_cut_off(name, documents, place, capsys):
    if name == "write":  # which takes a new folder alone
        rmtree(place / "written")
    cli.main(LINES[name])

    printed = capsys.readouterr().out
    assert "…" not in printed
    table = printed.split("\n\n")[:-1]
    assert max((len(line.rstrip()) for part in table for line in part.splitlines()), default=0) < 81
    assert (name in ("report", "export")) == (not table)


# ---- one by one ----------------------------------------------------------------------------


def test_languages_gives_fertility_and_bits_per_byte_of_a_byte_tokenizer(documents):
    found = rows(documents, "languages")

    assert {row["language"] for row in found} == TAGS
    for row in found:
        assert row["tokens_per_byte"] == 1.0
        assert row["unknown"] == 0.0
        assert row["disclosed"] is False
        assert row["bits_per_byte"] == pytest.approx(8, abs=0.5)
    shares = [row["share"] or 0 for row in found]
    assert shares == sorted(shares, reverse=True)


def test_languages_can_leave_the_model_unrun(place):
    found = commands.languages("tiny", only="sw", bits=False)

    assert [row["bits_per_byte"] for row in found.rows] == [None]
    assert "not known; fineweb-2 is used as a prior" in found.says[0]


def test_mixture_gives_whole_segments_that_sum_up(documents):
    found = rows(documents, "mixture")

    assert sum(row["count"] for row in found) == 64
    for row in found:
        assert row["share"] == row["count"] / 64
        assert row["tokens"] == 16384


def test_calibrate_tells_what_it_read_of_each_language(documents):
    for row in rows(documents, "calibrate"):
        assert 0 < row["tokens"] <= 200
        assert row["characters"] <= row["bytes"]
        assert row["pieces"] > 0


def test_calibrate_on_the_models_own_text_has_the_same_keys(place):
    found = commands.calibrate(
        "tiny", out=Path("own"), corpus="self", languages="sw,hi", tokens=60, length=30
    )

    assert [list(row) for row in found.rows] == [documented("calibrate")] * 2
    assert found.rows[0]["script_share"] is None


def test_calibrate_on_demonstrations_says_condition_shots_and_pairs(place):
    with pytest.warns(BabelpressWarning, match="are cut"):  # the model reads few bytes at once
        found = commands.calibrate(
            "tiny", out=Path("shown"), corpus="shuffled:embedded?shots=1", languages="sw,en",
            tokens=300, length=100,
        )  # fmt: skip

    assert [list(row) for row in found.rows] == [documented("calibrate")] * 2
    assert [row["condition"] for row in found.rows] == ["shuffled"] * 2
    assert [row["shots"] for row in found.rows] == [1, 1]
    assert [row["pairs"] for row in found.rows] == [found.rows[0]["blocks"], 0]
    assert found.rows[0]["pieces"] is None and found.rows[0]["script_share"] == 1


def test_quantize_keeps_codes_and_says_what_the_file_would_weigh(documents, place):
    assert documents["quantize"]["out"] == "coded"
    assert {row["share"] for row in rows(documents, "quantize")} == {0, 1}
    manifest = json.loads((place / "coded" / "manifest.json").read_text())
    assert manifest["steps"][0]["grid"] == "3 bits, group 16, clip mse"
    assert (place / "coded" / "codes" / "other.safetensors").exists()
    said = commands.quantize(
        "tiny", out=Path("coded"), bits=3, group="16", languages="en,Swahili,hi,ja", tokens=200,
        mixture="only:sw", embeddings="8bit",
    ).says  # fmt: skip
    assert said[0] == "gptq at 3 bits, group 16, clip mse: 15,360 weights."
    assert said[1].startswith("packed ") and "bits a weight: blocks " in said[1]


def test_quantize_of_a_pruned_run_says_that_its_zeros_are_kept(documents, place):
    found = commands.quantize(
        "run", out=Path("kept"), method="rtn", group="channel", languages="sw", tokens=200
    )

    assert "3,840 pruned ones are still exactly zero." in found.says[0]


def test_export_names_every_file_it_wrote(documents, place):
    assert documents["export"]["out"] == "exported"
    names = {row["file"] for row in rows(documents, "export")}
    assert {"README.md", "babelpress.json", "config.json", "model.safetensors"} <= names
    for row in rows(documents, "export"):
        assert (place / "exported" / row["file"]).stat().st_size == row["bytes"]


def test_prune_takes_exactly_the_asked_weights(documents, place):
    assert documents["prune"]["out"] == "run"
    assert {row["share"] for row in rows(documents, "prune")} == {0.25}
    assert all(0 < row["predicted_damage"] < 1 for row in rows(documents, "prune"))
    weights = load_file(place / "run" / "model" / "model.safetensors")
    linear_OI = weights["model.layers.0.mlp.up_proj.weight"]
    assert (linear_OI == 0).sum(1).tolist() == [8] * len(linear_OI)
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    assert manifest["recipe"]["steps"][0]["prune"]["propagate"] == "dense"


def test_a_recipe_does_its_steps_in_order(documents, place):
    found = rows(documents, "press")

    assert [row["step"] for row in found] == [1] * 4 + [2] * 4
    assert {r["language"]: r["share"] for r in found if r["step"] == 2} == {
        tag: float(tag == "hin_Deva") for tag in TAGS
    }
    weights = load_file(place / "pressed" / "model" / "model.safetensors")
    assert (weights["model.layers.1.mlp.up_proj.weight"] == 0).float().mean() == 0.75
    assert (weights["model.layers.1.mlp.down_proj.weight"] == 0).float().mean() == 0.25


def test_a_dry_run_shows_shares_and_steps_and_makes_nothing(documents):
    found = commands.press(
        "tiny", Path("recipe.yaml"), out=Path("never"), change=("steps.0.prune.pattern=0.5",),
        dry_run=True,
    )  # fmt: skip

    assert not Path("never").exists()
    assert [list(row) for row in found.rows] == [documented("press")] * 8
    assert {row["predicted_damage"] for row in found.rows} == {None}
    assert found.says[0].startswith("step 1: magnitude 0.5, uniform, on embedded, 200 tokens in 4")
    assert "wanda 1of4, only:hi" in found.says[1]
    printed = said(["press", "tiny", "recipe.yaml", "--out", "never", "--dry-run"])
    assert "step 1\n" in printed
    assert "step 2\n" in printed


def test_experts_with_too_few_tokens_stay_and_a_stack_that_is_not_scaled_is_named_once(tmp_path):
    pico.model("mixtral").save_pretrained(tmp_path / "mixtral")
    pico.tokenizer().save_pretrained(tmp_path / "mixtral")
    common = {"languages": "sw,en", "tokens": 200, "method": "awq", "group": "16"}

    few = commands.quantize(str(tmp_path / "mixtral"), out=tmp_path / "few", min_tokens=1, **common)
    with pytest.warns(
        BabelpressWarning, match="Too few tokens.*and 8 more, which the report names"
    ):
        commands.prune(
            str(tmp_path / "mixtral"), out=tmp_path / "none", languages="sw,en", tokens=200,
            min_tokens=9999,
        )  # fmt: skip

    stacks = ", ".join(f"{block}.mlp.experts.*.gate_up_proj" for block in (0, 1))
    assert f"Not scaled, for no layer before can: {stacks}." in few.says[0]
    manifest = json.loads((tmp_path / "none" / "manifest.json").read_text())
    (step,) = manifest["steps"]
    assert step["step"]["min_tokens"] == 9999
    assert len(step["experts"]["left"]) == 2 * 3 * 2


def test_options_of_a_method_reach_it_and_wrong_ones_are_refused(documents):
    found = commands.prune(
        "tiny", out=Path("ria"), method="ria", moments=Path("moments"), option=("power=0.25",)
    )

    manifest = json.loads(Path("ria/manifest.json").read_text())
    assert manifest["steps"][0]["step"]["options"] == {"power": 0.25}
    assert "ria 0.5" in found.says[0]
    with pytest.raises(BadSetting, match="power"):
        commands.prune("tiny", out=Path("no"), method="ria", option=("strength=1",))


def test_eval_rows_are_the_lines_of_results(documents, place):
    lines = (place / "dense" / "results.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in lines]

    assert all(len(row.pop("seal")) == 64 for row in written)
    shown = [{**row} for row in rows(documents, "eval")]
    assert {row.pop("parts") for row in shown} == {None}  # which lie beside, by language
    assert sorted(written, key=lambda row: row["language"]) == sorted(
        shown, key=lambda row: row["language"]
    )
    for row in rows(documents, "eval"):
        assert row["documents"] == 3
        assert row["value"] == pytest.approx(row["numerator"] / row["denominator"])


def test_a_run_keeps_its_own_scores(documents, place):
    assert documents["eval run"]["out"] == "run"
    assert (place / "run" / "results.jsonl").exists()


def test_without_a_folder_scores_are_shown_and_nothing_is_kept(documents, place, tmp_path):
    there = sorted(Path().rglob("*"))

    found = commands.evaluate("tiny", languages="en,sw", documents=3)
    printed = said(["eval", "tiny", *TONGUES, "--documents", "3"])

    assert sorted(Path().rglob("*")) == there
    assert found.out is None
    kept = {row["language"]: row["value"] for row in rows(documents, "eval")}
    assert {row["language"]: row["value"] for row in found.rows} == {
        tag: kept[tag] for tag in ("eng_Latn", "swh_Latn")
    }
    assert "Swahili" in printed
    assert "nothing was kept: with --out FOLDER" in printed
    assert "results.jsonl" not in printed


def test_an_interruption_says_that_nothing_was_kept_where_nothing_is(place, monkeypatch):
    def interrupted(*_args, **_given):
        raise KeyboardInterrupt

    monkeypatch.setattr("babelpress.judge.evaluate.evaluate", interrupted)

    with pytest.raises(KeyboardInterrupt, match="Nothing was kept: with --out"):
        commands.evaluate("tiny")


def test_the_model_folder_of_a_run_is_the_run(documents, place):
    found = commands.evaluate("run/model", languages="en,sw", documents=3)

    assert found.out == Path("run")


def test_compare_shows_summaries_first_and_languages_worst_first(documents, place):
    found = [row for row in rows(documents, "compare") if row["run"] == "pressed"]
    summaries = [row for row in found if row["kind"] == "summary"]
    changes = [row for row in found if row["kind"] == "language"]

    sizes = [row for row in found if row["kind"] == "size"]
    assert found == summaries + changes + sizes
    assert [row["dense"] for row in sizes if row["name"] == "parameters"] == [
        row["pressed"] for row in sizes if row["name"] == "parameters"
    ]
    assert {row["name"] for row in summaries} <= SUMMARIES
    assert {row["language"] for row in changes} == TAGS
    assert [row["change"] for row in changes] == sorted(
        (r["change"] for r in changes), reverse=True
    )
    assert summaries[1]["language"] == changes[0]["language"]
    assert all(math.isfinite(row["low"]) for row in summaries + changes)


def test_compare_on_a_terminal_speaks_in_words(documents, place):
    printed = said(["compare", "dense", "run", "pressed", "--languages", "latin"])

    assert "run against dense: change of bits_per_byte, positive is worse" in printed
    assert "worst: " in printed
    assert "too few documents to tell (" in printed
    assert " %" in printed
    assert "Hindi" not in printed
    assert printed.index("mean of all") < printed.index("Swahili  ")


def test_predicted_damage_is_set_beside_the_truth(documents, place):
    found = commands.compare(Path("dense"), [Path("run")])

    assert "run: predicted damage ranks the 4 languages with a Spearman" in found.says[0]
    noted = json.loads(Path("run/manifest.json").read_text())["prediction"]
    assert noted["bits_per_byte"]["embedded"]["languages"] == 4


def test_a_gate_passes_or_fails_by_its_exit_code(documents, place):
    strict = commands.gate(Path("run"), against=Path("dense"), max_loss=-1.0)
    loose = commands.gate(Path("run"), against=Path("dense"), max_loss=9.0, confident=True)

    assert (strict.exit_code, len(strict.rows)) == (1, 4)
    assert (loose.exit_code, loose.rows, loose.tables) == (0, [], ())
    assert strict.says[0].startswith("failed: 4 of 4 languages lose more than -100 %")
    assert loose.says[0] == (
        "passed: 0 of 4 languages lose more than 900 % against dense (upper limit of the interval)."
    )
    assert cli.main(LINES["gate"]) == 1


def test_a_report_is_one_file(documents, place):
    (row,) = rows(documents, "report")

    assert row == {"report": "report.html", "bytes": (place / "report.html").stat().st_size}
    assert documents["report"]["out"] == "report.html"


def test_every_command_leaves_the_dense_model_as_it_was(documents, place):
    weights = load_file(place / "tiny" / "model.safetensors")
    fresh = pico.model().state_dict()

    assert all(torch.equal(weights[name], fresh[name]) for name in weights)


# ---- lines for people ----------------------------------------------------------------------


def test_a_mixture_says_why_all_languages_give_as_many_tokens(capsys):
    assert cli.main(["mixture", "only:sw", "--languages", "en,sw"]) == 0

    assert "Every language gives as many tokens, whatever its share" in capsys.readouterr().out


def test_recipes_that_failed_of_the_same_are_one_line():
    lost = [
        {"recipe": f"seed={seed}", "fingerprint": f"f{seed}", "error": "out of memory"}
        for seed in range(25)
    ]
    lost.append({"recipe": "seed=9", "fingerprint": "g", "error": "NaN"})

    assert sweeping._failures(lost) == [
        "failed: seed=0 (f0), seed=1 (f1), seed=2 (f2) and 22 more, which --json names: "
        "out of memory",
        "failed: seed=9 (g): NaN",
    ]


def test_a_sweep_says_where_changes_may_be_those_of_guesses():
    rows = [{"evaluation": name} for name in ("bits_per_byte", "choice", "rankc", "choice", None)]

    (line,) = sweeping._by_chance(rows, Path("a sweep"))

    assert line.startswith("choice, rankc: these changes are told where the dense model only")
    assert "babelpress report 'a sweep' --on choice" in line
    assert sweeping._by_chance(rows[:1], Path("a")) == []


def test_pressing_on_text_warns_of_little_text_once_and_on_moments_not_again(place, capsys):
    words = ["--tokens", "100000", "--length", "64", *TONGUES]
    assert cli.main(["prune", "tiny", *words, "--out", "warned"]) == 0
    assert capsys.readouterr().out.count("warning: ") == 1

    assert cli.main(["prune", "tiny", "--moments", "moments", "--out", "unwarned"]) == 0
    assert "warning: " not in capsys.readouterr().out


def test_a_report_of_a_sweep_needs_only_its_folder(documents, place):
    found = json.loads(said(["report", "swept", "--out", "swept.html", "--json"]))

    page = (place / "swept.html").read_text()
    assert found["results"] == [{"report": "swept.html", "bytes": len(page.encode())}]
    for run in (place / "swept" / "runs").iterdir():
        assert f"vllm serve {run.name}-again/model" in page
    assert "babelpress eval tiny --on bits_per_byte" in page


def test_what_a_model_writes_is_kept_and_reported_before_and_after(documents, place):
    for model, out in (("tiny", "dense"), ("run", "run")):
        said(["eval", model, *TONGUES, "--documents", "3", "--out", out, "--generate", "4"])
    said(["report", "dense", "run", "--out", "written.html"])

    assert len((place / "dense" / "generations.jsonl").read_text().splitlines()) == 4
    assert (place / "written.html").read_text().count('<div class="passage">') == 3


def test_the_languages_of_an_encoder_are_told_without_bits_per_byte(tmp_path):
    pico.model("bert").save_pretrained(tmp_path)
    pico.tokenizer().save_pretrained(tmp_path)

    found = commands.languages(str(tmp_path), only="sw")

    assert [row["bits_per_byte"] for row in found.rows] == [None]
    assert found.rows[0]["tokens_per_byte"] == 1
    assert "An encoder has no bits per byte" in found.says[-1]
