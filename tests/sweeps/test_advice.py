"""Advice: which ways there are, how they are narrowed, and what is told in the end."""

import shutil
from dataclasses import replace

import fitting
import numpy as np
import pytest
import torch

from babelpress.errors import BadRun
from babelpress.judge import scores
from babelpress.judge.contest import Entrant, entrant
from babelpress.runs import manifest, recipe
from babelpress.runs.open import open_any
from babelpress.sweeps import advice, arms, parting, schedule
from babelpress.sweeps.advice import Advise, Asked
from babelpress.sweeps.arms import Arm
from babelpress.sweeps.setup import Setup
from babelpress.text.corpus import open_corpus

pytestmark = pytest.mark.usefixtures("one_thread")

AMOUNT = {"prune": {"pattern": "0.5"}, "quantize": {"bits": 4, "group": 32}}
ON = "bits_per_byte"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(fitting.save(tmp_path_factory.mktemp("models") / "tiny"))


def asked(model, kind="prune", **more):
    text = fitting.TEXT.model_copy(update={"tokens": 80})
    chooses, proves = parting.parted(model, text, 6, 2)
    given = {"minutes": 100.0, "english": True, "prior": False, **more}
    return Asked(model, kind, AMOUNT[kind], given.pop("minutes"), text, chooses, proves, **given)


def search(wanted, out):
    setup = Setup(out, str(out / "results"), keep_models=True)
    return Advise(wanted, setup, schedule.Here(setup))


@pytest.fixture(scope="module")
def advised(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("searches") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advice, "REPAIRING", 2e-4)
        yield out, asked(model), search(asked(model), out).do()


# ---- the ways ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["prune", "quantize"])
def test_every_way_is_a_recipe(kind):
    first = arms.first(kind, english=True, prior=True)
    crossed = arms.crossed(kind, {arm: -float(n) for n, arm in enumerate(first)})

    for arm in (*first, *crossed):
        own = arm.own(kind, AMOUNT[kind])
        data = {"model": "babel-mini", "calibration": {}, "steps": []}
        for place, value in own.items():
            assert recipe.put(data, place, value)
        made = recipe.of(data)
        work = made.steps[0].work
        assert (work.method, work.mixture, work.allocate) == (arm.method, arm.mixture, arm.allocate)
        assert made.calibration.weigh == arm.weigh
    assert first[0] == Arm(arms.METHODS[kind][0])
    assert len(set(first)) == len(first)


def test_only_what_did_better_is_carried_on_and_to_the_best_method():
    plain, wanda = Arm("sparsegpt"), Arm("wanda")
    better, worse = replace(plain, weigh="loss"), replace(plain, mixture="english")
    owl, dlp = replace(plain, allocate="owl"), replace(plain, allocate="dlp")
    losses = {plain: 0.5, wanda: 0.4, better: 0.45, worse: 0.9, owl: 0.3, dlp: 0.49}

    found = arms.crossed("prune", losses)

    assert found == [
        Arm("wanda", allocate="owl"),
        Arm("wanda", weigh="loss"),
        Arm("wanda", allocate="dlp"),
        Arm("wanda", weigh="loss", allocate="owl"),  # of two rules the one that did best
        Arm("wanda", mixture="measured", weigh="loss"),
        Arm("wanda", weigh="loss", allocate="minimax"),
    ]


def test_where_nothing_did_better_only_what_takes_rounds_is_tried():
    plain = Arm("gptq")

    found = arms.crossed(
        "quantize", {plain: 0.1, Arm("awq"): 0.2, replace(plain, weigh="loss"): 0.1}
    )

    assert found == [replace(plain, mixture="measured"), replace(plain, allocate="minimax")]


@pytest.mark.parametrize(("number", "left"), [(1, 1), (2, 1), (5, 3), (8, 4)])
def test_the_better_half_goes_on_and_the_plain_way_with_it(number, left):
    some = [Arm("wanda", mixture=f"only:{n}") for n in range(number)]
    losses = {arm: float(n) for n, arm in enumerate(some)}

    assert arms.halved(losses, []) == some[:left]
    assert arms.halved(losses, [some[-1]]) == list(dict.fromkeys([*some[:left], some[-1]]))


# ---- the search ----------------------------------------------------------------------------


def test_rounds_score_fewer_ways_on_more_documents(advised):
    out, _, found = advised

    by_round = {}
    for each in found.standings:
        by_round.setdefault(each.documents, []).append(each.arm)
    assert set(by_round) <= {1, 2, 3}
    assert found.plain in by_round[max(by_round)]
    assert found.best in by_round[max(by_round)]
    first = arms.first("prune", english=True, prior=False)
    assert set(first) <= {each.arm for each in found.standings}
    for each in found.standings:
        assert manifest.read(each.folder).chain[-1].step["mixture"] == each.arm.mixture
        assert each.folder.parent == out / "runs"


def test_what_is_told_is_of_documents_that_chose_nothing(advised):
    out, _, found = advised
    every = [d.id for d in open_corpus("embedded").documents("swh_Latn", "test")]

    (proof,) = [
        place
        for place in (out / "scores").iterdir()
        if list(scores.tallies(place / "dense", ON)["swh_Latn"].documents) == every[3:6]
    ]
    dense = scores.tallies(proof / "dense", ON)
    for each in found.proofs:
        again = entrant(dense, scores.tallies(proof / each.folder.name, ON))
        assert again.worst == each.entrant.worst
        assert each.entrant.documents == 3
    assert {each.label for each in found.proofs} >= {found.plain.label, found.best.label}
    if found.best != found.plain:
        assert found.worst is not None
        by_label = {each.label: each.entrant for each in found.proofs}
        value = by_label[found.best.label].worst - by_label[found.plain.label].worst
        assert found.worst.value == pytest.approx(value)
        assert found.known == (found.worst.high < 0)


def test_the_plain_way_is_repaired_as_long_as_the_best(advised):
    _, _, found = advised

    tuned = [each for each in found.proofs if each.repaired]
    assert {each.arm for each in tuned} == {found.best, found.plain}
    minutes = {manifest.read(each.folder).chain[-1].step["minutes"] for each in tuned}
    assert len(minutes) == 1


def test_the_same_call_does_nothing_again(advised):
    out, wanted, found = advised

    def stamps():
        return {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}

    before = stamps()
    again = search(wanted, out).do()

    assert stamps() == before
    assert (again.best, again.worst, again.repaired) == (found.best, found.worst, found.repaired)


def test_scores_of_another_model_in_the_same_folder_are_not_taken(advised, model, tmp_path):
    out, _, found = advised
    copy, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(out, copy)
    torch.manual_seed(5)
    opened = open_any(model)
    for each in opened.model.parameters():
        each.data += 0.05 * torch.randn_like(each)
    shutil.copytree(model, other)
    opened.model.save_pretrained(other)

    again = search(asked(str(other), minutes=1e-6), copy).do()
    alone = search(asked(str(other), minutes=1e-6), tmp_path / "alone").do()

    def losses(some):
        return {each.arm: each.entrant.worst for each in some.standings}

    assert losses(again) == losses(alone)
    assert losses(again).items().isdisjoint(losses(found).items())


def test_time_that_is_gone_leaves_ways_out_and_says_so(model, tmp_path):
    found = search(asked(model, minutes=1e-6), tmp_path / "out").do()

    methods = arms.METHODS["prune"]
    assert {each.arm for each in found.standings} == {Arm(method) for method in methods}
    assert any("not tried for want of time" in note for note in found.notes)
    assert any("nothing was repaired" in note for note in found.notes)
    assert found.repaired is None


def test_without_the_plain_way_there_is_nothing_to_advise(model, tmp_path):
    wanted = replace(asked(model, "quantize"), amount={"bits": 4, "group": 48})

    with pytest.raises(BadRun, match="gptq, uniform mixture could not be made"):
        search(wanted, tmp_path / "out").do()


def test_an_order_is_known_where_the_best_is_less_in_nearly_all_draws(tmp_path, model):
    def standing(arm, worst, spread):
        worst_R = worst + spread * np.sin(np.arange(200.0) * (1 + worst))
        entered = Entrant(worst, "swh_Latn", worst, worst_R, worst_R, 9)
        return advice.Standing(arm, tmp_path, entered, 9)

    found = search(asked(model), tmp_path / "out")
    one, two, three = Arm("wanda"), Arm("ria"), Arm("sparsegpt")
    found.standings = {
        one: standing(one, 0.1, 0.01),
        two: standing(two, 0.2, 0.01),
        three: standing(three, 0.11, 0.05),
    }

    assert found._decided([one, two])
    assert not found._decided([one, two, three])
