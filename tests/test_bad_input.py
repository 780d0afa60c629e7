"""What a user can do wrong: one clear line, exit code 2, and nothing half-written left behind."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pico
import pytest
from disks import grow, small_disk
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from babelpress.cli import main

SMALL = ["--languages", "swh_Latn,amh_Ethi", "--tokens", "128", "--length", "64"]
FEW = ["--languages", "swh_Latn,amh_Ethi", "--documents", "2", "--window", "64"]


@pytest.fixture(autouse=True)
def no_bars():
    """What the command line asks of transformers in the environment, before it is imported."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def save(folder, *, seed=0):
    pico.model(seed=seed).save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A llama as a transformers folder."""
    return save(tmp_path_factory.mktemp("models") / "pico")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """One of the same shape with other weights."""
    return save(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture
def line(capsys):
    """Run a command that must fail; the line that its user sees."""

    def fail(*words, code=2):
        capsys.readouterr()
        assert main([str(word) for word in words]) == code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("babelpress: ") and said.err.endswith("\n"), said.err
        assert said.err.count("\n") == 1 and "Traceback" not in said.err
        return said.err.removesuffix("\n")

    return fail


def done(capsys, *words):
    """Run a command that must succeed; what it printed."""
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def corpus(folder, **files):
    """A folder of text: bytes as they are, lists of records as JSON lines."""
    folder.mkdir()
    for name, given in files.items():
        data = given
        if not isinstance(given, bytes):
            data = "".join(json.dumps(row) + "\n" for row in given).encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def halves(folder):
    """Whatever lies in a folder or beneath it that was not finished."""
    return [path for path in folder.rglob("*") if ".partial" in path.name or path.name == ".lock"]


# ---- names and settings --------------------------------------------------------------------


def test_an_unknown_language_is_named_with_near_misses(model, line, tmp_path):
    out = tmp_path / "out"
    for words in (
        ["calibrate", model, "--languages", "Swahilli", "--out", out],
        ["prune", model, "--languages", "Swahilli", "--out", out],
        ["eval", model, "--languages", "Swahilli", "--out", out],
        ["mixture", "uniform", "--languages", "Swahilli"],
        ["prune", model, "--mixture", "only:Swahilli", *SMALL, "--out", out],
    ):
        said = line(*words)
        assert "no language is called 'Swahilli'" in said and "'Swahili'" in said
        assert "Known:" not in said and len(said) < 300
    assert "'low-resource'" in line("prune", model, "--languages", "low-resorce", "--out", out)
    assert not out.exists()


def test_what_is_not_read_of_a_corpus_is_named_by_every_command(model, capsys, tmp_path):
    rows = [{"text": f"maji ya moto {n}"} for n in range(60)]
    split = [{**row, "split": "test"} for row in rows[:2]] + [
        {**row, "split": "train"} for row in rows
    ]
    text = corpus(tmp_path / "text", sw__jsonl=split, yo__docx=b"x", ta__txt__gz=b"\x1f\x8b")
    asked = ["--corpus", text, "--languages", "sw"]
    blocks = ["--tokens", "128", "--length", "64"]
    unread = f"warning: {text}: left out: yo.docx is not read: no reader of .docx."

    for words in (
        ["calibrate", model, *asked, *blocks, "--out", tmp_path / "moments"],
        ["prune", model, *asked, *blocks, "--out", tmp_path / "run"],
        ["eval", model, *asked, "--window", "64", "--out", tmp_path / "dense"],
    ):
        said = done(capsys, *words)
        assert unread in said, words[0]
        assert ("ta.txt.gz cannot be read" in said) == (words[0] != "eval")
    kept = json.loads((tmp_path / "moments" / "manifest.json").read_text())["calibration"]
    assert kept["left_out"] == [{"path": "yo.docx", "why": "is not read: no reader of .docx"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "wander"], "no pruning method is called 'wander'. Did you mean 'wanda'"),
        (["--pattern", "2:4x"], "2:4x"),
        (["--pattern", "1.5"], "1.5"),
        (["--mixture", "unifrom"], "no mixture policy is called 'unifrom'. Did you mean 'uniform'"),
        (["--mixture", "proportional:blom"], "no distribution is called 'blom'"),
        (["--mixture", "shares.yaml"], "shares.yaml"),
        (["--propagate", "both"], '"both" for --propagate. Choose from: "dense", "compressed"'),
        (["--option", "damp=0.05"], "wanda has no option damp"),
        (["--option", "damp"], "--option damp is not NAME=VALUE"),
        (["--skip", "nothing.*"], "--skip nothing.* names no site"),
        (["--tokens", "0"], "tokens: Input should be greater than 0 (it is 0)"),
        (["--tokens", "many"], "many"),
        (
            ["--tokens", "8"],
            "8 tokens of a language do not fill one block of 64. Use shorter blocks with",
        ),
        (["--method", "sparsegpt", "--option", "damp=[1"], "damp=[1"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_a_wrong_setting_of_a_pruning_is_named(model, line, tmp_path, words, said):
    small = [] if words[0] == "--tokens" else ["--tokens", "128"]
    text = ["--languages", "sw,am", "--length", "64", *small]
    assert said in line("prune", model, *text, "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "gtpq"], "no quantization method is called 'gtpq'. Did you mean 'gptq'"),
        (["--bits", "5"], "bits is 5. Choose one of 2, 3, 4, 8."),
        (["--bits", "16"], "bits is 16. Choose one of 2, 3, 4, 8."),
        (["--bits", "four"], "four"),
        (["--group", "24"], "a group of 24 does not divide the 32 inputs of model.layers.0."),
        (["--group", "0"], "group is 0. Give a number of inputs, or channel."),
        (["--group", "rows"], "group is rows. Give a number of inputs, or channel."),
        (["--clip", "all"], "clip is 'all'. Choose one of none, mse."),
        (["--embeddings", "4bit"], '"4bit" for --embeddings. Choose from: "dense", "8bit"'),
        (["--option", "order=random"], "gptq's order is 'random'. Choose one of none, diagonal."),
        (["--option", "columns=0"], "gptq's columns must be at least 1, not 0."),
        (["--option", "steps=3"], "gptq has no option steps"),
        (["--method", "awq", "--option", "steps=0"], "steps"),
        (["--skip", "nothing.*"], "--skip nothing.* names no site"),
    ],
)
def test_a_wrong_setting_of_a_quantization_is_named(model, line, tmp_path, words, said):
    small = SMALL if words[0] == "--group" else [*SMALL, "--group", "16"]
    assert said in line("quantize", model, *small, "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "gptqq"], "no export format is called 'gptqq'. Did you mean 'gptq'"),
        (["--format", "gptq"], "nothing is quantized in"),
        (["--format", "compressed-tensors"], "nothing is quantized in"),
        (["--format", "imatrix"], "--moments"),
        (["--format", "safetensors", "--option", "kind=f16"], "safetensors has no option kind"),
        (["--format", "safetensors", "--mixture", "uniform"], "has no effect on safetensors"),
        (["--format", "imatrix", "--mixture", "uniform"], "--mixture is read with --moments"),
        (["--format", "gguf", "--option", "kind=q9"], "q9"),
    ],
)
def test_an_export_that_cannot_be_is_named(model, line, tmp_path, words, said):
    assert said in line("export", model, *words, "--out", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--moments seen",
            "--moments seen has no effect on gptq: it is for gguf and imatrix and text.",
        ),
        (
            "--mixture uniform",
            "--mixture uniform has no effect on gptq: it is for gguf and imatrix and",
        ),
    ],
)
def test_what_an_export_does_not_read_is_not_given_to_it(model, line, tmp_path, words, said):
    made = ["export", model, "--format", "gptq", "--out", tmp_path / "out", *words.split()]

    assert said in line(*made)
    assert not (tmp_path / "out").exists()


def test_scores_for_a_card_are_not_given_to_what_has_none(model, line, tmp_path, capsys):
    dense = tmp_path / "dense"
    done(capsys, "eval", model, *FEW, "--out", dense)

    made = ["export", model, "--format", "safetensors", "--out", tmp_path / "out"]
    assert f"--against {dense} is for the card of a run, and" in line(*made, "--against", dense)
    assert not (tmp_path / "out").exists()


def test_what_is_quantized_is_not_quantized_again(model, line, tmp_path, capsys):
    small = [*SMALL, "--group", "16", "--method", "rtn", "--out"]
    done(capsys, "quantize", model, *small, tmp_path / "run")
    packed = ["export", tmp_path / "run", "--format", "compressed-tensors", "--out"]
    done(capsys, *packed, tmp_path / "packed")

    whys = {"run": "no step can follow its quantize", "packed": "is quantized already"}
    for again, why in whys.items():
        said = line("quantize", tmp_path / again, *small, tmp_path / "twice")
        assert why in said
        assert not (tmp_path / "twice").exists()
    assert f"{tmp_path / 'packed'} exists already" in line(*packed, tmp_path / "packed")


@pytest.mark.parametrize("family", ["bloom", "gpt2"])
def test_a_family_that_gguf_does_not_have_is_named(line, tmp_path, family):
    pico.model(family).save_pretrained(tmp_path / family)
    pico.tokenizer().save_pretrained(tmp_path / family)

    said = line("export", tmp_path / family, "--format", "gguf", "--out", tmp_path / "out")

    assert family in said.lower() and "llama" in said.lower()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune", "babel-mini", "--out", "x", "--sparsity", "0.25"], "--sparsity"),
        (["purne", "babel-mini"], "purne"),
        (["prune", "babel-mini"], "--out"),
        (["prune", "babel-mini", "--out"], "--out"),
        (["calibrate", "--out", "x"], "--model"),
        (["mixture", "unifrom"], "no mixture policy is called 'unifrom'"),
        (["languages", "no-such-model"], "neither a folder nor a hub id"),
        (["eval", "babel-mini", "--generate", "4", "--documents", "1"], "add --out"),
        (["press", "babel-mini", "none.yaml", "--out", "x"], "the recipe none.yaml cannot be read"),
        (["compare", "none", "nothing"], "there is no folder none"),
        (["gate", "none", "--against", "nothing"], "there is no folder nothing"),
        (["report", "none", "nothing"], "there is no folder none"),
    ],
)
def test_a_wrong_command_line_is_named(line, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)

    assert said in line(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "place", [["--json", "mixture", "uniform"], ["mixture", "--json", "uniform", "--json"]]
)
def test_json_is_one_document_wherever_it_is_asked_for(capsys, place):
    out = done(capsys, *place, "--languages", "sw,am")

    document = json.loads(out)
    assert out.count("\n") == 1
    assert set(document) == {"command", "out", "seconds", "results"}
    assert [row["language"] for row in document["results"]] == ["swh_Latn", "amh_Ethi"]


def test_with_json_a_failure_is_a_document_and_a_line(capsys):
    assert main(["mixture", "unifrom", "--json"]) == 2

    out, err = capsys.readouterr()
    document = json.loads(out)
    assert set(document) == {"command", "error", "next"}
    assert "unifrom" in document["error"] and "unifrom" in err


def test_every_writing_command_prints_one_document_with_json(model, tmp_path, capsys):
    run, dense, moments = tmp_path / "run", tmp_path / "dense", tmp_path / "moments"
    for command, out, words in (
        ("calibrate", moments, [model, "--out", moments, *SMALL]),
        ("prune", run, [model, "--out", run, "--moments", moments]),
        ("eval", dense, [model, "--out", dense, *FEW]),
        ("eval", run, [run, *FEW]),
        ("compare", None, [dense, run]),
    ):
        document = json.loads(done(capsys, command, *words, "--json"))
        assert document["command"] == command
        assert document["out"] == (str(out) if out else None)
        assert document["results"]
    assert not halves(tmp_path)


# ---- text ----------------------------------------------------------------------------------


def test_a_language_that_the_corpus_lacks_is_named(model, line, tmp_path):
    text = corpus(tmp_path / "text", sw__txt=b"Habari ya asubuhi\n")
    for words in (
        ["calibrate", model, "--corpus", text, "--languages", "sw,fr", "--out", tmp_path / "out"],
        ["prune", model, "--corpus", text, "--languages", "sw,fr", "--out", tmp_path / "out"],
        ["eval", model, "--corpus", text, "--languages", "sw,fr", "--out", tmp_path / "out"],
    ):
        said = line(*words)
        assert f"{text} has no text in fra_Latn. It has swh_Latn" in said
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("sw__txt", b"", "sw.txt is empty"),
        ("sw__jsonl", b"", "sw.jsonl is empty"),
        ("sw__jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "sw.jsonl, line 2 is not valid UTF-8"),
        ("sw__txt", b"Habari\nCaf\xe9\n", "sw.txt, line 2 is not valid UTF-8"),
        ("sw__jsonl", b'{"text": "a"\n', "sw.jsonl, line 1 is not valid JSON"),
        ("sw__jsonl", b'{"words": "a"}\n', "sw.jsonl, line 1 has no field 'text'"),
        ("sw__jsonl__gz", b"no gzip", "sw.jsonl.gz cannot be read"),
        ("sw__parquet", b"PAR1", "sw.parquet cannot be read as parquet"),
        ("zzyzx__txt", b"a\n", "zzyzx.txt is not named after a language"),
        ("sw__doc", b"a\n", "holds no text"),
    ],
)
def test_text_that_cannot_be_read_is_named_by_file_and_line(
    model, line, tmp_path, name, data, said
):
    text = corpus(tmp_path / "text", **{name: data})

    for command in ("calibrate", "prune", "eval"):
        words = line(command, model, "--corpus", text, "--out", tmp_path / "out")
        assert said in words
        assert not (tmp_path / "out").exists()


def test_documents_that_are_in_calibration_and_evaluation_are_named(model, line, tmp_path):
    rows = [
        {"doc": name, "split": split, "text": f"{name} {split} {number}"}
        for name, split in [("one", "train"), ("two", "train"), ("two", "test"), ("three", "test")]
        for number in range(40)
    ]
    text = corpus(tmp_path / "text", sw__jsonl=rows)
    small = ["--tokens", "128", "--length", "64"]
    for command in ("calibrate", "prune"):
        said = line(
            command, model, "--corpus", text, "--evaluation", text, *small, "--out", tmp_path / "o"
        )
        assert "swh_Latn: documents in both calibration (train) and evaluation (test): 1" in said
        assert "namely two." in said
        assert not (tmp_path / "o").exists()


# ---- models and moments --------------------------------------------------------------------


def test_nothing_is_kept_apart_from_what_a_model_writes(model, line, tmp_path):
    words = ["--corpus", "self", "--evaluation", "embedded"]

    assert "--evaluation embedded is kept apart from text of a corpus" in line(
        "prune", model, "--out", tmp_path / "run", *words
    )


@pytest.mark.parametrize("words", ["--corpus text", "--tokens 64", "--seed 3", "--count-special"])
def test_text_is_not_chosen_where_moments_are_read(model, line, tmp_path, words):
    said = line("prune", model, "--moments", tmp_path, "--out", tmp_path / "run", *words.split())

    what = words.split()[0]
    assert said.endswith(f"prune: {what} has no effect with --moments. Leave one of them out.")


def test_moments_of_another_model_are_refused(model, other, line, tmp_path, capsys):
    done(capsys, "calibrate", model, *SMALL, "--out", tmp_path / "moments")

    said = line("prune", other, "--moments", tmp_path / "moments", "--out", tmp_path / "run")

    assert f"{tmp_path / 'moments'} holds moments of another model" in said
    assert "Calibrate this model first." in said
    assert not (tmp_path / "run").exists()
    said = line("calibrate", other, *SMALL, "--out", tmp_path / "moments")
    assert "holds moments that differ in model (" in said


def test_a_moments_folder_that_is_none_half_or_damaged_is_refused(model, line, tmp_path, capsys):
    run = ["prune", model, "--out", tmp_path / "run", "--moments", tmp_path / "moments"]
    assert "has no manifest.json: it is no moments folder" in line(*run)
    done(capsys, "calibrate", model, *SMALL, "--out", tmp_path / "moments")
    block = tmp_path / "moments" / "block_001.safetensors"
    block.write_bytes(block.read_bytes()[:-1])

    assert f"{block} is missing or not the file that was written" in line(*run)
    assert not (tmp_path / "run").exists()


def changed(model, tmp_path, change):
    """A copy of a model folder whose weights went through `change`."""
    folder = tmp_path / "changed"
    folder.mkdir(parents=True)
    for path in Path(model).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder)
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_in_a_weight_is_named_by_its_place(model, line, tmp_path, value):
    def spoil(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.1.mlp.up_proj.weight"][7, 3] = value
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    folder = changed(model, tmp_path, spoil)
    for command in ("calibrate", "prune", "eval"):
        said = line(command, folder, *SMALL[:2], "--out", tmp_path / "out")
        assert "the weight model.layers.1.mlp.up_proj.weight holds NaN or infinity" in said
        assert not (tmp_path / "out").exists()


class Trap:
    """Unpickled, it would leave a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "weights.pkl"])
def test_a_pickle_is_refused_and_never_opened(model, line, tmp_path, name):
    def swap(folder):
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))

    folder = changed(model, tmp_path, swap)
    for command in ("calibrate", "prune", "eval"):
        said = line(command, folder, "--out", tmp_path / "out")
        assert str(folder) in said
        assert name == "model.safetensors" or f"{name}, a pickle" in said
        assert not (tmp_path / "out").exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_that_lacks_a_part_or_has_half_of_it_is_refused(model, line, tmp_path, name):
    folder = changed(model, tmp_path, lambda folder: (folder / name).unlink())
    assert str(folder) in line("calibrate", folder, *SMALL, "--out", tmp_path / "out")

    data = (Path(model) / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])

    assert str(folder) in line("calibrate", folder, *SMALL, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_padding_beyond_the_embeddings_is_no_matter(model, tmp_path, capsys):
    """The tokenizer got [PAD] and the model no row for it: what counts is as with any padding."""
    text = corpus(tmp_path / "text", **{"sw.jsonl": [{"text": "Habari ya asubuhi"}] * 3})
    plain = changed(model, tmp_path, lambda _: None)
    padded = changed(plain, tmp_path / "more", with_token(pad_token="[PAD]"))
    made = {}
    for folder in (plain, padded):
        out = folder.parent
        small = ["--tokens", "256", "--length", "64", "--corpus", text]
        done(capsys, "calibrate", folder, *small, "--out", out / "moments")
        done(capsys, "prune", folder, *small, "--out", out / "run")
        made[folder] = [
            load_file(out / name)
            for name in ("moments/block_001.safetensors", "run/model/model.safetensors")
        ]

    for one, other in zip(*made.values(), strict=True):
        assert one.keys() == other.keys()
        assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", *SMALL],
        ["prune", *SMALL],
        ["quantize", "--group", "16", *SMALL],
        ["prune", "--corpus", "self", *SMALL],
        ["eval", *FEW],
        ["languages", "--only", "swh_Latn"],
    ],
    ids=" ".join,
)
def test_a_mark_beyond_the_embeddings_is_refused(model, line, tmp_path, words):
    folder = changed(model, tmp_path, with_token(bos_token="[BOS]"))
    out = [] if words[0] == "languages" else ["--out", tmp_path / "out"]

    said = line(words[0], folder, *words[1:], *out)

    assert f"gave token {pico.VOCABULARY}, but the model knows {pico.VOCABULARY} tokens" in said
    assert not (tmp_path / "out").exists()


def with_token(**marks):
    """What gives a tokenizer another mark, and its model no embedding for it."""

    def change(folder):
        tokenizer = pico.tokenizer()
        tokenizer.add_special_tokens(marks)
        tokenizer.save_pretrained(folder)

    return change


# ---- the disk and the keyboard -------------------------------------------------------------


def files(folder):
    """Every file but those that say what a run cost."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "report.json")
    }


COMMANDS = {
    "calibrate": ([*SMALL, "--gram"], 60_000, "manifest.json"),
    "prune": (SMALL, 60_000, "model"),
    "quantize": ([*SMALL, "--group", "16"], 60_000, "model"),
    "export": (["--format", "safetensors"], 60_000, "model.safetensors"),
    "eval": (FEW, 8_192, "results.jsonl"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    model, line, tmp_path, capsys, command
):
    options, size, _ = COMMANDS[command]
    whole = tmp_path / "whole"
    done(capsys, command, model, *options, "--out", whole)
    with small_disk(tmp_path / "disk", size):
        out = tmp_path / "disk" / "out"
        said = line(command, model, *options, "--out", out)
        assert "No space left" in said or "disk is full" in said
        assert str(out if command != "export" else out.parent) in said
        assert not halves(tmp_path / "disk")
        assert not (out / "model").exists()

        grow(tmp_path / "disk", "16m")
        done(capsys, command, model, *options, "--out", out)
        assert files(out) == files(whole)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_without_a_byte_free_is_one_line(model, line, tmp_path, command):
    with small_disk(tmp_path / "disk", 8192):
        ballast = tmp_path / "disk" / "ballast"
        ballast.write_bytes(bytes(8192))

        said = line(command, model, *COMMANDS[command][0], "--out", tmp_path / "disk" / "out")

        assert "No space left" in said or "disk is full" in said
        assert [path.name for path in (tmp_path / "disk").rglob("*")] == ["ballast"]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_wherever_the_disk_fills_it_is_one_line(model, line, tmp_path, capsys, command):
    options, _, finished = COMMANDS[command]
    whole = tmp_path / "whole"
    done(capsys, command, model, *options, "--out", whole)
    pages, code = 0, 2
    while code == 2:
        pages += 1
        with small_disk(tmp_path / f"disk{pages}", 4096 * pages):
            out = tmp_path / f"disk{pages}" / "out"
            capsys.readouterr()
            code = main([command, model, *options, "--out", str(out)])
            said = capsys.readouterr().err
            if code == 2:
                assert said.startswith("babelpress: ") and said.count("\n") == 1, said
                assert "No space left" in said or "disk is full" in said
                assert not halves(tmp_path / f"disk{pages}")
                if command == "prune" and (out / finished).exists():
                    assert files(out / finished) == files(whole / finished)
            else:
                assert files(out) == files(whole)
    assert code == 0 and pages > 2


# A real babelpress, but for a long wait before its second block.
SLOW = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from babelpress.system import files
save = files.save_tensors
def slow(path, *rest):
    if path.name == "block_001.safetensors":
        time.sleep(600)
    save(path, *rest)
files.save_tensors = slow
from babelpress.cli import run
run()
"""


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(model, tmp_path, capsys, one_thread):
    words = ["calibrate", model, *SMALL, "--out"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words, str(tmp_path / "moments")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "moments" / "block_000.safetensors").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate()

    assert process.returncode == 3, said
    assert out == ""
    last = said.splitlines()[-1]
    assert last == "babelpress: interrupted. What is done is kept: the same command goes on."
    left = {path.name for path in (tmp_path / "moments").iterdir()}
    assert left == {"manifest.json", "block_000.safetensors"}
    done(capsys, *words, tmp_path / "moments")
    done(capsys, *words, tmp_path / "whole")
    assert files(tmp_path / "moments") == files(tmp_path / "whole")


def test_an_output_that_cannot_be_a_folder_is_one_line(model, line, tmp_path):
    (tmp_path / "file").write_text("mine")
    for command, options in (("calibrate", SMALL), ("prune", SMALL), ("eval", FEW)):
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            assert str(tmp_path / "file") in line(command, model, *options, "--out", out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_dry_run_refuses_a_share_of_a_language_that_is_not_looked_at(model, line, tmp_path):
    recipe = (
        f"model: {model}\ncalibration: {{languages: [en, sw], tokens: 96, length: 32}}\n"
        "steps:\n  - prune: {method: wanda, mixture: 'only:fr'}\n"
    )
    (tmp_path / "recipe.yaml").write_text(recipe)
    (tmp_path / "sweep.yaml").write_text(
        recipe + "vary: {steps.0.prune.mixture: ['only:fr', 'only:am']}\n"
    )

    out = ("--dry-run", "--out", tmp_path / "x")
    assert "gives a share to fra_Latn" in line("press", model, tmp_path / "recipe.yaml", *out)
    assert "gives a share to fra_Latn" in line("sweep", tmp_path / "sweep.yaml", *out)


def test_an_error_is_json_on_an_ascii_terminal_too():
    done = subprocess.run(
        [sys.executable, "-c", "from babelpress.cli import run; run()", "--json", "eval", "nö“x”"],
        env={**os.environ, "LANG": "C", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "nö“x”" in json.loads(done.stdout)["error"]
