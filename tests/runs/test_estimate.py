"""What a dry run says is what then happens: bytes exactly, memory and seconds within 30 %."""

import re
import subprocess
import sys
from pathlib import Path

import pico
import pytest
from running import LANGUAGES, TEXT
from transformers import LlamaConfig, LlamaForCausalLM

from babelpress.models.open import open_model
from babelpress.moments import weigh
from babelpress.moments.calibrate import calibrate
from babelpress.runs import recipe, run
from babelpress.runs.estimate import estimate
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]
BLOCKS = 3
GRAM = 4 * (3 * 64**2 + 160**2)  # bytes of a block's Gram matrices of one language


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A llama of 1.4 MB in a transformers folder, by far most of what a run of it weighs."""
    found = tmp_path_factory.mktemp("models") / "llama"
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=pico.VOCABULARY * 4,
            hidden_size=64,
            intermediate_size=160,
            num_hidden_layers=BLOCKS,
            num_attention_heads=4,
            tie_word_embeddings=True,
            **pico._IDS,
        )
    ).save_pretrained(found)
    pico.tokenizer().save_pretrained(found)
    return found


def asked(folder, *steps, **text):
    return recipe.of({"model": str(folder), "calibration": {**TEXT, **text}, "steps": list(steps)})


def pruning(**step):
    return {"prune": {"method": "sparsegpt", **step}}


def quantizing(**step):
    return {"quantize": {"method": "gptq", "group": 16, **step}}


@pytest.mark.parametrize(
    "step",
    [
        pruning(),
        pruning(propagate="dense", mixture="minimax", minimax={"rounds": 2}),
        quantizing(),
        quantizing(method="awq", embeddings="8bit"),
    ],
)
def test_disk_is_what_the_run_then_takes(folder, tmp_path, step):
    plan = asked(folder, step)

    (told,) = estimate(plan, near=tmp_path)

    assert not list(tmp_path.iterdir())
    run.do(plan, tmp_path / "run")
    took = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert told.disk_bytes == pytest.approx(took, rel=0.1)


def test_a_chain_has_an_estimate_a_step_and_what_the_first_made_beside_the_second(folder):
    first, second = estimate(asked(folder, pruning(), quantizing()))
    (alone,) = estimate(asked(folder, quantizing()))

    assert second.disk_bytes == pytest.approx(alone.disk_bytes + first.disk_bytes, rel=0.01)


def test_a_rule_of_allocation_looks_at_all_blocks_first_and_is_estimated_too(folder):
    (plain,) = estimate(asked(folder, pruning(method="wanda", propagate="dense")))
    (owl,) = estimate(asked(folder, pruning(method="wanda", propagate="dense", allocate="owl")))

    assert owl.memory_bytes == pytest.approx(plain.memory_bytes, rel=0.05)
    assert owl.disk_bytes == pytest.approx(plain.disk_bytes, rel=0.01)
    assert owl.phases.keys() >= plain.phases.keys()


def test_where_the_loss_weighs_tokens_the_sums_of_all_blocks_are_in_memory(folder, monkeypatch):
    """However few are made in one pass: no block is pressed before all are there."""
    step = pruning(propagate="dense")
    (even,) = estimate(asked(folder, step))
    (weighed,) = estimate(asked(folder, step, weigh="loss"))
    monkeypatch.setattr(weigh, "MOST", 1)
    (apart,) = estimate(asked(folder, step, weigh="loss"))

    assert weighed.phases.keys() == even.phases.keys()
    assert all(each.phases["gather"] > 0 for each in (weighed, apart))
    kept = len(LANGUAGES) * GRAM * (BLOCKS - 1)
    assert all(each.memory_bytes - even.memory_bytes > kept / 2 for each in (weighed, apart))
    assert weighed.disk_bytes == even.disk_bytes


def test_phases_are_those_of_the_step(folder):
    (dense,) = estimate(asked(folder, pruning(propagate="dense")))
    (compressed,) = estimate(asked(folder, pruning()))
    (loop,) = estimate(asked(folder, quantizing(method="awq", mixture="minimax")))

    assert "pass on" not in dense.phases and compressed.phases["pass on"] > 0
    assert compressed.phases["minimax"] == compressed.phases["folds"] == 0
    assert loop.phases["minimax"] > loop.phases["press"] > 0 < loop.phases["folds"]
    assert all(seconds >= 0 for seconds in (*dense.phases.values(), *loop.phases.values()))


def test_the_loop_keeps_the_moments_of_all_blocks_in_memory_or_on_disk(folder, tmp_path):
    steps = (pruning(propagate="dense", mixture=mixture) for mixture in ("uniform", "minimax"))
    kept = len(LANGUAGES) * GRAM * BLOCKS

    plain, held = (estimate(asked(folder, s), offload=True, near=tmp_path)[0] for s in steps)

    assert held.disk_bytes - plain.disk_bytes == pytest.approx(kept, rel=0.1)


def test_moments_that_were_saved_need_no_text(folder, tmp_path):
    text = CalibrationSettings.model_validate(TEXT)
    calibrate(open_model(str(folder)), text, tmp_path / "moments", gram=True)
    step = pruning(propagate="dense", moments=str(tmp_path / "moments"))

    (told,) = estimate(asked(folder, step))

    assert told.phases["text"] == 0 < told.phases["read"]
    assert "gather" not in told.phases


@pytest.mark.parametrize("family", pico.EXPERTS)
def test_experts_that_the_tried_batch_did_not_reach_do_not_stop_it(family, tmp_path):
    pico.model(family).save_pretrained(tmp_path)
    pico.tokenizer().save_pretrained(tmp_path)

    found = estimate(asked(tmp_path, pruning(), quantizing(method="awq"), tokens=8, length=8))

    assert all(each.seconds > 0 for each in found)


@pytest.mark.slow
def test_what_a_dry_run_says_is_within_30_percent_of_what_happens_on_three_sizes(tmp_path):
    script = ROOT / "benchmarks" / "scale" / "predicted.py"
    done = subprocess.run(
        [sys.executable, script, "--recipes", "prune", "quantize"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    rows = [line for line in done.stdout.splitlines() if "x" in line.split("|")[1]]
    assert len(rows) == 3 * 2
    for line in rows:
        ratios = [float(each) for each in re.findall(r"\(([\d.]+)\)", line)]
        assert len(ratios) == 3
        assert all(0.7 <= each <= 1.3 for each in ratios), line


def test_a_repair_is_told_by_its_minutes_and_with_the_disk_of_all_blocks(folder):
    def told(**step):
        asked_of = {"recover": {"steps": 2000, "batch": 64, **step}}
        (found,) = estimate(asked(folder, asked_of))
        return found

    whole, short = told(), told(minutes=0.01)
    blocks, few = told(repair="blocks"), told(repair="blocks", steps=2)

    assert short.phases["train"] < whole.phases["train"]
    assert short.phases["train"] < 5
    numbers = BLOCKS * (4 * 64**2 + 3 * 64 * 160 + 2 * 64)
    table = pico.VOCABULARY * 4 * 64
    assert blocks.disk_bytes == few.disk_bytes == 4 * numbers + 4 * (numbers + table + 64)
