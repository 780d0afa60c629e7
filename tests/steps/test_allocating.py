"""A rule at work in a pruning step: exact totals, blocks that differ, the counts of the formula."""

import itertools

import pico
import pytest
import torch
from running import do, plan, quantizing, refusal, weights
from safetensors.torch import load_file

import babelpress as bp
from babelpress.errors import BadSetting, UnknownName
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.calibrate import calibrate
from babelpress.numerics.patterns import parse
from babelpress.steps import KINDS
from babelpress.system.files import read_json
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = {"languages": ["swh_Latn", "hin_Deva"], "tokens": 192, "length": 64}
SHARES = {"swh_Latn": 0.75, "hin_Deva": 0.25}
# Wide apart, since two blocks of a random model are much alike.
WIDE = {"owl": {"threshold": 2.5, "spread": 0.2}, "dlp": {"spread": 0.2}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A llama whose second block has outliers and is small otherwise."""
    folder = tmp_path_factory.mktemp("models") / "uneven"
    uneven = pico.model()
    with torch.no_grad():
        for name, parameter in uneven.model.layers[1].named_parameters():
            if name.endswith("_proj.weight"):
                parameter.mul_(torch.randn_like(parameter).pow(2) * 0.7)
    uneven.save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def moments(model, tmp_path_factory):
    """Moments of that model with Gram matrices."""
    out = tmp_path_factory.mktemp("moments") / "moments"
    asked = CalibrationSettings.model_validate(TEXT)
    return calibrate(open_model(str(model)), asked, out, gram=True)


def zeros_by_block(folder):
    """How many weights of every linear are zero, block by block."""
    found = {}
    for name, each in weights(folder).items():
        if name.endswith("_proj.weight"):
            _, _, block, linear = name.split(".", 3)
            found.setdefault(int(block), {})[linear] = int((each == 0).sum())
    return [found[block] for block in sorted(found)]


def asked_for(model, pattern):
    """How many weights of every linear of one block the pattern takes."""
    first = "model.layers.0."
    return {
        name.removeprefix(first): parse(pattern).count(*each.shape)
        for name, each in load_file(model / "model.safetensors").items()
        if name.startswith(first) and name.endswith("_proj.weight")
    }


def allocating(model, rule, **step):
    step = {"allocate": rule, "allocation": WIDE.get(rule, {}), "pattern": "0.29", **step}
    return plan(model, step, **TEXT)


def slow_measured(walk, moments, rule):
    """What every block shows, from its weights and the squares that were saved, in plain loops."""
    found = []
    for index in range(len(walk.blocks)):
        scores = []
        for site, seen in moments.load(index).items():
            rms = [
                sum(SHARES[tag] * each.sumsq_I[j].item() / each.n for tag, each in seen.items())
                ** 0.5
                for j in range(site.inputs)
            ]
            for linear in site.linears:
                rows = walk.blocks[index].get_submodule(linear).weight.tolist()
                scores += [abs(w) * r for row in rows for w, r in zip(row, rms, strict=True)]
        mean = sum(scores) / len(scores)
        outliers = sum(score > WIDE["owl"]["threshold"] * mean for score in scores) / len(scores)
        found.append(outliers if rule == "owl" else -mean)  # the most of it keeps the most
    return found


@pytest.mark.parametrize(
    ("method", "rule"), [("wanda", "owl"), ("wanda", "dlp"), ("sparsegpt", "owl")]
)
def test_every_row_loses_what_the_formula_says_of_its_block(model, moments, tmp_path, rule, method):
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text("".join(f"{tag}: {share}\n" for tag, share in SHARES.items()))
    measured = slow_measured(Walk(open_model(str(model)).model), moments, rule)
    wide = 0.2 if measured[0] > measured[1] else -0.2
    densities = [0.71 + wide, 0.71 - wide]

    step = do(
        allocating(
            model,
            rule,
            method=method,
            moments=str(moments.folder),
            mixture=str(mixture),
        ),
        tmp_path / "run",
    )["steps"][0]

    assert step["mixture"]["shares"] == pytest.approx(SHARES)
    zeros = zeros_by_block(tmp_path / "run")
    for linear, count in asked_for(model, "0.29").items():
        rows, columns = load_file(model / "model.safetensors")[f"model.layers.0.{linear}"].shape
        wanted = [(1 - density) * columns for density in densities]
        pairs = itertools.product(range(columns), repeat=2)
        best = min(
            (pair for pair in pairs if sum(pair) == 2 * count // rows),
            key=lambda pair: sum((units - w) ** 2 for units, w in zip(pair, wanted, strict=True)),
        )
        assert [block[linear] for block in zeros] == [rows * units for units in best]


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [("0.5", "owl"), ("0.29/layer", "dlp"), ("0.29/16", "owl"), ("3of4", "dlp")],
)
def test_only_where_weights_go_differs_from_uniform_and_not_how_many(
    model, moments, tmp_path, rule, pattern
):
    folders = {name: tmp_path / name for name in (rule, "uniform")}

    steps = {
        name: do(allocating(model, name, pattern=pattern, moments=str(moments.folder)), folder)[
            "steps"
        ][0]
        for name, folder in folders.items()
    }

    asked = asked_for(model, pattern)
    own, same = (zeros_by_block(folder) for folder in folders.values())
    assert same == [asked, asked]
    assert {linear: own[0][linear] + own[1][linear] for linear in asked} == {
        linear: 2 * count for linear, count in asked.items()
    }
    assert own[0] != own[1]
    assert steps[rule]["zeros"] == steps["uniform"]["zeros"] == 2 * sum(asked.values())
    weights_of_a_block = steps[rule]["weights"] / 2
    gone = [sum(block.values()) / weights_of_a_block for block in own]
    assert steps[rule]["allocated"] == gone
    assert "allocated" not in steps["uniform"]


@pytest.mark.parametrize(
    ("method", "propagate"),
    [("magnitude", "dense"), ("sparsegpt", "compressed"), ("worst_language", "compressed")],
)
def test_what_a_rule_gives_depends_neither_on_the_method_nor_on_what_blocks_are_fed(
    model, moments, tmp_path, method, propagate
):
    saved = {"moments": str(moments.folder)}
    do(allocating(model, "dlp", **saved), tmp_path / "wanda")

    do(allocating(model, "dlp", method=method, propagate=propagate), tmp_path / "run")

    assert zeros_by_block(tmp_path / "run") == zeros_by_block(tmp_path / "wanda")


def test_uniform_is_what_is_done_where_nobody_says_anything(model, tmp_path):
    do(plan(model, {"pattern": "0.29"}, **TEXT), tmp_path / "plain")

    do(allocating(model, "uniform"), tmp_path / "uniform")

    plain, uniform = weights(tmp_path / "plain"), weights(tmp_path / "uniform")
    assert all(torch.equal(plain[name], uniform[name]) for name in plain)


def test_what_is_skipped_stays_and_counts_nowhere(model, moments, tmp_path):
    step = {"skip": ["*down_proj", "*o_proj"], "moments": str(moments.folder)}

    do(allocating(model, "dlp", **step), tmp_path / "run")

    zeros = zeros_by_block(tmp_path / "run")
    for linear, count in asked_for(model, "0.29").items():
        kept = linear in ("mlp.down_proj.weight", "self_attn.o_proj.weight")
        assert zeros[0][linear] + zeros[1][linear] == (0 if kept else 2 * count)


@pytest.mark.parametrize("rule", ["uniform", "owl"])
def test_where_everything_is_skipped_a_rule_has_nothing_to_say(model, moments, tmp_path, rule):
    asked = allocating(model, rule, skip=["*"], moments=str(moments.folder))

    words = refusal(BadSetting, do, asked, tmp_path / "run")

    assert words == "--skip * leaves nothing to press. Skip fewer sites."


def test_the_command_takes_a_rule_and_its_options(model, moments, tmp_path):
    do(allocating(model, "owl", moments=str(moments.folder)), tmp_path / "recipe")

    found = bp.prune(
        str(model),
        pattern="0.29",
        allocate="owl",
        allocate_option=["threshold=2.5", "spread=0.2"],
        languages="swh_Latn,hin_Deva",
        moments=str(moments.folder),
        out=tmp_path / "run",
    )

    assert zeros_by_block(tmp_path / "run") == zeros_by_block(tmp_path / "recipe")
    (step,) = read_json(tmp_path / "run" / "manifest.json")["steps"]
    assert step["step"]["allocation"] == WIDE["owl"]
    assert found.rows


def test_it_is_said_which_rule_gave_blocks_their_own():
    settings = KINDS.module("prune").Settings(allocate="owl", pattern="2of4")

    assert KINDS.module("prune").say(settings) == "wanda 2of4, by block as owl says, uniform"


@pytest.mark.parametrize("propagate", ["dense", "compressed"])
def test_experts_that_stay_as_they_are_count_nowhere(tmp_path, propagate):
    folder = tmp_path / "experts"
    pico.model("qwen3_moe").save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    asked = allocating(folder, "dlp", min_tokens=190, propagate=propagate)

    step = do(asked, tmp_path / "run")["steps"][0]

    left = step["experts"]["left"]
    assert left
    plain = do(allocating(folder, "uniform", min_tokens=190), tmp_path / "plain")["steps"][0]
    assert plain["experts"]["left"] == left
    assert step["zeros"] == plain["zeros"]
    assert step["weights"] == plain["weights"]


# ---- refusals ------------------------------------------------------------------------------


def test_an_unknown_rule_is_refused_with_its_near_misses(model):
    words = refusal(UnknownName, allocating, model, "olw")

    assert words == (
        "no rule of allocation is called 'olw'. Did you mean 'owl'? Known: dlp, minimax, owl, "
        "uniform. Add one in babelpress/allocate/."
    )


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        ("dlp", {"threshold": 3.0}, "dlp has no option threshold. It accepts spread=0.15."),
        ("uniform", {"spread": 0.1}, "uniform has no option spread. It accepts no options."),
        (
            "owl",
            {"spread": "wide"},
            "owl's option spread must be of the type float, as 0.08; it is 'wide'.",
        ),
        (
            "owl",
            {"threshold": float("inf")},
            "owl's option threshold must be a finite number; it is inf.",
        ),
    ],
)
def test_options_that_a_rule_has_not_are_refused(model, rule, options, words):
    assert refusal(BadSetting, allocating, model, rule, allocation=options) == words


def test_a_quantization_has_no_rule_that_says_how_many_weights_go(model):
    words = refusal(BadSetting, quantizing, model, allocate="owl")

    assert words.endswith(
        "owl says how many weights of a block go, not how many bits it gets. Use --allocate "
        "uniform or minimax."
    )
