"""What a disk spoiled: one bit or the end of a file, in everything that is read again.

Whatever is hit, it is refused by name or made again; it is never used.
"""

import json
import random
import shutil

import pico
import pytest
from folders import content

from babelpress.errors import BabelpressError, BadMoments, BadRun
from babelpress.judge import scores
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import Opened
from babelpress.moments.store import Store
from babelpress.press import codes
from babelpress.runs import recipe
from babelpress.runs.open import open_any, ranges_of
from babelpress.system import plain

ON = "bits_per_byte"


def flip(path, rng):
    """Change one bit somewhere."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path, rng):
    """Lose the end."""
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


damages = pytest.mark.parametrize("damage", [flip, cut])


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the folder of a command, to spoil."""
    return lambda name: shutil.copytree(whole(name), tmp_path / name)


def refusal(kind, function, *arguments, **options):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def spoilt(path, damage, rng):
    """Spoil a file, and tell whether it still says the same."""
    before = path.read_bytes()
    damage(path, rng)
    if path.suffix == ".yaml":  # whose last lines may be defaults, which say nothing
        try:
            return recipe.load(path) == recipe.of(plain.load(before.decode()))
        except BabelpressError:
            return False
    try:
        return path.suffix == ".json" and json.loads(before) == json.loads(path.read_bytes())
    except ValueError:
        return False


# ---- moments -------------------------------------------------------------------------------


@damages
@pytest.mark.parametrize("name", ["manifest.json", "block_001.safetensors"])
def test_damaged_moments_are_refused_by_name(copy, damage, name):
    folder = copy("calibrate")
    sound = (folder / name).read_bytes()
    for seed in range(40):
        (folder / name).write_bytes(sound)
        if spoilt(folder / name, damage, random.Random(seed)):
            continue

        words = refusal(BadMoments, lambda: Store.open(folder).load(1))

        assert str(folder) in words, seed


def test_a_block_that_is_spoilt_before_the_folder_is_finished_is_gathered_again(
    copy, work, whole, monkeypatch
):
    def stop(self, **facts):
        raise KeyboardInterrupt

    folder = copy("calibrate")
    shutil.rmtree(folder)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "finish", stop)
        work["calibrate"](folder)
    assert sorted(path.name for path in folder.glob("block*")) == [
        "block_000.safetensors",
        "block_001.safetensors",
    ]
    flip(folder / "block_000.safetensors", random.Random(3))

    work["calibrate"](folder)

    assert content(folder) == content(whole("calibrate"))


# ---- runs ----------------------------------------------------------------------------------


@damages
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("model/model.safetensors", lambda run: open_any(str(run))),
        ("model/model.safetensors", lambda run: open_any(str(run / "model"))),
        ("model/config.json", lambda run: open_any(str(run))),
        ("model/tokenizer.json", lambda run: open_any(str(run))),
        ("codes/block_001.safetensors", lambda run: codes.CodesFolder.open(run / "codes")),
        ("codes/manifest.json", lambda run: codes.CodesFolder.open(run / "codes")),
        ("ranges.safetensors", ranges_of),
        ("manifest.json", lambda run: open_any(str(run))),
    ],
)
def test_a_damaged_file_of_a_run_is_refused_by_name(copy, damage, name, use):
    run = copy("press")
    sound = (run / name).read_bytes()
    use(run)
    for seed in range(5):
        (run / name).write_bytes(sound)
        if spoilt(run / name, damage, random.Random(seed)):
            continue

        words = refusal(BabelpressError, use, run)

        assert str(run / name) in words or name.startswith("model/"), seed


@damages
@pytest.mark.parametrize("name", ["manifest.json", "recipe.yaml"])
def test_a_damaged_record_of_a_run_is_refused_by_the_same_command(copy, work, damage, name):
    run = copy("prune")
    for seed in range(8):
        shutil.copy(run / name, run / "kept")
        if not spoilt(run / name, damage, random.Random(seed)):
            refusal(BadRun, work["prune"], run)
        shutil.move(run / "kept", run / name)


def test_a_step_that_is_spoilt_before_the_next_is_not_built_upon(
    model, work, whole, tmp_path, monkeypatch
):
    from babelpress.steps import quantize as step

    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(step, "do", dies)
        work["press"](tmp_path / "out")
    shard = tmp_path / "out" / "steps" / "01-prune" / "model" / "model.safetensors"
    sound = shard.read_bytes()
    flip(shard, random.Random(5))

    assert f"{shard} is missing or not the file" in refusal(BadRun, work["press"], tmp_path / "out")

    shard.write_bytes(sound)
    work["press"](tmp_path / "out")
    assert content(tmp_path / "out") == content(whole("press"))


# ---- scores --------------------------------------------------------------------------------


@pytest.fixture
def scored(tmp_path):
    """A folder of scores, and how to measure it again."""

    asked = EvaluationSettings(on=(ON,), languages=("swh_Latn", "amh_Ethi"), documents=2, window=64)

    def again():
        opened = Opened("pico", pico.model(), pico.tokenizer(), pico.model().dtype)
        return evaluate(opened, tmp_path / "scores", asked)

    return tmp_path / "scores", again(), again


@damages
def test_a_damaged_line_of_results_is_refused_by_its_number(scored, damage):
    folder, rows, _ = scored
    path = folder / "results.jsonl"
    sound = path.read_bytes()
    for seed in range(150):
        path.write_bytes(sound)
        rng = random.Random(seed)
        damage(path, rng)
        kept = path.read_bytes()
        try:
            found = scores.read_results(folder)
        except BadRun as error:
            assert f"{path} line" in str(error) and "\n" not in str(error)
        else:
            # a file cut between lines has fewer, which is seen beside the tallies
            assert found in (rows, rows[:1], []), kept
            if found != rows:
                refusal(BadRun, scores.tallies, folder, ON)


@damages
@pytest.mark.parametrize("end", ["swh_Latn.parquet", "json"])
def test_damaged_tallies_are_refused_by_name(scored, damage, end):
    folder, _, _ = scored
    (path,) = folder.glob(f"tallies/{ON}.*.{end}")
    sound = path.read_bytes()
    for seed in range(25):
        path.write_bytes(sound)
        if not spoilt(path, damage, random.Random(seed)):
            assert str(path) in refusal(BadRun, scores.tallies, folder, ON)


@damages
def test_a_damaged_tally_is_measured_again(scored, damage):
    folder, rows, again = scored
    before = content(folder)
    (path,) = folder.glob(f"tallies/{ON}.*.swh_Latn.parquet")
    damage(path, random.Random(1))

    assert again() == rows
    assert content(folder) == before
