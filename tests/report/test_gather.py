"""What a report is made of, gathered from scored folders that are made by hand."""

import json

import pytest
from scoring import LOSS, ON, run, scored

from babelpress.errors import BadRun
from babelpress.judge.scores import tally_path
from babelpress.report import twins
from babelpress.report.data import labels
from babelpress.report.gather import report_input
from babelpress.system.files import read_json, write_json
from babelpress.text import mixtures


@pytest.fixture
def dense(tmp_path):
    return scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))


@pytest.fixture
def pressed(tmp_path):
    return run(tmp_path / "run", LOSS)


def test_a_report_names_runs_by_mixture(dense, tmp_path):
    runs = [run(tmp_path / name, LOSS, policy=name) for name in ("english", "minimax")]

    given = report_input(dense, runs, on=ON, title="mine")

    assert labels(given.pressed) == ["english", "minimax"]
    assert [p.name for p in given.pressed] == ["wanda 0.25", "wanda 0.25"]
    assert (given.title, given.model, given.metric) == ("mine", "babel-mini", ON)
    assert given.shares is not None
    assert set(given.shares) == set(LOSS)
    assert given.share_unit == mixtures.distribution("babel-mini").unit
    assert given.manifest is not None
    assert set(given.manifest) == {"english", "minimax"}


def test_runs_with_equal_settings_are_told_apart_by_their_folders(dense, tmp_path):
    seeds = [run(tmp_path / name, LOSS, policy="uniform") for name in ("seed-0", "seed-1")]
    other = run(tmp_path / "english", LOSS, policy="english")

    given = report_input(dense, [*seeds, other], on=ON)

    assert labels(given.pressed) == ["uniform, seed-0", "uniform, seed-1", "english"]


def test_folders_of_one_name_are_told_apart_by_their_paths(dense, tmp_path):
    runs = [run(tmp_path / place / "run", LOSS) for place in ("a", "b")]

    given = report_input(dense, runs, on=ON)

    assert labels(given.pressed) == [f"uniform, {runs[0]}", f"uniform, {runs[1]}"]
    assert given.manifest is not None
    assert len(given.manifest) == 2


def test_a_chain_of_steps_is_named_whole(dense, pressed):
    manifest = read_json(pressed / "manifest.json")
    last = manifest["steps"][0] | {"step": {"method": "ria", "pattern": "0.5"}}
    write_json(pressed / "manifest.json", {"steps": [*manifest["steps"], last]})

    given = report_input(dense, [pressed], on=ON)

    assert given.pressed[0].name == "wanda 0.25 then ria 0.5"


def test_every_step_of_a_chain_is_told_with_its_mixture_and_text(dense, pressed):
    first = read_json(pressed / "manifest.json")["steps"][0]
    first |= {"mixture": {"policy": "only:sw"}, "calibration": {}}
    text = {"corpus": "flores?src=flores", "seed": 7}
    text["languages"] = {"swh_Latn": {"tokens": 900}, "hin_Deva": {"tokens": 1100}}
    last = {
        "kind": "quantize",
        "step": {"method": "gptq"},
        "model": {"name": "babel-mini"},
        "mixture": {"policy": "uniform"},
        "calibration": text,
        "damage": LOSS,
        "grid": "4 bits, group 64",
    }
    write_json(pressed / "manifest.json", {"before": [first], "steps": [last]})

    given = report_input(dense, [pressed], on=ON)

    assert labels(given.pressed) == ["only:sw then uniform"]
    assert given.notes == (
        "run, of babel-mini: step 1: wanda 0.25, mixture only:sw; step 2: gptq 4 bits, group 64, "
        "mixture uniform, 2,000 tokens of flores?src=flores in 2 languages, seed 7.",
    )


def test_a_report_is_of_one_corpus(dense, pressed):
    for folder in (dense, pressed):
        path = folder / "results.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        other = [{**row, "corpus": "other"} for row in rows if row["language"] == "swh_Latn"]
        for row in other:
            source = tally_path(folder, {**row, "corpus": ""})
            tally_path(folder, row).write_bytes(source.read_bytes())
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *other]))

    given = report_input(dense, [pressed], on=ON, corpus="other")

    assert [change.language for change in given.pressed[0].comparison.changes] == ["swh_Latn"]
    with pytest.raises(BadRun, match="several corpora"):
        report_input(dense, [pressed], on=ON)


def test_a_model_from_elsewhere_is_reported_under_its_folders_name(dense, pressed, tmp_path):
    other = scored(tmp_path / "theirs", LOSS)

    given = report_input(dense, [pressed, other], on=ON, languages=["latin"])

    assert labels(given.pressed) == ["wanda 0.25 · uniform", "from elsewhere · theirs"]
    assert [c.language for c in given.pressed[1].comparison.changes] == ["eng_Latn", "swh_Latn"]


def test_shares_that_are_not_disclosed_are_not_in_a_report(tmp_path):
    dense = scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0), model="Qwen/Qwen3-0.6B")

    given = report_input(dense, [run(tmp_path / "run", LOSS)], on=ON)

    assert given.shares is None
    assert given.share_unit == ""
    assert "not disclosed" in given.share_source


# ---- what tells runs apart, what they took, how to do it again -----------------------------


def told(folder, *, cost=None, ledger=None, **recipe):
    """A run with a recipe, and what its manifest may say besides."""
    folder = run(folder, LOSS)
    manifest = read_json(folder / "manifest.json")
    extra = {"recipe": recipe} | ({"cost": cost} if cost else {})
    write_json(folder / "manifest.json", manifest | extra | ({"ledger": ledger} if ledger else {}))
    (folder / "recipe.yaml").write_text("{}")
    return folder


def test_twins_go_by_what_their_recipes_differ_in_and_not_by_where_moments_lie(dense, tmp_path):
    runs = [
        told(
            tmp_path / f"f{seed}{tokens}",
            model="m",
            calibration={"seed": seed, "tokens": tokens, "length": 64},
            steps=[{"prune": {"moments": f"place {seed}"}}],
        )
        for seed in (0, 1)
        for tokens in (256, 512)
    ]

    given = report_input(dense, runs, on=ON)

    assert labels(given.pressed) == [
        f"uniform, seed {seed}, tokens {tokens}" for seed in (0, 1) for tokens in (256, 512)
    ]


@pytest.mark.parametrize(
    ("recipes", "words"),
    [
        ([{"a": {"seed": 0}}, {"a": {"seed": 3}}], ["seed 0", "seed 3"]),
        ([{"a": ["x", "y"]}, {"a": None}], ["a x y", "no a"]),
        ([{"s": [{"bits": 3}]}, {"s": [{"bits": 4}]}], ["bits 3", "bits 4"]),
        ([{"moments": "here"}, {"moments": "there"}], []),
        ([{"a": 1}, {"a": 1}, {"a": 2}], []),
    ],
)
def test_words_that_tell_recipes_apart(recipes, words):
    assert twins.apart([[recipe] for recipe in recipes]) == words


def test_words_are_of_whole_chains_and_not_of_where_the_last_recipe_begins():
    chains = [
        [
            {"model": "m", "steps": [{"distill": {"layers": layers}}]},
            {"model": f"out/begun/{layers}", "steps": [{"prune": {"pattern": pattern}}]},
        ]
        for layers in (1, 2)
        for pattern in ("0.25", "0.5")
    ]

    assert twins.apart(chains) == [
        f"layers {layers}, pattern {pattern}" for layers in (1, 2) for pattern in ("0.25", "0.5")
    ]


def test_documents_time_memory_and_size_come_from_scores_and_manifest(dense, tmp_path):
    steps = [
        {"seconds": 2.5, "peak_memory_mib": 310.5},
        {"seconds": 1.25, "peak_memory_mib": 290.0},
    ]
    ledger = {"bytes_stored": 4_100_000, "bytes_dense": 10_000_000}
    one = told(tmp_path / "one", model="m", cost={"steps": steps}, ledger=ledger)

    known, unknown = report_input(dense, [one, run(tmp_path / "two", LOSS)], on=ON).pressed

    assert known.documents == dict.fromkeys(LOSS, 6)
    assert (known.seconds, known.memory_mib, known.bytes_stored) == (3.75, 310.5, 4_100_000)
    assert (unknown.seconds, unknown.memory_mib, unknown.bytes_stored) == (None, None, None)
    assert list(known.kinds) == ["pruned"]
    assert known.policy == "uniform"


def test_commands_make_score_and_serve_a_run_again(dense, tmp_path):
    ledger = {"bytes_stored": 4, "bytes_dense": 10}
    one = told(tmp_path / "a run", model="org/model", ledger=ledger)
    (one / "model").mkdir()
    two = run(tmp_path / "two", LOSS)
    identity = {"model": "w", "corpus": "texts?src=a", "window": 64, "options": {"k": 3}}
    write_json(one / "tallies" / f"{ON}.json", {"identity": identity, "texts": {}})

    given = report_input(dense, [one, two], on=ON, corpus="")

    tags = ",".join(change.language for change in given.pressed[0].comparison.changes)
    assert given.pressed[0].again == (
        f"babelpress press org/model '{one}/recipe.yaml' --out 'a run-again'",
        f"babelpress eval 'a run-again' --on {ON} --corpus 'texts?src=a' --window 64 --option k=3 "
        f"--languages {tags}",
        f"vllm serve '{one}/model'",
        f"babelpress export '{one}' --format compressed-tensors --out 'a run-packed'",
        "vllm serve 'a run-packed'",
    )
    assert given.pressed[1].again[-1] == f"vllm serve {two}"
    assert given.again == (
        f"babelpress eval babel-mini --on {ON} --languages {tags} --out {dense}",
        f"babelpress report {dense} '{one}' {two} --languages {tags} --out report.html",
    )


def test_of_a_chain_every_run_is_made_again_and_the_time_of_all_is_told(dense, tmp_path):
    first = told(tmp_path / "first", model="org/model")
    second = told(tmp_path / "second", model=str(first), cost={"steps": [{"seconds": 2.0}]})
    (second / "model").mkdir()
    manifest = read_json(second / "manifest.json")
    before = read_json(first / "manifest.json")["steps"]
    write_json(second / "manifest.json", {**manifest, "before": before})
    (unknown,) = report_input(dense, [second], on=ON).pressed  # as runs were kept before
    cost = {"steps": [{"seconds": 2.0}], "before": [{"seconds": 3.0, "peak_memory_mib": 90.0}]}
    write_json(second / "manifest.json", {**manifest, "before": before, "cost": cost})

    (pressed,) = report_input(dense, [second], on=ON).pressed

    assert pressed.again[:2] == (
        f"babelpress press org/model {first}/recipe.yaml --out first-again",
        f"babelpress press first-again {second}/recipe.yaml --out second-again",
    )
    assert unknown.seconds is None
    assert (pressed.seconds, pressed.memory_mib) == (5.0, 90.0)
