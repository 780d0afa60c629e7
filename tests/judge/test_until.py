"""A run is scored until a promise is known, and what is read of that is read rightly."""

import json
from functools import wraps

import numpy as np
import pico
import pytest
import torch
import translating

from babelpress import commands, evals
from babelpress.commands.declared import rows_of
from babelpress.errors import BadRun, BadSetting
from babelpress.evals import bits_per_byte, translation_loss
from babelpress.judge import partial, scores, verdicts
from babelpress.judge.evaluate import evaluate
from babelpress.judge.kept import Draw
from babelpress.judge.known import BROKEN, KEPT, OPEN
from babelpress.judge.settings import EvaluationSettings
from babelpress.judge.until import Promise
from babelpress.models.names import EMBEDDED as BABEL_MINI
from babelpress.models.open import Opened
from babelpress.numerics.tally import Tally
from babelpress.report import losses
from babelpress.text.corpus import open_corpus

ON = "bits_per_byte"
TAGS = ["eng_Latn", "hin_Deva", "swh_Latn"]
N = 44


@pytest.fixture
def text(tmp_path):
    """A corpus of N test documents of very different lengths in each of three languages."""
    folder = tmp_path / "text"
    folder.mkdir()
    sizes = np.random.default_rng(1).lognormal(2.5, 0.8, N).astype(int) + 2
    for tag in TAGS:
        rows = [
            {"id": f"{n}", "split": "test", "text": "ab cd "[: 2 + n % 5] * size}
            for n, size in enumerate(sizes.tolist())
        ]
        (folder / f"{tag}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def opened(name=BABEL_MINI, seed=0):
    return Opened(name, pico.model(seed=seed), pico.tokenizer(), torch.float32)


def asked(text, **options):
    return EvaluationSettings(corpus=text, on=(ON,), window=64, **options)


@pytest.fixture
def losing(monkeypatch):
    """In the place of a model: bits that are known; of those that were scored, how many."""
    count = dict.fromkeys(TAGS, 0)
    loss = dict.fromkeys(TAGS, 0.0)

    @wraps(bits_per_byte.measure)
    def measure(model, tokenizer, documents, **options):
        found = {}
        for tag, some in documents.items():
            count[tag] += len(some)
            bytes_D = np.array([len(each.text) for each in some], dtype=float)
            numbers = [np.random.default_rng(len(each.text) + int(each.id[-1])) for each in some]
            own_D = np.array([rng.normal(0, 0.02 * (loss[tag] != 0)) for rng in numbers])
            base_D = np.array([rng.uniform(1, 2) for rng in numbers])
            names = tuple(each.id for each in some)
            found[tag] = Tally(names, bytes_D * base_D * (1 + loss[tag] + own_D), bytes_D)
        return found

    monkeypatch.setattr(bits_per_byte, "measure", measure)
    return count, loss


@pytest.fixture
def folders(tmp_path, text, losing):
    """The dense scores of the whole text, and where those of a run go."""
    count, loss = losing
    evaluate(opened(), tmp_path / "dense", asked(text))
    count.update(dict.fromkeys(TAGS, 0))
    loss.update(dict(zip(TAGS, (0.002, 0.011, 0.001), strict=True)))
    return tmp_path / "dense", tmp_path / "run"


def until(folders, text, max_loss=0.05, **options):
    """Score the run until it is known; who asked, and the rows."""
    how = {key: options.pop(key) for key in ("at_most", "languages") if key in options}
    promise = Promise(folders[0], max_loss, how.get("at_most", 0))
    rows = evaluate(
        opened("run", 1), folders[1], asked(text, languages=how.get("languages", ())), until=promise
    )
    return promise, rows


def test_a_kept_promise_is_known_from_the_first_documents_of_every_language(folders, text, losing):
    promise, rows = until(folders, text)

    assert promise.answer() == KEPT
    assert promise.known == dict.fromkeys(TAGS, KEPT)
    dense = scores.tallies(folders[0], ON)
    tallies = scores.tallies(folders[1], ON)
    for row in rows:
        tag, size = row["language"], row["documents"]
        assert losing[0][tag] == size < N
        order = Draw.of(dense[tag]).order
        assert {*tallies[tag].documents} == {*order[:size]}
        whole = open_corpus(text).documents(tag, "test")
        assert list(tallies[tag].documents) == [d.id for d in whole if d.id in order[:size]]
        assert row["until"] == {
            "question": "max_loss",
            "max_loss": 0.05,
            "alpha": 0.05,
            "against": str(folders[0]),
            "documents": N,
            "known": KEPT,
            "answer": KEPT,
        }
    assert scores.read_results(folders[1]) == rows


def test_one_language_that_loses_more_ends_it_for_all(folders, text, losing):
    losing[1]["hin_Deva"] = 0.3

    promise, rows = until(folders, text)

    assert promise.answer() == BROKEN
    assert promise.known["hin_Deva"] == BROKEN
    assert len({row["documents"] for row in rows}) == 1
    assert all(row["until"]["answer"] == BROKEN for row in rows)


def test_documents_that_may_not_be_scored_leave_it_undecided(folders, text, losing):
    losing[1]["hin_Deva"] = 0.045

    promise, rows = until(folders, text, at_most=14)

    assert promise.answer() == promise.known["hin_Deva"] == OPEN
    assert max(row["documents"] for row in rows) <= 12
    with pytest.raises(BadRun, match=r"undecided: of .*hin_Deva.*--until-known --max-loss 0.05"):
        commands.gate(folders[1], against=folders[0], max_loss=0.05)


def test_the_same_question_scores_nothing_and_another_one_goes_on(folders, text, losing):
    promise, rows = until(folders, text)
    scored = dict(losing[0])

    again, same = until(folders, text)
    closer, more = until(folders, text, max_loss=promise.first["hin_Deva"].loss())

    assert same == rows
    assert again.known == promise.known
    sizes = {row["language"]: row["documents"] for row in more}
    assert sizes["hin_Deva"] > scored["hin_Deva"]
    assert losing[0] == sizes
    assert closer.answer() in (KEPT, BROKEN)


def test_a_run_that_cannot_be_better_for_its_worst_language_stops(folders, text, losing, tmp_path):
    best, (dense, run) = tmp_path / "best", folders
    evaluate(opened("best", 1), best, asked(text))
    worst = max(row.change for row in verdicts.against(dense, best).changes)
    losing[1].update(eng_Latn=0.0, hin_Deva=0.2, swh_Latn=0.0)
    beat = Promise(dense, 0.05, beat=best)

    rows = evaluate(opened("run", 2), run, asked(text), until=beat)

    assert beat.max_loss == pytest.approx(worst)
    assert beat.answer() == BROKEN
    assert beat.known["hin_Deva"] == BROKEN
    assert max(row["documents"] for row in rows) < N
    assert rows[0]["until"]["beat"] == str(best)
    with pytest.raises(BadRun, match="scores of some documents only"):
        evaluate(opened("third", 3), tmp_path / "3", asked(text), until=Promise(dense, 0, 0, run))


def test_a_whole_score_is_never_given_up_for_a_part_of_it(folders, text, losing):
    whole = evaluate(opened("run", 1), folders[1], asked(text))
    losing[0].update(dict.fromkeys(TAGS, 0))

    promise, rows = until(folders, text)

    assert rows == whole
    assert losing[0] == dict.fromkeys(TAGS, 0)
    assert promise.answer() == KEPT
    assert all(first.is_whole for first in promise.first.values())


def written(folder):
    """The bytes of all that is kept, but for locks."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_a_whole_score_goes_on_from_a_part_with_the_bytes_of_one_that_did_not_stop(tmp_path, text):
    """On a real model, whose sums hang in the last digits on what is read together."""
    dense, few, many = tmp_path / "dense", tmp_path / "few", tmp_path / "many"
    evaluate(opened(), dense, asked(text))
    model, settings = opened("run", 1), asked(text)
    evaluate(model, few, settings, until=Promise(dense, 0.9))
    sizes = [row["documents"] for row in scores.read_results(few)]
    assert max(sizes) < N
    whole, part = scores.tallies(dense, ON), scores.tallies(few, ON)
    near = part[TAGS[0]].value / whole[TAGS[0]].value - 1  # which is not known soon
    evaluate(model, many, settings, until=Promise(dense, near, at_most=36))
    assert max(row["documents"] for row in scores.read_results(many)) > max(sizes)

    rows = evaluate(model, few, settings)
    evaluate(model, many, settings)

    assert written(few) == written(many)
    assert all(row["documents"] == N and "until" not in row for row in rows)
    at_once = evaluate(model, tmp_path / "once", settings)
    for row, other in zip(rows, at_once, strict=True):
        assert row["value"] == pytest.approx(other["value"], rel=1e-6)


def test_killed_between_rounds_it_ends_with_the_same_bytes(folders, text, losing, monkeypatch):
    losing[1]["swh_Latn"] = 0.043
    until(folders, text)
    sound = written(folders[1])
    there = bits_per_byte.measure
    calls = []

    @wraps(there)
    def dying(model, tokenizer, documents, **options):
        calls.append(1)
        if len(calls) == 4:  # of the second round
            raise KeyboardInterrupt
        return there(model, tokenizer, documents, **options)

    other = (folders[0], folders[1].with_name("other"))
    monkeypatch.setattr(bits_per_byte, "measure", dying)
    with pytest.raises(KeyboardInterrupt):
        until(other, text)
    until(other, text)

    assert written(other[1]) == sound


def measured(name, text, folder):
    """What scores documents of a language, and documents."""
    if name == "translation_loss":
        texts = translation_loss.texts(str(translating.written(folder / "parallel", test=4)))
        way = "eng_Latn>swh_Latn"
        model, tokenizer = translating.model(), translating.tokenizer()
    else:
        texts, way = open_corpus(text), "swh_Latn"
        model = pico.model("bert" if name == "masked" else "llama")
        tokenizer = pico.tokenizer()
        tokenizer.mask_token = "<pad>"
    measure = evals.EVALUATIONS.get(name)

    def of(some):
        return measure(model, tokenizer, {way: some}, window=100)[way]

    return of, texts.documents(way, "test")[:9]


@pytest.mark.parametrize("name", [n for n in evals.EVALUATIONS.names() if evals.by_document(n)])
def test_what_is_said_to_add_up_by_document_does(name, text, tmp_path):
    of, documents = measured(name, text, tmp_path)

    whole, *parts = of(documents), of(documents[1::2]), of(documents[::2])

    for part in parts:
        same = whole.among(part.documents)
        assert part.documents == same.documents
        assert part.numerator_D.tolist() == pytest.approx(same.numerator_D.tolist(), rel=1e-5)
        assert part.denominator_D.tolist() == same.denominator_D.tolist()


# ---- who reads it --------------------------------------------------------------------------


def test_compare_and_gate_pair_the_articles_of_both_and_say_so(folders, text):
    promise, rows = until(folders, text)
    dense, run = folders

    found = verdicts.against(dense, run)
    whole, part = scores.tallies(dense, ON), scores.tallies(run, ON)
    for change, row in zip(found.changes, rows, strict=True):
        tag = change.language
        same = whole[tag].among(part[tag].documents)
        assert change.documents == row["documents"]
        assert change.change == pytest.approx(part[tag].value / same.value - 1)
        assert (change.low, change.high) == promise.first[tag].limits()

    passed = commands.gate(run, against=dense, max_loss=0.05)
    compared = commands.compare(dense, [run])
    assert passed.exit_code == 0
    assert "(what is known from the first documents)" in passed.says[0]
    assert any("only the first" in line and f"of {N} documents" in line for line in passed.says)
    assert any("only the first" in line for line in compared.says)
    failed = commands.gate(run, against=dense, max_loss=-0.5)
    assert failed.exit_code == 1
    assert len(failed.rows) == 3


def test_a_report_says_which_runs_were_scored_in_part(folders, text, tmp_path):
    until(folders, text)

    commands.report(folders[0], [folders[1]], out=tmp_path / "report.html")
    (line,) = losses.partly(folders[1])

    assert "This run: in 3 languages only the first" in line
    assert "documents are scored, for a promise of 5 %" in (tmp_path / "report.html").read_text()


def test_runs_of_one_ladder_are_compared_on_the_documents_that_all_have(folders, text):
    until(folders, text)
    evaluate(opened("other", 2), folders[1].with_name("other"), asked(text))

    found = verdicts.collapsed(
        folders[0], [folders[1], folders[1].with_name("other")], max_loss=0.05
    )

    assert [point.holds for point in found.points] == [2, 2, 2]


def test_what_others_are_held_against_is_whole(folders, text, tmp_path):
    until(folders, text)

    with pytest.raises(BadRun, match="scores of some documents only"):
        verdicts.against(folders[1], folders[0])
    with pytest.raises(BadRun, match="scores of some documents only"):
        until((folders[1], tmp_path / "third"), text)
    assert partial.said(folders[0], "dense", ON, text) == []


def test_a_dense_model_of_other_documents_is_refused_before_anything_is_scored(
    folders, text, losing, tmp_path
):
    evaluate(opened(), tmp_path / "less", asked(text, documents=20))
    losing[0].update(dict.fromkeys(TAGS, 0))

    with pytest.raises(BadRun, match=f"on all these {N} documents"):
        until((tmp_path / "less", tmp_path / "third"), text)
    with pytest.raises(BadRun, match="there is no folder"):
        until((tmp_path / "nowhere", tmp_path / "third"), text)
    assert losing[0] == dict.fromkeys(TAGS, 0)


def test_the_command_says_what_is_known_and_from_how_much(folders, text, model, losing):
    losing[1]["hin_Deva"] = 0.3
    given = {"corpus": text, "window": 64, "until_known": True, "against": str(folders[0])}

    found = commands.evaluate(str(model), **given, out=folders[1])

    scored = sum(row["documents"] for row in found.rows)
    assert (
        f"broken: hin_Deva loses more than 5 % against {folders[0]}. Known from {scored} of "
        f"{3 * N} documents."
    ) in found.says
    assert all(sorted(row) == sorted(rows_of(commands.COMMANDS["eval"])) for row in found.rows)
    table = found.tables[-1]
    first = {column.title: column.write(table.rows[0]) for column in table.columns}
    assert first["promise"] == "broken"
    assert first["documents"] == f"{found.rows[0]['documents']} of {N}"
    assert first["at least"].startswith("+")
    assert float(first["at least"].split()[0]) > 5
    whole = commands.evaluate(str(model), corpus=text, window=64, out=folders[1])
    assert all(row["until"] is None and row["documents"] == N for row in whole.rows)


def test_what_cannot_be_asked_is_refused_in_one_line(folders, text):
    with pytest.raises(BadSetting, match="needs the scores of the dense model"):
        commands.evaluate(BABEL_MINI, until_known=True, out=folders[1])
    with pytest.raises(BadSetting, match="--max-loss has no effect without --until-known"):
        commands.evaluate(BABEL_MINI, max_loss=0.1)
    with pytest.raises(BadSetting, match="ece says nothing of some documents"):
        commands.evaluate(
            BABEL_MINI, until_known=True, against=str(folders[0]), on="ece", out=folders[1]
        )
    with pytest.raises(BadSetting, match="of one evaluation"):
        commands.evaluate(
            BABEL_MINI,
            until_known=True,
            against=str(folders[0]),
            on="bits_per_byte,top1",
            out=folders[1],
        )
    with pytest.raises(BadSetting, match="add --out"):
        commands.evaluate(BABEL_MINI, until_known=True, against=str(folders[0]))
    with pytest.raises(BadSetting, match="too few to know anything"):
        Promise(folders[0], 0.05, at_most=4)
