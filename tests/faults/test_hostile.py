"""What others made, and mean ill by: one clear line, nothing run, nothing read elsewhere."""

import gzip
import json
import os
import struct
import subprocess
import sys
import time

import pico
import pytest
import torch
from safetensors.torch import save_file
from transformers.utils import logging

from babelpress.cli import main
from babelpress.errors import (
    BabelpressError,
    BadCorpus,
    BadModel,
    BadMoments,
    BadRun,
    BadSetting,
)
from babelpress.judge.scores import read_results
from babelpress.models.names import resolve
from babelpress.models.open import open_model
from babelpress.moments.store import Store
from babelpress.runs import recipe
from babelpress.system import files
from babelpress.text import mixtures, records
from babelpress.text.corpus import open_corpus

pytestmark = pytest.mark.filterwarnings("ignore")
ESC = "\x1b[31m"


def refusal(kind, function, *arguments, **options):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def no_bars():
    """What the command line asks of transformers before it is imported."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture
def folder(tmp_path):
    """A llama of its own to spoil."""
    pico.model().save_pretrained(tmp_path / "pico")
    pico.tokenizer().save_pretrained(tmp_path / "pico")
    return tmp_path / "pico"


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# ---- safetensors ---------------------------------------------------------------------------


def safetensors(header, data=b"\0" * 64, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start, end, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


ABSURD = {
    "a header longer than any memory": safetensors(b"{", length=2**63),
    "a header longer than the file": safetensors({"a": entry(0, 16)}, length=10_000),
    "a header of nothing": safetensors(b"", length=0),
    "a header that is no JSON": safetensors(b"{" * 40),
    "a header nested without end": safetensors(b'{"a":' * 50_000),
    "tensors that overlap": safetensors({"a": entry(0, 16), "b": entry(8, 24)}, b"\0" * 24),
    "a hole between tensors": safetensors({"a": entry(0, 16), "b": entry(32, 48)}, b"\0" * 48),
    "data beyond the end": safetensors({"a": entry(0, 1 << 40, (1 << 38,))}),
    "an end before its beginning": safetensors({"a": entry(16, 0)}, b"\0" * 16),
    "a negative place": safetensors({"a": entry(-16, 0)}, b"\0" * 16),
    "a shape that does not fit": safetensors({"a": entry(0, 16, (5,))}, b"\0" * 16),
    "a shape that overflows": safetensors({"a": entry(0, 16, (1 << 62, 1 << 62))}, b"\0" * 16),
    "a shape that overflows to what fits": safetensors(
        {"a": entry(0, 16, ((1 << 63) + 2, 2))}, b"\0" * 16
    ),
    "a negative shape": safetensors({"a": entry(0, 16, (-2, -2))}, b"\0" * 16),
    "a number that nobody knows": safetensors({"a": entry(0, 16, dtype="F33")}, b"\0" * 16),
    "one name twice": safetensors(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        b"\0" * 16,
    ),
    "data that nobody names": safetensors({"a": entry(0, 16)}, b"\0" * 64),
}


@pytest.mark.parametrize("what", ABSURD)
def test_an_absurd_file_of_tensors_is_refused_by_name(tmp_path, folder, what):
    (tmp_path / "a.safetensors").write_bytes(ABSURD[what])
    (folder / "model.safetensors").write_bytes(ABSURD[what])

    words = refusal(BadMoments, files.load_tensors, tmp_path / "a.safetensors", error=BadMoments)
    assert str(tmp_path / "a.safetensors") in words
    assert refusal(BadModel, open_model, str(folder)).startswith(f"{folder} cannot be opened: ")


# ---- models --------------------------------------------------------------------------------

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "shard", ["../secret.safetensors", "/secret.safetensors", "a/b.safetensors"]
)
def test_an_index_cannot_name_files_outside_its_folder(folder, tmp_path, shard):
    tensors = pico.model().state_dict()
    save_file(
        {name: each.clone() for name, each in tensors.items()}, tmp_path / "secret.safetensors"
    )
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    index = {
        "metadata": {},
        "weight_map": dict.fromkeys(tensors, shard.replace("/s", f"{tmp_path}/s")),
    }
    (folder / INDEX).write_text(json.dumps(index))

    words = refusal(BadModel, open_model, str(folder))

    assert f"{folder / INDEX} names the file" in words and "by their names alone" in words


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {}}', '{"weight_map": [1]}'])
def test_an_index_that_is_none_is_refused(folder, index):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / INDEX).write_text(index)

    assert str(folder / INDEX) in refusal(BadModel, open_model, str(folder))


def test_a_config_cannot_name_other_weights(folder):
    torch.save({}, folder / "adapter_model.bin")
    change(folder / "config.json", transformers_weights="adapter_model.bin")

    words = refusal(BadModel, open_model, str(folder))

    assert "'adapter_model.bin'" in words and "model.safetensors" in words


CODE = "open({mark!r}, 'w').close()\nclass XConfig: pass\nclass X: pass\n"


@pytest.mark.parametrize("where", ["config", "model", "tokenizer"])
def test_code_that_comes_with_a_model_is_never_run(folder, tmp_path, where):
    mark = tmp_path / "ran"
    (folder / "code.py").write_text(CODE.format(mark=str(mark)))
    if where == "config":
        change(folder / "config.json", model_type="novel", auto_map={"AutoConfig": "code.XConfig"})
    elif where == "model":
        names = {"AutoConfig": "code.XConfig", "AutoModelForCausalLM": "code.X"}
        change(folder / "config.json", auto_map=names, model_type="novel")
    else:
        names = {"AutoTokenizer": ["code.X", None]}
        change(folder / "tokenizer_config.json", auto_map=names, tokenizer_class="X")

    try:
        open_model(str(folder))
    except BadModel as error:
        assert "needs code of its authors (auto_map in its config)" in str(error)
    else:
        assert where == "tokenizer"  # whose file says all, without a class

    assert not mark.exists()
    assert not any(name.startswith("transformers_modules") for name in sys.modules)


def test_a_known_architecture_with_code_beside_it_is_opened_without_the_code(folder, tmp_path):
    (folder / "code.py").write_text(CODE.format(mark=str(tmp_path / "ran")))
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "code.X"})

    assert type(open_model(str(folder)).model).__name__ == "LlamaForCausalLM"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_link_that_leads_to_itself_is_one_line(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to(name)

    assert str(folder) in refusal(
        BadModel, resolve if name == "config.json" else open_model, str(folder)
    )


# ---- names ---------------------------------------------------------------------------------

NAMES = ["<script>alert(1)</script>", f"sw{ESC}", "sw..", "sw\n2", "%2e%2e%2fsw", "\u202ews"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_text_with_a_hostile_name_is_refused_harmlessly(tmp_path, capsys, name):
    text = tmp_path / "text"
    text.mkdir()
    (text / f"{name.replace('/', '')}.txt").write_text("Habari\n")

    code = main(["mixture", "uniform", "--corpus", str(text)])

    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and "is not named after a language" in said
    assert ESC not in said and "\u202e" not in said


@pytest.mark.parametrize("tag", ["../../secret", "/secret", "a/b", ""])
def test_a_line_of_results_cannot_name_a_file_elsewhere(tmp_path, tag):
    row = {"model": "x", "language": tag, "evaluation": "bits_per_byte", "value": 1.0}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")

    if tag:
        assert "line 1 is no score" in refusal(BadRun, read_results, tmp_path)
    else:
        assert read_results(tmp_path) == [row]


@pytest.mark.parametrize("name", ["../../../etc/x", "/etc/x", "x\0", "<b>"])
def test_a_distribution_is_not_a_path_into_other_folders(name):
    said = refusal(BabelpressError, mixtures.mixture, f"proportional:{name}", ["swh_Latn"])
    assert "distribution" in said and "xglm" in said  # those that there are


# ---- recipes -------------------------------------------------------------------------------

LAUGHS = "\n".join(
    [
        'a0: &a0 ["ha", "ha"]',
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
        "model: *a11",
    ]
)
BOMBS = {
    "aliases": (LAUGHS, "line 2 has an alias (*a0)"),
    "an alias in a mapping": ("model: &a {b: 1}\nsteps: [{<<: *a}]", "line 2 has an alias"),
    "a tag": ("model: !!python/object/apply:os.system [true]", "line 1 has a tag"),
    "nesting": ("[" * 4_000, "nested more than 32 deep"),
    "a long number": (f"model: {'9' * 5000}", "a date or a number in it is none"),
    "a long number in hex": (f"model: 0x{'f' * 5000}", "a number in it has more than 64 bits"),
    "a date that is none": ("model: 2001-99-99", "a date or a number in it is none"),
    "a long file": ("# " + "x" * 100_000, "50,000 are the most"),
    "a control character": ("model: \x07", "special characters are not allowed"),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_recipe_that_explodes_is_refused_at_once(tmp_path, what):
    text, words = BOMBS[what]
    for name in ("recipe.yaml", "shares.yaml"):
        (tmp_path / name).write_text(text)

    start = time.process_time()
    said = refusal(BadSetting, recipe.load, tmp_path / "recipe.yaml")
    mixed = refusal(BadSetting, mixtures.mixture, str(tmp_path / "shares.yaml"), ["swh_Latn"])

    assert words in said and f"{tmp_path / 'recipe.yaml'} cannot be read" in said
    assert words in mixed
    assert time.process_time() - start < 5


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_a_number_that_json_has_not_is_refused_before_anything_runs(value):
    steps = [{"prune": {"minimax": {"rate": float(value[1:])}}}]
    assert "finite" in refusal(BadSetting, recipe.of, {"model": "x", "steps": steps})
    steps = [{"prune": {"method": "sparsegpt", "options": {"damp": float(value[1:])}}}]
    assert "damp" in refusal(BadSetting, recipe.of, {"model": "x", "steps": steps})


# ---- text ----------------------------------------------------------------------------------


def test_a_packed_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "PACKED_FROM", 1_000_000)
    line = b'{"text": "' + b"a" * 100_000 + b'"}\n'
    (tmp_path / "sw.jsonl.gz").write_bytes(gzip.compress(line * 200, 9))

    words = refusal(BadCorpus, open_corpus(str(tmp_path)).documents, "swh_Latn", "train")

    assert f"{tmp_path / 'sw.jsonl.gz'} packs more than" in words and "fill the memory" in words


@pytest.mark.parametrize("name", ["sw.jsonl", "sw.txt", "sw.jsonl.gz"])
def test_a_line_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(records, "LONGEST", 1000)
    data = b'{"text": "short"}\n{"text": "' + b"a" * 5000
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    words = refusal(BadCorpus, open_corpus(str(tmp_path)).documents, "swh_Latn", "train")

    assert words == f"{tmp_path / name}, line 2 is longer than 1,000 bytes. Break it up."


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
    path = tmp_path / "sw.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name)

    said = refusal(BadCorpus, lambda: open_corpus(str(tmp_path)).documents("swh_Latn", "train"))
    assert str(path if kind == "pipe" else tmp_path) in said


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ('"doc": "\\ud800"', "line 1 has a field 'doc' that is neither a word nor a number"),
        ('"id": ["a"]', "line 1 has a field 'id'"),
        ('"src": {"a": 1}', "line 1 has a field 'src'"),
        ('"split": ["train"]', "line 1 has the split ['train']"),
        ('"split": "train\\n"', "line 1 has the split 'train\\n'"),
    ],
)
def test_names_of_documents_are_words(tmp_path, fields, words):
    (tmp_path / "sw.jsonl").write_text(f'{{"text": "Habari", {fields}}}\n')

    assert words in refusal(BadCorpus, open_corpus(str(tmp_path)).documents, "swh_Latn", "train")


@pytest.mark.slow
def test_many_documents_and_one_endless_line_take_bounded_time_and_memory(tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    with (text / "sw.jsonl").open("w") as file:
        for number in range(100_000):
            line = json.dumps({"text": f"Habari ya asubuhi namba {number}", "doc": str(number)})
            file.write(line + "\n")
        file.write(json.dumps({"text": "maji " * 10_000_000, "doc": "long"}) + "\n")
    size = (text / "sw.jsonl").stat().st_size
    script = (
        "import resource, sys, time; from babelpress.text.corpus import open_corpus\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "c = open_corpus(sys.argv[1]); n = sum(len(c.documents('swh_Latn', s)) for s in "
        "('train', 'valid', 'test'))\n"
        "c.fingerprint(['swh_Latn'])\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(n, (after - before) * 1024, time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(text)], capture_output=True, text=True, check=True
    )
    documents, memory, seconds = map(float, done.stdout.split())

    assert documents == 100_001
    assert memory < 6 * size
    assert seconds < 60


# ---- moments -------------------------------------------------------------------------------


def test_moments_that_somebody_sealed_anew_are_still_looked_at(tmp_path):
    identity = {
        **dict.fromkeys(("model", "model_name", "tokenizer", "dtype", "corpus"), "x"),
        "gram": False,
        "languages": ["<img src=x>"],
    }
    manifest = {"format": 1, "identity": identity, "surroundings": {}, "blocks": 1}
    for what in ({"a/b/n": torch.tensor(-3)}, {"no slash": torch.ones(2)}, {}):
        files.save_tensors(tmp_path / "block_000.safetensors", what, {"sites": "[[]]"})
        whole = {**manifest, "files": files.hashes(tmp_path), "calibration": {}}
        whole["files"].pop("manifest.json", None)
        files.write_sealed(tmp_path / "manifest.json", whole)

        assert "holds no moments of a block" in refusal(BadMoments, Store.open(tmp_path).load, 0)
