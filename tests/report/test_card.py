"""The model card, read back by parsers that are not ours."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from babelpress.errors import BadRun
from babelpress.judge.scores import tallies, tally_path
from babelpress.numerics.tally import Tally
from babelpress.report import card as cards
from babelpress.report import losses
from babelpress.report.told import cheaper
from babelpress.runs import recipe
from babelpress.system import escaping
from babelpress.system.files import DATA, read_json, write_json

BYTES = np.array([40.0, 90.0, 55.0, 70.0, 61.0, 48.0, 77.0, 52.0])
LOSS = {"eng_Latn": 0.01, "swh_Latn": 0.31, "hin_Deva": 0.12, "zho_Hans": 0.07}
HOSTILE = (
    "</td><script>alert(1)</script> | [a](javascript:x) ![b](http://e.vil/c.png) `c` ``` **d** "
    "_e_ ~~f~~ $g$ https://e.vil www.e.vil &lt; \\ # {{ 7*7 }} \u202eh\x07\nnew --- line"
)


def scored(folder: Path, loss, *, on="bits_per_byte", scale=1.5, apart=0.2) -> Path:
    rows = []
    for place, (tag, lost) in enumerate(loss.items()):
        noise_D = 1 + 0.01 * np.random.default_rng(place).standard_normal(len(BYTES))
        tally = Tally(
            tuple(f"doc-{i}" for i in range(len(BYTES))),
            BYTES * (scale + apart * place) * (1 + lost * noise_D),
            BYTES,
        )
        tally.save(folder / "tallies" / f"{on}.{tag}.parquet")
        rows.append({"model": "x", "language": tag, "evaluation": on, "value": tally.value})
    path = folder / "results.jsonl"
    there = path.read_text() if path.exists() else ""
    path.write_text(there + "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def step(kind="prune", *, model="babel-mini", shares=None, **given):
    shares = shares or {"eng_Latn": 0.25, "swh_Latn": 0.75, "tha_Thai": 0.0}
    work = {"method": "wanda", "pattern": "0.25", "mixture": "minimax", "skip": [], "options": {}}
    return {
        "kind": kind,
        "step": work | {"propagate": "compressed"} | given.pop("step", {}),
        "model": {"name": model, "fingerprint": "0" * 64},
        "mixture": {"policy": "minimax", "shares": shares},
        "calibration": {
            "corpus": "embedded",
            "seed": 3,
            "languages": {tag: {"tokens": 16000 + n} for n, tag in enumerate(shares)},
        },
        "damage": {},
        **given,
    }


QUANTIZED = step(
    "quantize",
    grid="4 bits, group 64",
    unfolded=["0.mlp.down_proj", "1.mlp.down_proj"],
    step={"method": "awq", "skip": ["lm_head"], "options": {"steps": 20}, "embeddings": "8bit"},
)
LEDGER = {
    "parameters": 5_245_184,
    "bytes_dense": 10_490_368,
    "bytes_stored": 3_700_000,
    "bits_per_weight": 5.643,
    "parts": [
        {"part": "blocks", "parameters": 3_145_728, "bytes_dense": 6_291_456,
         "bytes_stored": 1_600_000, "bits": 4.069},
        {"part": "embedding", "parameters": 2_097_152, "bytes_dense": 4_194_304,
         "bytes_stored": 2_097_152, "bits": 8.0},
        {"part": "other", "parameters": 2_304, "bytes_dense": 4_608,
         "bytes_stored": 4_608, "bits": 16.0},
    ],
}  # fmt: skip


def run_of(folder: Path, *steps, loss=LOSS, model="babel-mini", **more) -> Path:
    plan = recipe.of({"model": model, "steps": [{"prune": {}}]}).model_dump(mode="json")
    folder.mkdir(parents=True, exist_ok=True)
    if loss:
        scored(folder, loss)
    manifest = {"recipe": plan, "steps": list(steps) or [step()], **more}
    write_json(folder / "manifest.json", manifest)
    return folder


@pytest.fixture
def dense(tmp_path):
    return scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))


def head(text: str):
    """The YAML head and what comes after it."""
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def parsed(body: str):
    """Tokens, inline ones too, of a Markdown parser with tables and raw HTML."""
    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    return blocks, [each for block in blocks for each in block.children or ()]


def tables(body: str) -> list[list[list[str]]]:
    """Every table as rows of cells, each as a reader sees it."""
    found: list[list[list[str]]] = []
    before = ""
    for block in parsed(body)[0]:
        if block.type == "table_open":
            found.append([])
        elif block.type == "tr_open":
            found[-1].append([])
        elif before in ("th_open", "td_open"):
            found[-1][-1].append(shown(block))
        before = block.type
    return found


def shown(inline) -> str:
    return "".join(" " if each.type == "softbreak" else each.content for each in inline.children)


def sections(body: str) -> dict[str, str]:
    parts = body.split("\n## ")
    return {part.partition("\n")[0]: part for part in parts[1:]}


# ---- what it says --------------------------------------------------------------------------


def test_the_worst_language_comes_first_beside_dense_with_its_interval(tmp_path, dense):
    run = run_of(tmp_path / "run")

    _, body = head(cards.card(run, dense=dense))

    rows = tables(sections(body)["What it costs each language"])[0]
    assert rows[0][0] == "language"
    assert [row[0] for row in rows[1:]] == ["Swahili", "Hindi", "Chinese (Simplified)", "English"]
    before, after = tallies(dense, "bits_per_byte"), tallies(run, "bits_per_byte")
    change = after["swh_Latn"].value / before["swh_Latn"].value - 1
    assert rows[1][1:5] == [
        "swh_Latn",
        f"{before['swh_Latn'].value:.3f}",
        f"{after['swh_Latn'].value:.3f}",
        f"+{100 * change:.1f} %",
    ]
    low, high = rows[1][5].removesuffix(" %").replace(" %", "").split(" to ")
    assert float(low) < 100 * change < float(high)
    assert rows[1][6] == "worse"
    assert f"**Worst language: Swahili, +{100 * change:.1f} % (95 % interval " in body
    assert body.index("Worst language") < body.index("## What was done")


def test_without_a_significant_change_it_says_so(tmp_path, dense):
    run = run_of(tmp_path / "run", loss=dict.fromkeys(LOSS, 0.0))

    _, body = head(cards.card(run, dense=dense))

    assert "**No significant difference from the dense model in any of 4 languages.**" in body
    rows = tables(sections(body)["What it costs each language"])[0]
    assert {row[6] for row in rows[1:]} == {"no significant difference"}
    assert "Worst language" not in body
    assert "significantly worse" not in sections(body)["What it is not good for"]


def test_documents_too_few_to_tell_are_not_called_no_difference(tmp_path, dense, monkeypatch):
    monkeypatch.setitem(globals(), "BYTES", BYTES[:4])
    few = scored(tmp_path / "few", dict.fromkeys(LOSS, 0.0))
    run = run_of(tmp_path / "run")

    _, body = head(cards.card(run, dense=few))

    words = "oo few documents to tell (4; at least 8)"
    rows = tables(sections(body)["What it costs each language"])[0]
    assert {row[6] for row in rows[1:]} == {f"t{words}"}
    assert f"T{words} in 4.**" in body
    assert "**Worst language: Swahili, +" in body
    assert "ignificant" not in body.split("## ")[0]


def test_some_languages_may_be_no_different_while_others_are(tmp_path, dense):
    run = run_of(tmp_path / "run", loss=LOSS | {"eng_Latn": 0.0, "hin_Deva": -0.1})

    text = cards.card(run, dense=dense)

    assert (
        "Significantly worse in 2; significantly better in 1; no significant difference in 1.**"
        in text
    )


def test_without_dense_scores_or_any_scores_it_promises_nothing(tmp_path):
    alone = sections(head(cards.card(run_of(tmp_path / "alone")))[1])
    unmeasured = sections(head(cards.card(run_of(tmp_path / "none", loss={})))[1])

    assert "this says nothing about a loss" in alone["What it costs each language"]
    rows = tables(alone["What it costs each language"])[0]
    assert [row[1] for row in rows[1:]] == sorted(LOSS)
    assert "Not measured." in unmeasured["What it costs each language"]
    assert "nobody knows what they lost: English, Swahili" in unmeasured["What it is not good for"]


def test_every_step_is_there_with_its_method_and_grid_or_pattern(tmp_path):
    run = run_of(tmp_path / "run", step(), QUANTIZED)

    front, body = head(cards.card(run))

    rows = tables(sections(body)["What was done"])[0]
    assert rows[1][1:] == ["prune", "wanda", "0.25", "minimax", "pressed blocks", "nothing"]
    how = "4 bits, group 64; steps 20; embedding and head at 8 bits"
    assert rows[2][1:] == ["quantize", "awq", how, "minimax", "pressed blocks", "lm_head"]
    assert "plain grid: 0.mlp.down\\_proj, 1.mlp.down\\_proj." in body
    assert body.splitlines()[1] == "# babel-mini: wanda 0.25 then awq 4 bits, group 64"
    assert front["tags"] == ["babelpress", "multilingual", "pruned", "quantized", "wanda", "awq"]
    assert front["base_model_relation"] == "quantized"
    assert "make nothing faster" not in body


def test_calibration_languages_have_tokens_and_the_share_of_every_step(tmp_path):
    second = step(shares={"eng_Latn": 0.5, "swh_Latn": 0.125, "tha_Thai": 0.375})
    run = run_of(tmp_path / "run", step(), second)

    rows = tables(sections(head(cards.card(run))[1])["Calibration text"])[0]

    assert rows == [
        ["language", "tag", "tokens", "share, step 1", "share, step 2"],
        ["English", "eng_Latn", "16,000", "25.0 %", "50.0 %"],
        ["Thai", "tha_Thai", "16,002", "0.0 %", "37.5 %"],
        ["Swahili", "swh_Latn", "16,001", "75.0 %", "12.5 %"],
    ]


def test_every_step_has_the_text_that_it_looked_at(tmp_path):
    second = step("quantize", grid="4 bits", shares={"eng_Latn": 0.5, "yor_Latn": 0.5})
    second["calibration"] |= {"corpus": "flores?src=flores", "seed": 11}
    run = run_of(tmp_path / "run", second, before=[step()], earlier=[{"model": "babel-mini"}])

    front, body = head(cards.card(run))

    text = sections(body)["Calibration text"]
    assert "Step 1: corpus embedded, seed 3." in text
    assert "Step 2: corpus flores?src=flores, seed 11." in text
    assert tables(text)[0] == [
        ["language", "tag", "tokens, step 1", "tokens, step 2", "share, step 1", "share, step 2"],
        ["English", "eng_Latn", "16,000", "16,000", "25.0 %", "50.0 %"],
        ["Yoruba", "yor_Latn", "–", "16,001", "0.0 %", "50.0 %"],
        ["Swahili", "swh_Latn", "16,001", "–", "75.0 %", "0.0 %"],
        ["Thai", "tha_Thai", "16,002", "–", "0.0 %", "0.0 %"],
    ]
    assert front["base_model"] == "babel-mini"
    recipes = list(yaml.safe_load_all(body.split("```yaml\n")[1].split("```")[0]))
    assert recipes[0] == {"model": "babel-mini"}
    assert len(recipes) == 2


DENSE_TABLES = {
    **LEDGER,
    "bytes_stored": 5_798_912,
    "bits_per_weight": 8.845,
    "parts": [
        LEDGER["parts"][0],
        {**LEDGER["parts"][1], "bytes_stored": 4_194_304, "bits": 16.0},
        LEDGER["parts"][2],
    ],
}


def test_where_dense_embeddings_weigh_it_says_what_eight_bits_would_do():
    # 8·(5,798,912 − 2,097,152)/5,245,184 bits
    assert cheaper(DENSE_TABLES) == (
        "With --embeddings 8bit it is about 5.6 bits a weight in a GGUF file, where "
        "llama.cpp has the family."
    )


def test_without_a_cause_there_is_no_hint():
    blocks, embedding, other = DENSE_TABLES["parts"]
    small = {**embedding, "parameters": 100_000, "bytes_stored": 200_000}
    for found in (
        LEDGER,  # they are at eight bits
        {**DENSE_TABLES, "bytes_stored": DENSE_TABLES["bytes_dense"]},  # nothing is quantized
        {**DENSE_TABLES, "bytes_stored": 1_804_608, "parts": [blocks, small, other]},
        {**DENSE_TABLES, "parts": [{**blocks, "bytes_stored": 5_794_304, "bits": 14.7}, other]},
    ):
        assert cheaper(found) == ""


def on_corpora(folder, **losses):
    """Scores of every corpus in a folder, by what languages lose on it."""
    rows = []
    for place, (corpus, loss) in enumerate(losses.items()):
        scored(folder / corpus, loss, scale=1.5 + place)
        for row in map(json.loads, (folder / corpus / "results.jsonl").read_text().splitlines()):
            rows.append(row | {"corpus": corpus})
            path = tally_path(folder, rows[-1])
            path.parent.mkdir(exist_ok=True)
            tally_path(folder / corpus, row).rename(path)
        shutil.rmtree(folder / corpus)
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_scores_on_two_corpora_are_shown_apart(tmp_path):
    other = {"eng_Latn": 0.2, "yor_Latn": 0.4}
    run = on_corpora(run_of(tmp_path / "run", loss={}), embedded=LOSS, flores=other)
    dense = on_corpora(
        tmp_path / "dense", embedded=dict.fromkeys(LOSS, 0.0), flores=dict.fromkeys(other, 0.0)
    )

    _, body = head(cards.card(run, dense=dense))

    text = sections(body)["What it costs each language"]
    first, second = text.split("### On flores")
    assert "### On embedded" in first
    for part, loss in ((first, LOSS), (second, other)):
        (table,) = tables(part)
        assert {row[1] for row in table[1:]} == set(loss)
        found = {row[1]: float(row[4].removesuffix(" %")) / 100 for row in table[1:]}
        assert found == pytest.approx(loss, abs=0.02)
    assert "**Worst language: Swahili, +31" in body
    assert "in bits per byte on embedded.**" in body
    assert "**Worst language: Yoruba, +40" in body
    assert "in bits per byte on flores.**" in body
    limits = sections(body)["What it is not good for"]
    assert "worse than in the dense model on flores: Yoruba (+4" in limits
    assert "measured in but not calibrated on: Hindi, Yoruba, Chinese" in limits


def test_a_corpus_that_the_dense_model_lacks_stands_alone(tmp_path):
    run = on_corpora(run_of(tmp_path / "run", loss={}), embedded=LOSS, flores={"yor_Latn": 0.4})
    dense = on_corpora(tmp_path / "dense", embedded=dict.fromkeys(LOSS, 0.0))

    text = sections(head(cards.card(run, dense=dense))[1])["What it costs each language"]

    first, second = text.split("### On flores")
    assert "beside the dense model" in first
    assert "No scores of the dense model were at hand" in second
    with pytest.raises(BadRun, match="no corpus in common"):
        cards.card(run, dense=on_corpora(tmp_path / "third", third={"yor_Latn": 0.0}))


def test_what_it_is_not_good_for_names_the_languages(tmp_path, dense):
    run = run_of(tmp_path / "run")

    text = sections(head(cards.card(run, dense=dense))[1])["What it is not good for"]

    assert "measured in but not calibrated on: Hindi, Chinese (Simplified)." in text
    assert "nobody knows" not in text  # Thai has no share
    assert "significantly worse than in the dense model: Swahili (+31." in text
    assert "make nothing faster" in text


def test_the_ledger_says_where_the_bytes_are(tmp_path):
    run = run_of(tmp_path / "run", QUANTIZED, ledger=LEDGER)

    text = sections(head(cards.card(run))[1])["Size"]

    rows = tables(text)[0]
    assert rows[2] == ["embedding", "2,097,152", "4,194,304", "2,097,152", "56.7 %", "8.00"]
    assert rows[-1] == ["whole", "5,245,184", "10,490,368", "3,700,000", "100.0 %", "5.64"]
    assert "Most of the file, 56.7 %, is the embedding, not the layers." in text
    smaller = {**LEDGER, "bytes_stored": 4_200_000}
    other = run_of(tmp_path / "other", QUANTIZED, ledger=smaller)
    assert "Most of the file" not in cards.card(other)
    assert "## Size" not in cards.card(run_of(tmp_path / "old"))


def test_zeros_and_compressed_bytes_are_told_where_a_run_knows_them(tmp_path):
    known = {**LEDGER, "nonzero": 4_000_000, "bytes_compressed": 3_000_000, "compressor": "zstd"}

    text = cards.card(run_of(tmp_path / "run", QUANTIZED, ledger=known))

    assert "4,000,000 parameters (76.3 %) are not zero; compressed with zstd" in text
    assert "the weights are 3,000,000 bytes." in text
    assert "not zero" not in cards.card(run_of(tmp_path / "old", QUANTIZED, ledger=LEDGER))


def test_times_are_told_with_their_machine_and_beside_the_dense_model(tmp_path):
    values = {"eng_Latn": 0, "hin_Deva": 0}
    run = scored(run_of(tmp_path / "run"), values, on="latency", scale=9.0, apart=0)
    dense = scored(tmp_path / "dense", values, on="latency", scale=12.0, apart=0)
    for folder in (run, dense):
        made = {"processor": "quick", "threads": "2"}
        write_json(folder / "tallies" / "latency.json", {"identity": {"made_with": made}})

    text = sections(head(cards.card(run))[1])["Speed"]

    assert "English 9.0; Hindi 9.0 (processor quick, threads 2)" in text
    beside = losses.speed(run, dense)[-1]
    assert beside.startswith("Against the dense model on the same machine: \u221225.0 %")


def test_the_range_check_names_the_worst_site_of_each_language(tmp_path):
    run = scored(
        run_of(tmp_path / "run"), {"eng_Latn": 0, "hin_Deva": 0}, on="range", scale=2e-4, apart=2e-4
    )
    sites = {"hin_Deva": {"0.mlp.down_proj": 0.004, "1.mlp.down_proj": 0.0402}}
    write_json(run / "tallies" / "range.sites.json", sites)

    rows = tables(sections(head(cards.card(run))[1])["Range check"])[0]

    assert [row[0] for row in rows[1:]] == ["Hindi", "English"]
    assert rows[1][3:] == ["1.mlp.down_proj", "4.02 %"]
    assert rows[1][2] == "0.0400 %"


def test_an_old_manifest_with_fewer_facts_still_has_a_card(tmp_path):
    old = {
        "step": {"method": "wanda", "pattern": "0.5"},
        "model": {"name": "babel-mini"},
        "mixture": {"policy": "uniform"},
        "damage": {},
    }

    _, body = head(cards.card(run_of(tmp_path / "run", old)))

    assert "# babel-mini: wanda 0.5\n" in body
    assert "## Calibration text" not in body


def test_a_folder_that_is_no_run_or_does_not_fit_the_dense_scores_is_refused(tmp_path, dense):
    with pytest.raises(BadRun, match=r"has no manifest\.json"):
        cards.card(dense)
    short = run_of(tmp_path / "short", loss={"eng_Latn": 0.1})
    with pytest.raises(BadRun, match="was not evaluated in"):
        cards.card(short, dense=dense)


# ---- the head ------------------------------------------------------------------------------


def test_languages_have_the_shortest_code_that_is_theirs_alone(tmp_path):
    loss = dict.fromkeys(("zho_Hans", "zho_Hant", "srp_Cyrl", "srp_Latn", "gaz_Latn"), 0.1)
    run = run_of(tmp_path / "run", loss=loss | dict.fromkeys(("hin_Latn", "yue_Hant"), 0.1))

    front, _ = head(cards.card(run))

    assert {"en", "sw", "zh", "sr", "hin-Latn", "srp-Latn"} <= set(front["language"])
    assert front["language"] == sorted(set(front["language"]))
    assert len(front["language"]) == 9
    assert "th" not in front["language"]  # it has no share and was not measured


def test_the_licence_is_that_of_the_base_models_own_card(tmp_path):
    front, body = head(cards.card(run_of(tmp_path / "run")))

    assert front["license"] == "cc-by-sa-4.0"
    assert front["base_model"] == "babel-mini"
    assert "That of babel-mini, by its card: cc-by-sa-4.0." in body
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "text-generation")


@pytest.mark.parametrize(
    "readme", [None, "no head at all", "---\nlanguage: [en]\n---\n", "---\nlicense: [mit\n---\n"]
)
def test_a_licence_that_nobody_states_is_named_as_unknown(tmp_path, readme):
    base = tmp_path / "base model"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").touch()
    if readme is not None:
        (base / "README.md").write_text(readme)

    run = run_of(tmp_path / "run", step(model=str(base)), model=str(base))
    front, body = head(cards.card(run))

    assert (front["license"], front["license_name"]) == ("other", "unknown")
    assert front["base_model"] == "base model"  # not where it lay on somebody's disk
    assert "is not stated where this card was made" in body


def test_all_licence_lines_are_passed_on(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(DATA / "babel-mini", base)
    lines = "license: other\nlicense_name: gemma\nlicense_link: https://e.x/terms"
    (base / "README.md").write_text(f"---\n{lines}\n---\n# Base\n")

    front, _ = head(cards.card(run_of(tmp_path / "run", step(model=str(base)))))

    assert yaml.safe_load(lines).items() <= front.items()


def test_a_hub_model_goes_by_its_id_without_the_revision(tmp_path):
    front, _ = head(cards.card(run_of(tmp_path / "run", step(model="some/where@abc123"))))

    assert front["base_model"] == "some/where"
    assert front["license"] == "other"


# ---- what cannot be trusted ----------------------------------------------------------------


def test_hostile_names_are_text_and_nothing_else(tmp_path):
    bad = step(
        model=HOSTILE,
        shares={HOSTILE: 0.5, "eng_Latn": 0.5},
        step={"method": HOSTILE, "skip": [HOSTILE], "options": {HOSTILE: HOSTILE}},
        grid=HOSTILE,
        unfolded=[HOSTILE],
    )
    bad["mixture"]["policy"] = HOSTILE
    bad["calibration"]["corpus"] = HOSTILE
    run = run_of(tmp_path / "run", bad, model=HOSTILE, loss={})
    usual = run_of(tmp_path / "usual", QUANTIZED, loss={})

    front, body = head(cards.card(run))

    blocks, inline = parsed(body)
    kinds = {each.type for each in [*blocks, *inline]}
    ours = {each.type for part in parsed(head(cards.card(usual))[1]) for each in part}
    assert kinds <= ours | {"text_special", "softbreak"}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "s_open", "em_open"}
    seen = escaping.clean(" ".join(HOSTILE.split()))
    cells = [cell for table in tables(body) for row in table for cell in row]
    assert seen in cells  # exactly, in the table of steps
    assert all(len(row) == len(table[0]) for table in tables(body) for row in table)
    assert len(parsed(body)[0]) - len(blocks) == 0
    assert front["base_model"] == Path(HOSTILE).name
    assert "\u202e" not in cards.card(run)


def test_the_recipe_can_be_read_back_whatever_is_in_it(tmp_path):
    attack = "````\n```\n</code> ````` --- \u202e"
    run = run_of(tmp_path / "run", model=attack)

    blocks, _ = parsed(head(cards.card(run))[1])

    (found,) = [block for block in blocks if block.type == "fence" and block.info == "yaml"]
    assert yaml.safe_load(found.content) == read_json(run / "manifest.json")["recipe"]
    assert len(found.markup) == 6
    assert blocks[-1] is found


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "*x*",
        "a_b_c",
        "<b>",
        "&amp;",
        "\\",
        "`",
        "[x](y)",
        "www.x.y",
        "http://x",
        "1. a",
        "$",
    ],
)
def test_escaped_text_is_shown_as_it_was(text):
    _, inline = parsed(f"x {escaping.markdown(text)}")

    assert "".join(each.content for each in inline) == f"x {text}"
    assert {each.type for each in inline} <= {"text", "text_special"}


def test_a_fence_is_longer_than_any_run_of_backticks():
    assert escaping.fence("no") == "```"
    assert escaping.fence("a ``` b ````` c") == "``````"


def test_an_encoder_is_told_by_its_hidden_tokens_and_opened_as_what_it_is(tmp_path):
    run, dense = run_of(tmp_path / "run", loss={}), tmp_path / "dense"
    scored(run, LOSS, on="masked")
    scored(dense, dict.fromkeys(LOSS, 0.0), on="masked")
    config = {"model_type": "modernbert", "architectures": ["ModernBertForTokenClassification"]}
    (run / "model").mkdir()
    write_json(run / "model" / "config.json", config)

    front, body = head(cards.card(run, dense=dense))

    assert front["pipeline_tag"] == "token-classification"
    assert "Bits per byte of hidden tokens beside the dense model" in body
    assert "Not measured" not in body
    assert "model = AutoModelForTokenClassification.from_pretrained(folder)" in body
    assert "vllm" not in body


def test_scores_of_next_tokens_come_before_those_of_hidden_ones(tmp_path):
    run = scored(run_of(tmp_path / "run"), LOSS, on="masked")

    assert losses.judged_in(run) == "bits_per_byte"
