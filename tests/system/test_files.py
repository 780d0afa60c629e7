"""A file is whole or absent; a folder belongs to one process; no pickle is opened."""

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from babelpress.errors import BadModel, BadMoments, BadRun, NotFinite
from babelpress.system import claims, files
from babelpress.system.claims import LOCK_NAME, lock


@pytest.fixture
def full_disk(monkeypatch):
    """Every flush finds the disk full."""

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def test_text_comes_back_as_it_was_in_a_folder_made_for_it(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"

    files.write_text(path, "Kiswahili, हिन्दी\n")

    assert path.read_bytes().decode() == "Kiswahili, हिन्दी\n"
    assert [path] == list(path.parent.iterdir())


def test_json_is_sorted_and_readable_and_comes_back(tmp_path):
    path = tmp_path / "a.json"

    files.write_json(path, {"b": [1, 2.5], "a": "ü"})

    assert path.read_text("utf-8") == '{\n  "a": "ü",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    assert files.read_json(path) == {"a": "ü", "b": [1, 2.5]}


def test_json_refuses_a_number_that_is_none_and_writes_nothing(tmp_path):
    with pytest.raises(NotFinite, match=r"a\.json"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}", b""])
def test_json_that_is_damaged_is_one_line_with_its_path(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)

    with pytest.raises(BadMoments, match=r"^.*manifest\.json is not valid JSON: .*$"):
        files.read_json(path, error=BadMoments)


def test_json_that_is_missing_is_one_line_with_its_path(tmp_path):
    with pytest.raises(BadRun, match=r"cannot read .*a\.json: No such file"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_text(path, "new"),
        lambda path: files.write_json(path, {"new": 1}),
        lambda path: files.save_tensors(path, {"new": torch.ones(3)}),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, full_disk, write):
    path = tmp_path / "a"
    path.write_text("old")

    with pytest.raises(BadRun, match=r"cannot write .*/a \(.* bytes\): the disk is full, .* free"):
        write(path)

    assert path.read_text() == "old"
    assert [path] == list(tmp_path.iterdir())


def test_the_tensor_library_finding_the_disk_full_is_the_same_error(tmp_path, monkeypatch):
    def refuse(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", refuse)

    with pytest.raises(BadRun, match="the disk is full"):
        files.save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(3)})

    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "a").write_text("")

    with pytest.raises(BadRun, match=r"cannot write .*/a/b \(1 bytes\): "):
        files.write_text(tmp_path / "a" / "b", "x")


def test_an_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)

    with pytest.raises(KeyboardInterrupt):
        files.write_text(tmp_path / "a", "x")

    assert not list(tmp_path.iterdir())


def test_tensors_come_back_with_their_dtypes_even_from_views(tmp_path):
    path = tmp_path / "a.safetensors"
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"view": whole.T, "half": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(7)}

    files.save_tensors(path, tensors, {"format": "1"})

    back = files.load_tensors(path)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(tensors[name], back[name]) for name in tensors)
    assert all(tensors[name].dtype == back[name].dtype for name in tensors)
    assert path.stat().st_mode == _usual_mode(tmp_path)


def _usual_mode(folder):
    (folder / "usual").touch()
    return (folder / "usual").stat().st_mode


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_the_message_says_why(tmp_path, zipped):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)

    with pytest.raises(BadModel, match=r"pytorch_model\.bin is a pickle, .* can run code"):
        files.load_tensors(path)


@pytest.mark.parametrize("kept", [0, 5, 9, 60, -1])
def test_tensors_cut_short_are_one_line(tmp_path, kept):
    path = tmp_path / "block_000.safetensors"
    files.save_tensors(path, {"x": torch.ones(50)})
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(BadMoments, match=r"^.*block_000\.safetensors .*cut short.*$"):
        files.load_tensors(path, error=BadMoments)


def test_tensors_that_are_missing_are_one_line(tmp_path):
    with pytest.raises(BadModel, match=r"cannot read .*a\.safetensors: No such file"):
        files.load_tensors(tmp_path / "a.safetensors")


def test_a_header_whose_length_looks_like_a_pickle_is_still_read(tmp_path):
    path = tmp_path / "a.safetensors"
    for padding in range(700):
        data = safetensors.torch.save({"x": torch.ones(1)}, {"p": "." * padding})
        if data.startswith(files.PICKLE_HEADS):
            break
    else:
        pytest.fail("no header length looks like a pickle")
    path.write_bytes(data)

    assert torch.equal(torch.ones(1), files.load_tensors(path)["x"])


def test_a_new_folder_appears_when_it_is_done(tmp_path):
    path = tmp_path / "runs" / "a"

    with files.new_folder(path) as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "b").write_text("x")
        assert not path.exists()

    assert (path / "inside" / "b").read_text() == "x"
    assert [path] == list(path.parent.iterdir())


def test_a_new_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.new_folder(tmp_path / "a") as folder:
        (folder / "b").write_text("x")
        raise KeyboardInterrupt

    assert not list(tmp_path.iterdir())


def test_a_new_folder_on_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, full_disk):
    with (
        pytest.raises(BadRun, match=r"cannot write .*/a: the disk is full"),
        files.new_folder(tmp_path / "a") as folder,
    ):
        (folder / "b").write_text("x")

    assert not list(tmp_path.iterdir())


def test_other_errors_inside_a_new_folder_are_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError), files.new_folder(tmp_path / "a"):
        (tmp_path / "elsewhere").read_text()


def test_a_new_folder_takes_an_empty_one_and_refuses_a_full_one(tmp_path):
    with files.new_folder(tmp_path) as folder:
        (folder / "a").write_text("old")

    with pytest.raises(BadRun, match="exists already"), files.new_folder(tmp_path):
        pass

    assert (tmp_path / "a").read_text() == "old"


@pytest.fixture(params=[0o022, 0o077, 0o027])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_is_written_has_the_modes_that_the_umask_leaves_whoever_wrote_it(tmp_path, umask):
    one, several = tmp_path / "deep" / "one.safetensors", tmp_path / "several"
    source = tmp_path / "copied"
    source.write_text("x")
    source.chmod(0o444)

    files.save_tensors(one, {"a": torch.ones(3)})
    with files.new_folder(several) as new:
        inside = Path(tempfile.mkdtemp(dir=new))  # which its owner alone may open
        safetensors.torch.save_file({"a": torch.ones(3)}, inside / "b.safetensors")  # and read
        shutil.copy(source, new / "c")
        files.write_json(new / "d.json", {})

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (one, *several.rglob("*"))}
    assert len(modes) == 5
    for path, mode in modes.items():
        assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, path
    for folder in (one.parent, several):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path):
    path = tmp_path / "a"
    script = (
        "import os, sys, pathlib; from babelpress.system.files import new_folder\n"
        "with new_folder(pathlib.Path(sys.argv[1])) as f: (f / 'b').write_text('x'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1

    with files.new_folder(path):
        pass

    assert [path] == list(tmp_path.iterdir())


def begun(path, *, pid, inside):
    """What an attempt at a folder was at; `inside` are the names of its files."""
    folder = path.with_name(f".{path.name}.{pid}.partial")
    folder.mkdir()
    for name in inside:
        (folder / name).write_text(name)
    return folder


def gone():
    """A process of this host that has ended, as temporary names have it."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{process.pid}@{socket.gethostname()}"


def test_a_folder_that_is_resumed_is_what_a_process_left_that_has_died(tmp_path):
    path = tmp_path / "a"
    begun(path, pid=gone(), inside="bc")

    with files.new_folder(path, resume=True) as folder:
        (folder / "d").write_text("d")

    assert [path] == list(tmp_path.iterdir())
    assert sorted(each.name for each in path.iterdir()) == ["b", "c", "d"]


@pytest.mark.parametrize("who", ["1@elsewhere", f"{os.getppid()}@{socket.gethostname()}"])
def test_a_folder_that_another_may_be_at_is_neither_resumed_nor_touched(tmp_path, who):
    path = tmp_path / "a"
    other = begun(path, pid=who, inside="b")

    with files.new_folder(path, resume=True):
        pass

    assert not list(path.iterdir())
    assert [each.name for each in other.iterdir()] == ["b"]


def test_a_resumed_folder_stays_where_it_is_interrupted_and_goes_where_it_fails(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt), files.new_folder(path, resume=True) as folder:
        (folder / "b").write_text("x")
        raise KeyboardInterrupt
    assert not path.exists()

    with pytest.raises(ValueError), files.new_folder(path, resume=True) as folder:
        assert [each.name for each in folder.iterdir()] == ["b"]
        raise ValueError

    assert not list(tmp_path.iterdir())


def test_what_was_given_up_is_taken_by_the_next_attempt_that_of_most_files_where_several_were(
    tmp_path,
):
    path = tmp_path / "a.b"
    begun(path, pid="left", inside="xy")
    begun(path, pid="7@node-1.example.org", inside="xyz")
    begun(path, pid="8@node-2", inside="x")
    begun(tmp_path / "a", pid="9@node-2", inside="w")

    claims.leave_partials(tmp_path, tmp_path / "nowhere")
    left = sorted(each.name for each in tmp_path.iterdir())
    with files.new_folder(path, resume=True):
        pass

    assert left == [".a.b.left.partial", ".a.left.partial"]
    assert sorted(each.name for each in path.iterdir()) == ["x", "y", "z"]


def test_what_is_written_after_a_folder_was_taken_over_is_not_taken_for_all_of_it(tmp_path):
    path, taken = tmp_path / "a", tmp_path / ".a.7@elsewhere.partial"

    with pytest.raises(BadRun, match="taken over"), files.new_folder(path, resume=True) as folder:
        (folder / "b").write_text("x")
        folder.rename(taken)
        files.write_text(folder / "c", "y")

    assert [taken] == list(tmp_path.iterdir())
    assert [each.name for each in taken.iterdir()] == ["b"]


def test_a_second_process_is_told_who_holds_the_lock(tmp_path):
    script = (
        "import sys, pathlib; from babelpress.system.claims import lock\n"
        "with lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"

        held = rf"in use by process {first.pid} on {os.uname().nodename} since \d{{4}}-"
        with pytest.raises(BadRun, match=held), lock(tmp_path):
            pass
        first.kill()
    assert (tmp_path / LOCK_NAME).exists()

    with lock(tmp_path):
        pass  # the lock of the dead is taken over

    assert not list(tmp_path.iterdir())


def test_one_process_cannot_lock_a_folder_twice(tmp_path):
    with (
        lock(tmp_path),
        pytest.raises(BadRun, match=f"process {os.getpid()}"),
        lock(tmp_path),
    ):
        pass


def test_a_lock_from_another_host_stays(tmp_path):
    path = tmp_path / LOCK_NAME
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "start": "2026-01-01"}))

    with pytest.raises(BadRun, match=rf"on elsewhere .* remove .*{LOCK_NAME}"):
        lock(tmp_path).__enter__()

    assert path.exists()


def test_a_lock_that_was_never_finished_is_taken_over(tmp_path):
    (tmp_path / LOCK_NAME).write_text('{"pid": 1')

    with lock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()


def test_hashes_are_sha256_of_the_bytes(tmp_path):
    expected = hashlib.sha256("ß".encode()).hexdigest()
    (tmp_path / "a").write_bytes("ß".encode())

    assert expected == files.sha256_text("ß") == files.sha256_file(tmp_path / "a")


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    assert files.fingerprint({"a": 1, "b": [1, 2]}) == files.fingerprint({"b": [1, 2], "a": 1})
    assert files.fingerprint({"a": [1, 2]}) != files.fingerprint({"a": [2, 1]})
    assert files.fingerprint({"a": 1}) != files.fingerprint({"a": "1"})


def test_a_sealed_value_comes_back_without_its_seal(tmp_path):
    value = {"b": [1, 2.5, -0.0], "a": {"ü": None}, "cost": {"seconds": 1.5}}

    files.write_sealed(tmp_path / "a.json", value)

    assert files.read_json(tmp_path / "a.json") == value
    written = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert set(written) == {*value, "seal"} and set(written["cost"]) == {"seconds", "seal"}


def test_the_seal_is_the_same_whatever_it_cost(tmp_path):
    seals = {files.seal({"a": 1, "cost": {"seconds": each}})["seal"] for each in (1.0, 2.0)}

    assert len(seals) == 1 != files.seal({"a": 2})["seal"]


def test_every_bit_of_a_sealed_file_counts(tmp_path):
    path = tmp_path / "a.json"
    value = {"kind": "prune", "zeros": 12, "cost": {"seconds": 0.25}}
    files.write_sealed(path, value)
    sound = path.read_bytes()
    for bit in range(8 * len(sound)):
        data = bytearray(sound)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(BadRun, match=r"^[^\n]*a\.json is (damaged|not valid JSON)[^\n]*$"):
            files.read_json(path)


def test_json_of_before_there_were_seals_is_read_and_a_hash_in_it_is_no_seal(tmp_path):
    value = {"format": 1, "hash": "0" * 64}
    files.write_json(tmp_path / "a.json", value)

    assert files.read_json(tmp_path / "a.json") == value


def test_a_sealed_value_has_no_number_that_is_none(tmp_path):
    with pytest.raises(NotFinite, match=r"a\.json"):
        files.write_sealed(tmp_path / "a.json", {"loss": float("inf")})


def test_json_nested_without_end_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[" * 200_000)

    with pytest.raises(BadRun, match=r"a\.json is not valid JSON: [^\n]+$"):
        files.read_json(tmp_path / "a.json")


def test_hashes_are_of_all_files_and_checked_by_part(tmp_path):
    for name in ("a/b/c", "a/d", "e"):
        files.write_text(tmp_path / name, name)
    written = files.hashes(tmp_path)
    assert list(written) == ["a/b/c", "a/d", "e"]

    files.write_text(tmp_path / "e", "other")
    files.check_hashes(tmp_path, written, "a")

    with pytest.raises(BadRun, match=r"/e is missing or not the file that was written"):
        files.check_hashes(tmp_path, written)
    (tmp_path / "a" / "d").unlink()
    with pytest.raises(BadMoments, match="/a/d is missing"):
        files.check_hashes(tmp_path, written, "a", error=BadMoments)


def test_a_file_is_linked_and_copied_where_the_disk_knows_no_links(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("pressed")
    target.write_text("of an attempt before")

    files.link(str(source), str(target))
    assert target.samefile(source)

    def refuses(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuses)
    files.link(str(source), str(target))
    assert target.read_text() == "pressed" and not target.samefile(source)
    assert source.read_text() == "pressed"
