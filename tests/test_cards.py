"""The cards of our own models: what they say is what was measured."""

import json
import re

import pico
import pytest
from jinja2 import UndefinedError

from babelpress.judge.scores import write_results
from babelpress.system.files import DATA, write_sealed
from babelpress.text.mixtures import distribution
from benchmarks.reference import card
from benchmarks.reference.card import facts_of, render
from benchmarks.reference.encoder import card as encoder
from benchmarks.reference.mt import card as translator

FORMER = DATA / "babel-mini" / "README.md"


def row(evaluation, language, value, **more):
    common = {"model": "m", "evaluation": evaluation, "corpus": "c", "documents": 281}
    return {**common, "language": language, "value": value, **more}


@pytest.fixture
def training(tmp_path):
    path = tmp_path / "training.json"
    path.write_text(json.dumps({"words": "Nine steps on one core."}), encoding="utf-8")
    return path


def saved(folder, family):
    pico.model(family).save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def test_the_card_of_babel_mini_is_written_as_it_lies_in_the_package(tmp_path, monkeypatch):
    """From the numbers in it, by the template that all cards share."""
    text = FORMER.read_text(encoding="utf-8")
    found = re.findall(r"^\| .* `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    cells = {tag: [each.strip("*") for each in rest.split(" | ")] for tag, rest in found}
    assert cells.keys() == distribution("babel-mini").values.keys()
    close = 1e-6  # Igbo is below xz by less than is shown
    values = {tag: float(each[2]) - close for tag, each in cells.items()}
    write_results(tmp_path, [row("bits_per_byte", *each) for each in values.items()])
    compressors = "".join(f"{tag},{c[3]},{c[4]}\n" for tag, c in cells.items())
    (tmp_path / "c.csv").write_text(f"language,xz,ppmd\n{compressors}", encoding="utf-8")
    results = card.HERE / "results" / "training.json"
    names = [tmp_path, tmp_path / "c.csv", results, "--out", tmp_path / "card.md"]
    monkeypatch.setattr("sys.argv", ["card.py", *map(str, names)])

    card.main()

    means = re.compile(r"\| \*\*mean\*\* .*")  # of rounded numbers
    now = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert means.sub("", now) == means.sub("", text)


def test_what_is_told_of_a_shape_is_counted_on_the_model(tmp_path):
    facts = facts_of(saved(tmp_path / "m", "m2m_100"))

    model = pico.model("m2m_100")
    inside = sum(
        each.numel() for name, each in model.named_parameters() if re.search(r"layers\.\d", name)
    )
    assert facts["parameters"] == sum(each.numel() for each in model.parameters())
    assert facts["inside"] == round(100 * inside / facts["parameters"])


def test_the_card_of_the_encoder_has_every_language_by_its_text(tmp_path, training, monkeypatch):
    shares = {
        "yor_Latn": {"bytes": 2000, "tokens": 100},
        "swh_Latn": {"bytes": 6000, "tokens": 300},
    }
    (tmp_path / "shares.json").write_text(json.dumps(shares), encoding="utf-8")
    scores = tmp_path / "scores"
    (scores / "tallies").mkdir(parents=True)
    write_results(scores, [row("masked", "swh_Latn", 1.5), row("masked", "yor_Latn", 2.5)])
    write_sealed(scores / "tallies" / "masked.json", {"identity": {"corpus": "c", "window": 126}})
    model = saved(tmp_path / "m", "xlm_roberta")
    names = [model, scores, tmp_path, training, "--out", tmp_path / "card.md"]
    monkeypatch.setattr("sys.argv", ["card", *map(str, names)])

    encoder.main()

    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    swahili, yoruba, mean = re.findall(r"^\| [^|]+ \| .*\d \|$", text, re.MULTILINE)
    assert swahili == "| Swahili `swh_Latn` | 6 | 75.0% | 75.0% | 1.500 |"
    assert yoruba.endswith("| 2 | 25.0% | 25.0% | 2.500 |")
    assert mean == "| **mean** | | | | 2.000 |"
    assert "language: [swh, yor]" in text
    assert "in windows of 126 tokens" in text
    assert "Nine steps on one core." in text
    assert "{" not in text


def test_the_card_of_the_translator_says_in_how_many_directions_it_translates(
    tmp_path, training, monkeypatch
):
    told = {
        "eng_Latn>swh_Latn": {"pairs": 1200, "tokens": 5, "readings": 2.0},
        "swh_Latn>eng_Latn": {"pairs": 1200, "tokens": 5, "readings": 2.06},
        "eng_Latn>spa_Latn": {"pairs": 3400, "tokens": 5, "readings": 1.0},
        "spa_Latn>eng_Latn": {"pairs": 3400, "tokens": 5, "readings": 1.0},
    }
    (tmp_path / "pairs.json").write_text(json.dumps(told), encoding="utf-8")
    folders = [tmp_path / name for name in ("loss", "into", "from")]
    values = dict(zip(told, (1.1, 1.2, 1.3, 1.4), strict=True))
    write_results(folders[0], [row("translation_loss", way, v) for way, v in values.items()])
    for folder, both in zip(folders[1:], ((25.0, 19.9), (20.0, 8.0)), strict=True):
        tags = zip(("spa_Latn", "swh_Latn"), both, strict=True)
        write_results(folder, [row("translate", *each, denominator=1004.0) for each in tags])
    model = saved(tmp_path / "m", "m2m_100")
    names = [model, *folders, tmp_path, training, "--out", tmp_path / "card.md"]
    monkeypatch.setattr("sys.argv", ["card", *map(str, names)])

    translator.main()

    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \w+ `.*$", text, re.MULTILINE)
    assert rows == [
        "| Spanish `spa_Latn` | 3,400 | 1.0 | 1.300 | 1.400 | 20.0 | 25.0 |",
        "| Swahili `swh_Latn` | 1,200 | 2.1 | 1.100 | 1.200 | 8.0 | 19.9 |",
    ]
    assert "chrF++ is 20 or more in 2 of 4 directions. Where it is not, use the loss." in text
    assert "1,004 sentences" in text
    assert "language: [eng, spa, swh]" in text


def test_a_card_without_a_fact_is_not_written(training):
    facts = {"config": pico.model("xlm_roberta").config, "parameters": 5}

    with pytest.raises(UndefinedError, match="'inside' is undefined"):
        render("encoder/card.md.j2", training, ["swh_Latn"], **facts)
