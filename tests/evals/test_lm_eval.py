"""Tasks of lm-eval; without the package only that it is asked for."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from babelpress import evals
from babelpress.cli import main
from babelpress.errors import BadCorpus, BadSetting, MissingPackage, UnknownName
from babelpress.evals.choice import measure as choose
from babelpress.evals.choice import texts as items_of
from babelpress.evals.lm_eval import _loaded, baselines, measure, texts
from babelpress.models.open import open_model

THERE = importlib.util.find_spec("lm_eval") is not None
needs_it = pytest.mark.skipif(not THERE, reason="lm-eval is not installed: babelpress[tasks]")
# It and what it imports use names that newer packages call deprecated; that is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

ROWS = [
    ("Ardhi ilikuwa na maji mengi.", "Mvua ilinyesha usiku.", "Jua liliwaka sana.", 0),
    ("Mtoto alilia.", "Alikuwa na furaha.", "Alianguka chini.", 1),
    ("Mbuzi walikimbia.", "Lango lilikuwa wazi.", "Walikuwa wamelala.", 0),
    ("Alikunywa maji.", "Alikuwa na kiu.", "Alikuwa na kalamu.", 0),
    ("Mashua haikusonga.", "Kulikuwa na upepo.", "Hakukuwa na upepo.", 1),
    ("Taa ilizimika.", "Umeme ulikatika.", "Kitabu kilikuwa kizuri.", 0),
    ("Alivaa koti.", "Kulikuwa na baridi.", "Kulikuwa na joto kali.", 0),
    ("Soko lilijaa watu.", "Ilikuwa siku ya kupumzika nyumbani.", "Ilikuwa siku ya soko.", 1),
]
YAML = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{premise.strip()[:-1]}}}} because"
doc_to_target: label
doc_to_choice: "{{{{[choice1[:1].lower() + choice1[1:], choice2[:1].lower() + choice2[1:]]}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def folder(tmp_path):
    """A task file over our own sentences, which are XCOPA's test items as well."""
    names = ("premise", "choice1", "choice2", "label")
    rows = [
        {**dict(zip(names, row, strict=True)), "question": "cause", "idx": place}
        for place, row in enumerate(ROWS)
    ]
    file = tmp_path / "data" / "sw" / "test.sw.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    for name in ("because_sw", "because"):
        text = YAML.format(name=name, file=file)
        (tmp_path / "tasks" / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def mini():
    """The embedded model; its tokenizer puts BOS first by itself here, as many others do."""
    opened = open_model("babel-mini")
    tokenizer: Any = opened.tokenizer
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    return opened


@pytest.mark.skipif(THERE, reason="lm-eval is installed")
def test_without_the_package_it_says_how_to_get_it(model, capsys):
    with pytest.raises(MissingPackage, match=r"package lm-eval.*pip install 'babelpress\[tasks\]'"):
        texts("embedded", task="xcopa_sw")
    assert main(["eval", str(model), "--on", "lm_eval", "--option", "task=xcopa_sw"]) == 2
    assert "pip install 'babelpress[tasks]'" in capsys.readouterr().err


def test_it_needs_a_task():
    with pytest.raises(BadSetting, match="needs the name of a task"):
        texts("embedded")


def test_what_it_declares():
    assert evals.facts("lm_eval")[2:] == (False, False)
    assert evals.is_binary("lm_eval")
    assert evals.options("lm_eval") == {"metric": "acc", "task": "", "language": ""}


@needs_it
def test_its_answers_are_those_of_choice_on_the_same_items(folder, mini):
    """The harness scores one choice at a time with its own class, and by its own tokenisation."""
    tasks = texts(str(folder / "tasks"), task="because_sw")
    asked = tasks.documents("swh_Latn", "test")
    items = items_of(str(folder / "data")).documents("swh_Latn", "test")

    found = measure(mini.model, mini.tokenizer, {"swh_Latn": asked}, window=128)["swh_Latn"]
    ours = choose(mini.model, mini.tokenizer, {"swh_Latn": items}, window=128)["swh_Latn"]

    by_item = dict(zip(ours.documents, ours.numerator_D, strict=True))
    assert found.documents == tuple(f"because_sw/{n}" for n in range(len(ROWS)))
    assert found.numerator_D.tolist() == [by_item[f"xcopa/{n}"] for n in range(len(ROWS))]
    assert 0 < found.value < 1
    assert baselines(asked) == {"chance": 0.5, "majority": 5 / 8}
    assert "lm-eval@" in tasks.name and tasks.name.endswith(":because_sw")


@needs_it
def test_some_documents_have_what_they_have_among_all(folder, mini):
    asked = texts(str(folder / "tasks"), task="because_sw").documents("swh_Latn", "test")

    whole = measure(mini.model, mini.tokenizer, {"swh_Latn": asked}, window=128)["swh_Latn"]
    some = measure(mini.model, mini.tokenizer, {"swh_Latn": asked[5:1:-1]}, window=128)["swh_Latn"]

    assert np.array_equal(some.numerator_D, whole.numerator_D[5:1:-1])


@needs_it
def test_a_task_file_that_changes_is_another_text(folder, mini):
    tasks = folder / "tasks"
    before = texts(str(tasks), task="because_sw").documents("swh_Latn", "test")[0].text
    file = tasks / "because_sw.yaml"
    file.write_text(file.read_text().replace("}} because", "}} for"))
    _loaded.cache_clear()

    after = texts(str(tasks), task="because_sw").documents("swh_Latn", "test")[0].text

    assert before.replace(" because", " for") == after != before


@needs_it
def test_a_task_whose_name_says_no_language_is_told_one(folder, mini):
    tasks = str(folder / "tasks")

    with pytest.raises(BadSetting, match=r"no task says its language \(because\)"):
        texts(tasks, task="because")
    assert texts(tasks, task="because", language="sw").languages() == ["swh_Latn"]
    assert texts(tasks, task="because_sw").languages() == ["swh_Latn"]
    with pytest.raises(BadCorpus, match="has no task in tha_Thai"):
        texts(tasks, task="because_sw").require(["tha_Thai"])


@needs_it
def test_what_the_harness_has_not_is_said(folder, mini):
    tasks = str(folder / "tasks")

    with pytest.raises(UnknownName, match=r"'becaus_sw'\. Did you mean 'because_sw'"):
        texts(tasks, task="becaus_sw")
    with pytest.raises(BadCorpus, match="no folder nowhere with task files"):
        texts("nowhere", task="because_sw")
    asked = texts(tasks, task="because_sw").documents("swh_Latn", "test")
    with pytest.raises(BadSetting, match=r"no number .* called f1\. It has acc"):
        measure(mini.model, mini.tokenizer, {"swh_Latn": asked[:1]}, window=128, metric="f1")


@needs_it
def test_the_command_line_keeps_the_scores_of_a_task(folder, model, tmp_path, capsys):
    torch.manual_seed(0)
    out = tmp_path / "out"
    asked = ["eval", str(model), "--on", "lm_eval", "--corpus", str(folder / "tasks"), "--json"]

    assert main([*asked, "--option", "task=because_sw", "--out", str(out)]) == 0

    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert (row["language"], row["documents"], row["chance"]) == ("swh_Latn", len(ROWS), 0.5)
    assert list(Path(out, "tallies").glob("lm_eval.*.swh_Latn.parquet"))
