"""Consistency of rankings against plain loops over every rank."""

import json
import math
from itertools import permutations

import pico
import pytest
import torch

from babelpress import evals
from babelpress.cli import main
from babelpress.errors import BadCorpus, BadSetting
from babelpress.evals import rankc
from babelpress.evals._choices import ranked
from babelpress.evals.choice import measure as choose
from babelpress.evals.choice import texts as items_of
from babelpress.evals.rankc import baselines, consistency, measure, texts
from babelpress.judge import scores
from babelpress.judge.likelihoods import Likelihoods
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import Opened

TOPICS = {
    "eng_Latn": {3: ("sports", "They won the game."), 5: ("travel", "The bus was late.")},
    "swh_Latn": {5: ("travel", "Basi lilichelewa."), 3: ("sports", "Walishinda mchezo.")},
    "yor_Latn": {3: ("sports", "Wọ́n borí."), 5: ("travel", "Ọkọ̀ pẹ́.")},
}


@pytest.fixture
def folder(tmp_path):
    """SIB-200 as in its repository, the same two sentences in three languages."""
    for code, rows in TOPICS.items():
        place = tmp_path / "sib200" / code / "test.tsv"
        place.parent.mkdir(parents=True)
        lines = [f"{name}\t{topic}\t{text}" for name, (topic, text) in rows.items()]
        place.write_text("\n".join(["index_id\tcategory\ttext", *lines]) + "\n", encoding="utf-8")
    return tmp_path / "sib200"


@pytest.fixture(scope="module")
def opened():
    llama = pico.model()
    with torch.no_grad():
        for parameter in llama.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return Opened("pico", llama, pico.tokenizer(), torch.float32)


def slow(one, other):
    """The definition of Qi et al., from scores: every rank, every choice, one at a time."""
    size = len(one)
    orders = []
    for values in (one, other):
        left, order = list(range(size)), []
        while left:
            best = left[0]
            for each in left:
                if values[each] > values[best]:
                    best = each
            order.append(best)
            left.remove(best)
        orders.append(order)
    total = 0.0
    for j in range(1, size + 1):
        shared = 0
        for each in orders[0][:j]:
            for again in orders[1][:j]:
                shared += each == again
        weight = math.exp(size - j) / sum(math.exp(size - k) for k in range(1, size + 1))
        total += weight * shared / j
    return total


def test_consistency_is_that_of_a_loop_over_ranks_for_every_pair_of_orders():
    for size in (2, 3, 4):
        for one in permutations(range(size)):
            for other in permutations(range(size)):
                found = consistency(ranked(one), ranked(other))
                assert found == pytest.approx(slow(one, other))


def test_the_best_choice_counts_most():
    """Sorted the other way round, as the published code does, the first of these would be less."""
    same_first = consistency([0, 1, 2, 3], [0, 3, 2, 1])
    same_last = consistency([0, 1, 2, 3], [2, 1, 0, 3])

    assert same_first == pytest.approx(slow([4, 3, 2, 1], [4, 1, 2, 3]))
    assert same_first > same_last
    assert consistency([1, 0], [1, 0]) == pytest.approx(1)
    assert consistency([1, 0], [0, 1]) == pytest.approx(1 / (1 + math.e))


def test_chance_is_the_mean_over_all_orders(folder):
    pairs = texts(str(folder)).documents("swh_Latn", "test")
    found = baselines(pairs)

    assert len(pairs[0].own.options) == 7
    orders = list(permutations(range(7)))
    mean = math.fsum(consistency(range(7), each) for each in orders) / len(orders)
    assert found == {"chance": pytest.approx(mean)}


@pytest.mark.parametrize("normalise", ["none", "tokens"])
def test_scores_are_those_of_the_choices_in_both_languages(folder, opened, normalise):
    model, tokenizer = opened.model, opened.tokenizer
    pairs = texts(str(folder)).documents("yor_Latn", "test")

    tally = measure(model, tokenizer, {"yor_Latn": pairs}, window=128, normalise=normalise)

    expected = []
    for pair in pairs:
        assert pair.own.id == pair.pivot.id
        scores = []
        for item in (pair.own, pair.pivot):
            row = []
            for option in item.options:
                before = tokenizer(option.before, add_special_tokens=False)["input_ids"]
                ids = tokenizer(option.before + option.scored, add_special_tokens=False)
                whole = torch.tensor([[tokenizer.bos_token_id, *ids["input_ids"]]])
                with torch.no_grad():
                    logs = torch.log_softmax(model(whole).logits[0].double(), -1)
                places = range(len(before) + 1, whole.shape[1])
                value = sum(logs[at - 1, whole[0, at]].item() for at in places)
                row.append(value / len(places) if normalise == "tokens" else value)
            scores.append(row)
        expected.append(slow(*scores))
    assert tally["yor_Latn"].numerator_D.tolist() == pytest.approx(expected)
    assert tally["yor_Latn"].denominator_D.tolist() == [1, 1]
    assert normalise == "none" or 0 < min(expected) < 1


def test_a_language_is_consistent_with_itself(folder, opened, tmp_path):
    same = folder / "yor_Latn" / "test.tsv"
    same.write_text((folder / "eng_Latn" / "test.tsv").read_text(), encoding="utf-8")

    pairs = texts(str(folder)).documents("yor_Latn", "test")

    found = measure(opened.model, opened.tokenizer, {"yor_Latn": pairs}, window=128)
    assert found["yor_Latn"].value == pytest.approx(1)


def test_what_was_said_of_choices_is_read_and_not_scored_again(
    folder, opened, tmp_path, monkeypatch
):
    kept = Likelihoods.open(tmp_path, "m" * 64, "t")
    model, tokenizer = opened.model, opened.tokenizer
    for tag in ("eng_Latn", "swh_Latn"):
        items = items_of(str(folder), task="sib200").documents(tag, "test")
        choose(model, tokenizer, {tag: items}, window=128, kept=kept)
    pairs = {"swh_Latn": texts(str(folder)).documents("swh_Latn", "test")}
    apart = measure(model, tokenizer, pairs, window=128)
    monkeypatch.setattr(
        "babelpress.evals._choices.told_sums", lambda *_, **__: pytest.fail("scored again")
    )

    found = measure(model, tokenizer, pairs, window=128, kept=kept)

    assert found["swh_Latn"].numerator_D.tolist() == apart["swh_Latn"].numerator_D.tolist()


def test_what_is_kept_is_of_one_model_tokenizer_and_text(tmp_path):
    one = Likelihoods.open(tmp_path, "a" * 64, "t")
    one.put("key", {"likelihoods": [[-1.0, -2.0]]})

    assert one.get("key") == {"likelihoods": [[-1.0, -2.0]]}
    assert one.get("other") is None
    assert Likelihoods.open(tmp_path, "a" * 64, "u").get("key") is None
    (path,) = one.folder.glob("*.json")
    path.write_text(path.read_text().replace("-2.0", "-3.0"))
    assert one.get("key") is None  # the disk has spoiled it
    Likelihoods.open(tmp_path, "b" * 64, "t")
    assert not path.exists()


def test_items_must_be_the_same_in_both_languages(folder):
    short = folder / "eng_Latn" / "test.tsv"
    short.write_text("\n".join(short.read_text().splitlines()[:2]) + "\n")

    with pytest.raises(BadCorpus, match="sib200/5 of swh_Latn is not in eng_Latn with as many"):
        texts(str(folder)).documents("swh_Latn", "test")


def test_what_cannot_be_compared_is_refused(folder):
    with pytest.raises(BadSetting, match="afrisenti has other items in every language"):
        texts(str(folder), task="afrisenti")
    with pytest.raises(BadCorpus, match=r"has no sib200 in fra_Latn.*pivot=LANGUAGE"):
        texts(str(folder), pivot="fr")
    with pytest.raises(BadSetting, match="English is what rankc compares with"):
        texts(str(folder)).require(["eng_Latn"])
    assert texts(str(folder), pivot="sw").languages() == ["eng_Latn", "yor_Latn"]


def test_what_it_declares():
    assert evals.facts("rankc")[2:] == (False, False)
    assert not evals.is_binary("rankc")
    assert evals.options("rankc") == {
        "normalise": "none",
        "task": "",
        "prompts": "english",
        "templates": "",
        "pivot": "eng_Latn",
    }
    assert rankc.METRIC == "rankc"


def test_the_command_line_gives_every_language_but_english(folder, model, tmp_path, capsys):
    asked = ["eval", str(model), "--on", "rankc", "--corpus", str(folder), "--json"]

    assert main([*asked, "--out", str(tmp_path / "out")]) == 0

    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["language"] for row in rows] == ["swh_Latn", "yor_Latn"]
    assert all(row["documents"] == 2 and row["majority"] is None for row in rows)
    assert len(list((tmp_path / "out" / "tallies" / "likelihoods").iterdir())) == 3


SAID = "English is what rankc compares with; it has no score of its own."


def test_one_list_of_languages_serves_several_evaluations(folder, model, tmp_path, capsys):
    """English has an accuracy, and no consistency with itself."""
    out = tmp_path / "out"
    asked = ["eval", str(model), "--on", "choice,rankc", "--corpus", str(folder)]

    assert main([*asked, "--languages", "en,sw,yo", "--out", str(out), "--json"]) == 0

    told = capsys.readouterr()
    rows = json.loads(told.out)["results"]
    assert [(row["evaluation"], row["language"]) for row in rows] == [
        *(("choice", tag) for tag in ("eng_Latn", "swh_Latn", "yor_Latn")),
        *(("rankc", tag) for tag in ("swh_Latn", "yor_Latn")),
    ]
    assert told.err.count(SAID) == 1
    assert main([*asked, "--languages", "latin", "--out", str(out)]) == 0
    assert SAID in capsys.readouterr().out
    assert main([*asked, "--languages", "sw", "--out", str(out)]) == 0
    assert SAID not in capsys.readouterr().out


def test_english_alone_is_an_error_before_anything_is_scored(folder, model, tmp_path, capsys):
    asked = ["eval", str(model), "--on", "choice,rankc", "--corpus", str(folder), "--json"]

    assert main([*asked, "--languages", "en", "--out", str(tmp_path / "out")]) == 2

    error = json.loads(capsys.readouterr().out)["error"]
    assert error.startswith(f"{SAID} Name other languages with --languages")
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_the_pivot_that_is_asked_for_is_set_aside_and_english_is_not():
    def told(**options):
        asked = {"on": "rankc", "languages": ("en", "sw", "yo"), "options": options}
        return EvaluationSettings(**asked).set_aside()

    assert told() == [SAID]
    assert told(pivot="Swahili") == [SAID.replace("English", "Swahili")]
    assert told(pivot="hi") == []


def test_what_compares_gates_and_reports_says_that_english_has_no_score(
    folder, model, tmp_path, capsys
):
    dense, other = tmp_path / "dense", tmp_path / "other"
    for out in (dense, other):
        words = ["eval", str(model), "--on", "rankc", "--corpus", str(folder), "--out", str(out)]
        assert main(words) == 0
    capsys.readouterr()
    on = ["--on", "rankc", "--languages", "en,sw,yo"]

    assert main(["compare", str(dense), str(other), *on, "--json"]) == 0
    told = capsys.readouterr()
    rows = json.loads(told.out)["results"]
    assert [row["language"] for row in rows if row["kind"] == "language"] == [
        *("swh_Latn", "yor_Latn")
    ]
    assert SAID in told.err
    gate = ["gate", str(other), "--against", str(dense), "--on", "rankc", "--languages"]
    assert main([*gate, "en,sw,yo"]) == 0
    told = capsys.readouterr().out
    assert SAID in told and "0 of 2 languages lose more" in told
    assert main([*gate, "en,sw,hi"]) == 2
    assert "Hindi has no rankc score. Evaluate both models in it" in capsys.readouterr().err
    page = tmp_path / "report.html"
    assert main(["report", str(dense), str(other), *on, "--out", str(page)]) == 0
    assert SAID in page.read_text(encoding="utf-8")


def test_a_task_that_is_said_or_seen_is_the_same_and_so_are_names_of_a_pivot(
    folder, model, tmp_path, capsys
):
    asked = ["eval", str(model), "--on", "rankc", "--corpus", str(folder)]
    asked += ["--out", str(tmp_path / "out")]
    assert main(asked) == 0
    capsys.readouterr()

    assert main([*asked, "--option", "task=sib200", "--option", "pivot=en"]) == 0

    assert "set aside" not in capsys.readouterr().err
    made = scores.identity_of(tmp_path / "out", "rankc", str(folder))
    assert made["options"] == {"task": "sib200"}
