"""Files that are either whole or absent: atomic writes, new folders, locks, fingerprints, seals.

Everything is written under a temporary name in the folder where it will live, flushed to the disk
and then renamed, so a killed program or a full disk leaves the old file or none, never half a one.
Temporary names begin with a dot and end in `.partial`. POSIX only (rename, flock).

What a disk spoils later shows too: a sealed value carries, under `seal`, the SHA-256 of the rest of
it, and may list the hashes of files. JSON of before there were seals has none and is read as it is.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, Any, BinaryIO

from babelpress.errors import BabelpressError, BadModel, BadRun, NotFinite

if TYPE_CHECKING:
    from torch import Tensor

DATA = Path(__file__).parents[1] / "data"  # what the package brings
SEAL = "seal"
COST = "cost"  # what may differ between two runs of the same work
HASH = re.compile("[0-9a-f]{64}")
FILE_MODE = 0o666  # of a new file, before the umask
FULL = (errno.ENOSPC, errno.EDQUOT)
LEFT = "left"  # in a temporary name, where a process and its host are while it is at work
# "PK" opens the zip that torch.save writes, 0x80 and the protocol's number a bare pickle.
PICKLE_HEADS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or none. Raises BadRun when the disk refuses."""
    with _replacing(path, len(data)) as temporary, temporary.open("wb") as file:
        file.write(data)


@contextmanager
def whole_file(path: Path, needed: int) -> Iterator[BinaryIO]:
    """A file to write `needed` bytes into, that is there when the block ends well, or not at all.

    Raises BadRun when the disk refuses.
    """
    with _replacing(path, needed) as temporary, temporary.open("wb") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, a whole file or none. Raises BadRun when the disk refuses."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON with sorted keys. Raises NotFinite for NaN or infinity in it."""
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise NotFinite(f"a value for {path} is NaN or infinite, which JSON has not.") from error
    write_text(path, text + "\n")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a value as JSON with its seal. Raises NotFinite for NaN or infinity in it."""
    try:
        sealed = seal(value)
    except ValueError as error:
        raise NotFinite(f"a value for {path} is NaN or infinite, which JSON has not.") from error
    write_json(path, sealed)


def read_json(path: Path, *, error: type[BabelpressError] = BadRun) -> Any:
    """The value of a JSON file, its seal checked and taken off.

    Raises `error` where there is none, it is not JSON or its seal is broken.
    """
    try:
        return unsealed(json.loads(path.read_bytes()), str(path), error)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}.") from cause
    except (ValueError, RecursionError) as cause:  # also what invalid UTF-8 raises
        raise error(f"{path} is not valid JSON: {cause}.") from cause


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value with the fingerprint of all but its `cost` in it; a cost has a seal of its own.

    Raises ValueError for NaN or infinity.
    """
    rest = {key: each for key, each in value.items() if key != COST}
    cost = {COST: seal(value[COST])} if isinstance(value.get(COST), dict) else {}
    return {**value, **cost, SEAL: fingerprint(rest)}


def unsealed(value: Any, where: str, error: type[BabelpressError]) -> Any:
    """A value without its seal. Raises `error` where the seal does not fit what it is on.

    A value without one is as it is, unless it fits under another key: then that key is damaged.
    """
    if not isinstance(value, dict):
        return value
    for key, each in value.items():
        if key != SEAL and not (isinstance(each, str) and HASH.fullmatch(each)):
            continue
        rest = {other: value[other] for other in value if other not in (key, COST)}
        if (each == fingerprint(rest)) != (key == SEAL):
            raise error(
                f"{where} is damaged: it is not what was written. Restore it, or make it again."
            )
    bare = {key: each for key, each in value.items() if key != SEAL}
    return {**bare, COST: unsealed(bare[COST], where, error)} if COST in bare else bare


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file beneath a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def check_hashes(
    folder: Path,
    written: Mapping[str, str],
    part: str = "",
    *,
    error: type[BabelpressError] = BadRun,
) -> None:
    """Raise `error` naming the first file, of those in `part`, that is not as it was written."""
    for name, expected in written.items():
        path = folder / name
        if part in ("", PurePosixPath(name).parts[0]) and (
            not path.is_file() or sha256_file(path) != expected
        ):
            raise error(
                f"{path} is missing or not the file that was written. Restore it, or remove "
                f"{folder} and make it again."
            )


def save_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as one safetensors file, whole or not at all.

    Raises BadRun when the disk refuses.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    needed = sum(tensor.nbytes for tensor in whole.values())
    with _replacing(path, needed) as temporary:
        temporary.touch()
        usual_mode = temporary.stat().st_mode
        try:
            save_file(whole, temporary, metadata)
            temporary.chmod(usual_mode)  # the library makes files that only their owner may read
        except SafetensorError as error:
            # The library hides the number of the error in its text.
            number = errno.ENOSPC if "No space left" in str(error) else errno.EIO
            raise OSError(number, os.strerror(number)) from error


def load_tensors(path: Path, *, error: type[BabelpressError] = BadModel) -> "dict[str, Tensor]":
    """All tensors of a safetensors file.

    Raises `error` where the file is missing, truncated, a pickle or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _refuse_foreign(path, error)
    try:
        return load_file(path)
    except SafetensorError as cause:
        raise error(
            f"{path} is damaged or cut short ({cause}). Delete it and make it again."
        ) from cause


def link(source: str, target: str) -> None:
    """A second name of a file that nobody changes in place; a copy where the disk knows no such."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in FULL:
            raise
        shutil.copy2(source, target)


@contextmanager
def new_folder(path: Path, *, resume: bool = False, keeps: str = "") -> Iterator[Path]:
    """Fill a temporary folder that becomes `path` when the block ends well, and vanishes when not.

    With `resume` it is the one that a stopped attempt at `path` left, if there is one, and it stays
    for the next attempt where the block is interrupted. Left is what a process of this host left
    that has died, or what was given up by `claims.leave_partials`; it is taken by a rename, so no
    two attempts ever fill the same folder. Where it has what the pattern `keeps` names, such as
    hours of work, it stays for the next attempt however the block ends.

    Whoever may read a new folder may read all that is in it.
    Raises BadRun when `path` exists and is not an empty folder, when the disk is full, or when the
    temporary folder was taken for that of a process that has died.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise BadRun(f"{path} exists already. Choose another --out, or remove it.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}@{socket.gethostname()}.partial")
    stays = False

    def vanish() -> None:
        if not (keeps and any(temporary.glob(keeps))):
            shutil.rmtree(temporary, ignore_errors=True)

    try:
        if resume:
            _take_over(path, temporary)
        _remove_leftovers(path)
        temporary.mkdir(parents=True, exist_ok=resume)
        began = temporary.stat().st_ino
        yield temporary
        if temporary.stat().st_ino != began:  # what was written since the other took it is a part
            raise BadRun(f"{path} was taken over by another attempt while this one was at it.")
        _usual_modes(temporary)
        for folder, _, names in os.walk(temporary):
            for name in (*names, "."):
                _sync(Path(folder, name))
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in FULL:
            vanish()  # so that the free space named is true
            raise cannot_write(path, None, error) from error
        raise
    except KeyboardInterrupt:
        stays = resume
        raise
    finally:
        if not stays:
            vanish()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: the same for any order of keys."""
    return sha256_text(
        json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    )


@contextmanager
def _replacing(path: Path, needed: int) -> Iterator[Path]:
    """A temporary name that becomes `path` when the block ends well, and vanishes when not."""
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        _remove(temporary)
        raise cannot_write(path, needed, error) from error
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _usual_modes(folder: Path) -> None:
    """Give all in a new folder the modes that new files and folders have here (umask, ACLs).

    Libraries make files that only their owner may read; copies have the modes of their sources.
    """
    usual = stat.S_IMODE(folder.stat().st_mode)
    for path in folder.rglob("*"):
        path.chmod(usual if path.is_dir() else usual & FILE_MODE)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, needed: int | None, error: OSError) -> BadRun:
    size = "" if needed is None else f" ({_readable(needed)})"
    if error.errno not in FULL:
        return BadRun(f"cannot write {path}{size}: {error.strerror}.")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    free = _readable(shutil.disk_usage(there).free)
    return BadRun(
        f"cannot write {path}{size}: the disk is full, {free} are free. "
        "Make room or choose another folder."
    )


def _readable(size: int) -> str:
    return f"{size} bytes" if size < 10_000 else f"{size / 1e6:,.2f} MB"


def _refuse_foreign(path: Path, error: type[BabelpressError]) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}.") from cause
    # A safetensors file is the length of its header in 8 bytes, then the header, which is JSON.
    # The length can look like the start of a pickle, so the brace is what decides.
    if head[8:] == b"{":
        return
    if head.startswith(PICKLE_HEADS):
        raise error(
            f"{path} is a pickle, and opening a pickle can run code that it carries. Only "
            "safetensors files are read: load it where you trust it and save it with safetensors."
        )
    raise error(f"{path} is not a safetensors file, or is cut short. Only safetensors are read.")


def _take_over(path: Path, temporary: Path) -> None:
    """Give what a stopped attempt at `path` left the name `temporary`; where several did, of one.

    What has that name already was left by an attempt of this process.
    """
    for folder in (path.with_name(f".{path.name}.{LEFT}.partial"), *_leftovers(path)):
        if temporary.exists():
            return
        with suppress(FileNotFoundError):  # there is none, or another attempt was faster
            folder.rename(temporary)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes of this host left of earlier attempts at `path`."""
    for folder in _leftovers(path):
        shutil.rmtree(folder, ignore_errors=True)


def _leftovers(path: Path) -> list[Path]:
    """What processes of this host that have died left of attempts at `path`."""
    tail = f"@{socket.gethostname()}.partial"
    found = path.parent.glob(f".{path.name}.*{tail}")
    pids = {folder: folder.name.removesuffix(tail).rpartition(".")[2] for folder in found}
    return [f for f, pid in pids.items() if pid.isdecimal() and not _alive(int(pid))]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
