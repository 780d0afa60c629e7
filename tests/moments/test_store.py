"""Moments on disk: whole or resumed to the same bytes, and refused where they are of other work."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pico
import pytest
import torch
from killing import killed_before
from stored import content, refusal

from babelpress.errors import BabelpressError, UnknownName
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.moments import gather as feeding
from babelpress.moments import store as storing
from babelpress.moments.calibrate import calibrate, text_hash
from babelpress.moments.store import Store
from babelpress.steps import prune as pruning
from babelpress.steps.prune import Settings as Prune
from babelpress.system.files import read_json, write_sealed
from babelpress.system.offload import in_memory
from babelpress.system.progress import silent
from babelpress.text.draw import draw
from babelpress.text.settings import CalibrationSettings
from babelpress.text.token_blocks import TokenBlocks

LANGUAGES = ("swh_Latn", "amh_Ethi")
ASKED = CalibrationSettings(languages=LANGUAGES, tokens=256, length=64)
NAME = "model.layers.1.mlp.down_proj.weight"
DENSE = Prune(method="wanda", pattern="0.25", propagate="dense")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Forked children must not touch OpenMP, and threads belong to what must agree."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def llama(*, seed=0, dtype=torch.float32, name="pico", tokenizer=None):
    return Opened(name, pico.model(seed=seed, dtype=dtype), tokenizer or pico.tokenizer(), dtype)


def taken(out, opened=None, asked=ASKED, *, gram=True, progress=silent):
    return calibrate(opened or llama(), asked, out, gram=gram, progress=progress)


def stop_after(blocks):
    """Progress that interrupts once so many blocks are done."""

    def watch(what, done, total):
        if done == blocks:
            raise KeyboardInterrupt

    return watch


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed moments folder."""
    out = tmp_path_factory.mktemp("store") / "moments"
    taken(out)
    return out


def test_a_finished_folder_holds_one_file_a_block_and_a_manifest(finished):
    blocks, manifest = content(finished)

    assert set(blocks) == {"block_000.safetensors", "block_001.safetensors"} == {*manifest["files"]}
    assert manifest["identity"]["languages"] == [*LANGUAGES]
    rows = manifest["calibration"]["languages"]
    # four blocks of 64, of which BOS, and EOS between documents, do not count
    assert all(row["blocks"] == 4 and 240 <= row["tokens"] <= 252 for row in rows.values())
    assert all(row["bytes"] > 0 and row["characters"] > 0 for row in rows.values())


def test_moments_come_back_as_they_were_gathered(finished):
    opened = llama()
    walk = Walk(opened.model)
    blocks = draw(opened, ASKED).blocks
    store = Store.open(finished)

    for index, expected in feeding.gather_dense(walk, blocks, gram=True):
        loaded = store.load(index)
        assert list(loaded) == list(expected)
        for site, by_language in expected.items():
            assert set(loaded[site]) == {*LANGUAGES}
            for language, moments in by_language.items():
                of_file = loaded[site][language]
                found = {**of_file.tensors(), "gram": of_file.gram_II}
                assert {name: t.dtype for name, t in found.items()} == {
                    name: t.dtype for name, t in moments.tensors().items()
                }
                assert all(torch.equal(found[n], t) for n, t in moments.tensors().items())


def gram_of(moments):
    """The whole Gram matrix."""
    assert moments.gram_II is not None
    return moments.gram_II


def shape_of(moments):
    """How the Gram matrix lies."""
    assert moments.gram is not None
    return moments.gram.shape


def test_gram_matrices_take_half_and_are_given_whole_to_whoever_looks(finished, tmp_path):
    walk = Walk(llama().model)
    of_text = dict(feeding.gather_dense(walk, draw(llama(), ASKED).blocks, gram=True))
    store = Store.open(finished)

    assert store.manifest["format"] == 2
    for index, block in of_text.items():
        loaded = store.load(index)
        for site, seen in block.items():
            for language, moments in seen.items():
                found = loaded[site][language]
                gram_II = gram_of(moments)
                assert shape_of(found) == ((site.inputs + 1) // 2, site.inputs + 1)
                assert torch.equal(gram_II, gram_II.T)
                assert torch.equal(gram_of(found), gram_II)
                assert torch.equal(gram_of(found + found), gram_of(moments + moments))
    triangles = sum(
        4 * site.inputs * (site.inputs + 1) // 2 * len(seen)
        for block in of_text.values()
        for site, seen in block.items()
    )
    with_gram, without = (
        sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for folder in (finished, taken(tmp_path / "vectors", gram=False).folder)
    )
    assert abs(with_gram - without - triangles) < 4096  # what headers say of them


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A folder as it was written before matrices were folded."""
    with monkeypatch.context() as patched:
        patched.setattr(storing, "FORMAT", 1)
        taken(tmp_path / "old")
    return tmp_path / "old"


def test_a_folder_of_before_is_read_and_presses_to_the_same_bits(finished, old):
    opened = {folder: llama() for folder in (finished, old)}
    solved = DENSE.model_copy(update={"method": "sparsegpt"})

    done = {
        folder: pruning.do(
            each,
            CalibrationSettings(),
            solved.model_copy(update={"moments": str(folder)}),
            folder,
            hold=in_memory,
        )
        for folder, each in opened.items()
    }

    assert all(
        shape_of(each) == (site.inputs, site.inputs)
        for site, seen in Store.open(old).load(0).items()
        for each in seen.values()
    )
    one, other = (each.model.state_dict() for each in opened.values())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(*(m.model.state_dict()[NAME] for m in (opened[old], llama())))
    assert done[finished].report.damage == done[old].report.damage


def test_half_of_a_folder_of_before_is_finished_as_one_of_before(old, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(storing, "FORMAT", 1)
        with pytest.raises(KeyboardInterrupt):
            taken(tmp_path / "moments", progress=stop_after(1))

    taken(tmp_path / "moments")

    assert content(tmp_path / "moments") == content(old)


def test_a_matrix_of_another_form_than_the_format_says_is_refused(old):
    manifest = read_json(old / "manifest.json")
    write_sealed(old / "manifest.json", {**manifest, "format": 2})

    assert "holds no moments of a block" in refusal(Store.open(old).load, 0)


@pytest.mark.parametrize("blocks", [1, 2])
def test_an_interrupted_calibration_resumes_to_the_same_bytes(tmp_path, finished, blocks):
    with pytest.raises(KeyboardInterrupt):
        taken(tmp_path / "moments", progress=stop_after(blocks))
    words = refusal(Store.open, tmp_path / "moments")
    assert "half-written" in words and "calibrate" in words

    taken(tmp_path / "moments")

    assert content(tmp_path / "moments") == content(finished)


def test_blocks_that_are_done_are_not_gathered_again(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        taken(tmp_path / "moments", progress=stop_after(1))
    gathered = []
    real = feeding.gather

    def gather(walk, index, todo, **options):
        gathered.append(index)
        return real(walk, index, todo, **options)

    monkeypatch.setattr(feeding, "gather", gather)
    taken(tmp_path / "moments")
    assert gathered == [1]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "moments").iterdir()}

    taken(tmp_path / "moments")

    assert gathered == [1]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "moments").iterdir()}


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_calibration_killed_before_a_write_resumes_to_the_same_bytes(tmp_path, finished, every):
    killed = 0
    for number in range(0, 100, every):
        out = tmp_path / str(number)
        if not killed_before(number, lambda out=out: taken(out)):
            break
        killed += 1
        taken(out)
        assert content(out) == content(finished), f"killed before write {number}"

    # a file is flushed and renamed, then its folder flushed: the manifest twice, two blocks
    assert killed * every >= 3 * 4


@pytest.mark.slow
def test_a_process_killed_at_a_random_moment_resumes_to_the_same_bytes(tmp_path):
    model = tmp_path / "model"
    pico.model().save_pretrained(model)
    pico.tokenizer().save_pretrained(model)
    words = ["-c", "from babelpress.cli import run; run()", "calibrate", str(model), "--gram"]
    words += ["--languages", ",".join(LANGUAGES), "--tokens", "16384", "--length", "64", "--out"]

    def start(out):
        return subprocess.Popen([sys.executable, *words, str(out)], stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    rng = random.Random(0)
    for _ in range(3):
        process = start(tmp_path / "killed")
        while not (tmp_path / "killed").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait() == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_moments_of_another_model_tokenizer_or_dtype_are_refused_with_the_reason(finished):
    other = pico.tokenizer()
    other.add_tokens(["jambo"])
    step = DENSE.model_copy(update={"moments": str(finished)})
    cases = {
        "another model": llama(seed=1),
        "another tokenizer": llama(tokenizer=other),
        "another dtype (torch.float32, not torch.bfloat16": llama(dtype=torch.bfloat16),
    }
    for reason, opened in cases.items():
        words = refusal(pruning.do, opened, ASKED, step, finished, hold=in_memory)
        assert f"{finished} holds moments of {reason}" in words
        assert "taken of pico" in words and "Calibrate this model first" in words


def damaged(finished, tmp_path, change):
    """A copy of the folder whose second block went through `change`."""
    for path in finished.iterdir():
        data = path.read_bytes()
        whole = change(data) if path.name == "block_001.safetensors" else data
        if whole is not None:
            (tmp_path / path.name).write_bytes(whole)
    return Store.open(tmp_path)


def flipped(data):
    return data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]


@pytest.mark.parametrize(
    "change", [lambda data: data[:-40], flipped, lambda _: b"", lambda _: None]
)
def test_a_damaged_block_is_refused_by_name_and_the_others_are_not(finished, tmp_path, change):
    store = damaged(finished, tmp_path, change)

    assert len(store.load(0)) == 4
    assert "block_001.safetensors is missing or not the file" in refusal(store.load, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 7}, "seed (0 there, 7 now)"),
        ({"tokens": 128}, "tokens (256 there, 128 now)"),
        ({"length": 32}, "length (64 there, 32 now)"),
        ({"languages": ("swh_Latn", "hau_Latn")}, "languages, text ("),
        ({"languages": ("amh_Ethi", "swh_Latn")}, "languages, text ("),
        ({"count_special": True}, "count_special (False there, True now)"),
    ],
)
def test_a_folder_of_other_work_is_refused_naming_what_differs(finished, change, words):
    before = content(finished)

    found = refusal(taken, finished, asked=ASKED.model_copy(update=change))

    assert words in found and "Choose another --out" in found
    assert content(finished) == before


def test_a_folder_of_another_model_or_without_gram_matrices_is_other_work(finished):
    assert "differ in model (" in refusal(taken, finished, llama(seed=1))
    assert "gram (True there, False now)" in refusal(taken, finished, gram=False)


def test_text_kept_apart_for_another_evaluation_is_other_work(tmp_path):
    for name, lines in {"train": "abcdefgh", "judge": "bd"}.items():
        (tmp_path / name).mkdir()
        split = "train" if name == "train" else "test"
        rows = [{"text": f"Neno {c} " * 20, "doc": f"{name}{c}", "split": split} for c in lines]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "swh_Latn.jsonl").write_text(text)
    asked = CalibrationSettings(corpus=str(tmp_path / "train"), tokens=1024, length=64)
    apart = asked.model_copy(update={"evaluation": str(tmp_path / "judge")})
    taken(tmp_path / "moments", asked=asked)

    words = refusal(taken, tmp_path / "moments", asked=apart)

    assert "differ in text (" in words


def test_what_a_model_or_a_corpus_is_called_decides_nothing(finished):
    before = content(finished)

    taken(finished, llama(name="elsewhere/pico"))

    assert content(finished) == before


def test_other_threads_may_use_finished_moments_but_not_go_on_with_half_of_them(
    tmp_path, finished, monkeypatch
):
    with pytest.raises(KeyboardInterrupt):
        taken(tmp_path / "moments", progress=stop_after(1))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    assert taken(finished).finished
    assert "differ in threads (1 there, 3 now)" in refusal(taken, tmp_path / "moments")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "block_000.safetensors"])
def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(tmp_path, name):
    (tmp_path / name).write_text("mine")

    words = refusal(taken, tmp_path)

    assert f"{tmp_path} is not empty and no moments folder" in words
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_killed_process_left_half_written_goes(tmp_path, finished):
    out = tmp_path / "moments"
    out.mkdir()
    (out / ".manifest.json.0123abcd.partial").write_text('{"for')
    (out / ".lock").write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename}))

    taken(out)

    assert content(out) == content(finished)


def test_a_calibration_that_cannot_begin_leaves_no_folder(tmp_path):
    asked = ASKED.model_copy(update={"languages": ("klingon9",)})

    refusal(taken, tmp_path / "moments", asked=asked, kind=UnknownName)

    assert not (tmp_path / "moments").exists()


def test_two_processes_cannot_write_one_folder(tmp_path):
    def second(what, done, total):
        refusal(taken, tmp_path / "moments", kind=BabelpressError)

    taken(tmp_path / "moments", progress=second)

    assert Store.open(tmp_path / "moments").finished


def test_a_folder_without_a_manifest_and_a_foreign_manifest_are_refused(tmp_path):
    assert "has no manifest.json" in refusal(Store.open, tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    assert "not a moments manifest of format 1, 2 or 3" in refusal(Store.open, tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 1')
    assert "is not valid JSON" in refusal(Store.open, tmp_path)


def test_text_that_the_model_writes_itself_is_calibrated_on(tmp_path):
    asked = CalibrationSettings(corpus="self", languages=LANGUAGES, tokens=128, length=32)
    store = taken(tmp_path / "a", asked=asked)
    special = asked.model_copy(update={"count_special": True})

    counted = taken(tmp_path / "b", asked=special)

    assert store.identity["corpus"] == "self"
    rows = store.manifest["calibration"]["languages"]
    more = counted.manifest["calibration"]["languages"]
    assert all(rows[tag]["tokens"] < more[tag]["tokens"] == 128 for tag in LANGUAGES)


def test_the_hash_of_the_text_sees_ids_and_what_counts():
    ids_BT = torch.arange(6).reshape(2, 3)
    counted_BT = torch.ones(2, 3, dtype=torch.bool)
    less_BT = counted_BT.clone()
    less_BT[1, 2] = False
    cases = [(ids_BT, counted_BT), (ids_BT + 1, counted_BT), (ids_BT, less_BT)]

    hashes = {text_hash({"swh_Latn": TokenBlocks("swh_Latn", *each)}) for each in cases}

    assert len(hashes) == 3


def test_what_goes_on_says_what_it_found_and_what_is_finished_says_so(tmp_path):
    said = []

    def watch(what, _done, total):
        if not total:
            said.append(what)

    with pytest.raises(KeyboardInterrupt):
        taken(tmp_path / "moments", progress=stop_after(1))
    taken(tmp_path / "moments", progress=watch)
    taken(tmp_path / "moments", progress=watch)

    assert said == [
        "resuming: 1 of 2 blocks",
        f"{tmp_path / 'moments'} is finished: nothing is done again",
    ]
