"""What this machine has: versions, devices, memory, the hub; and what mends what is missing.

It must work where packages are missing, so it imports none of them before it has looked.
"""

import os
import re
import shutil
import sys
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from babelpress.system.files import DATA

PYTHON = (3, 11)
HUB_SECONDS = 10
FREE = 1e9  # bytes on the disk, at least
EMBEDDED = "babel-mini"


def look(*, hub: bool = False) -> list[dict[str, Any]]:
    """One row for each thing looked at: what, found, ok, mend. The network only with `hub`."""
    rows = [_python(), *_packages(), _devices(), _memory(), _disk(), _embedded()]
    return [*rows, _hub()] if hub else rows


def _row(what: str, found: str, ok: bool, mend: str = "") -> dict[str, Any]:
    return {"what": what, "found": found, "ok": ok, "mend": "" if ok else mend}


def _python() -> dict[str, Any]:
    ok = sys.version_info >= PYTHON
    return _row("python", sys.version.split()[0], ok, "install Python 3.11 or newer")


def _packages() -> list[dict[str, Any]]:
    """Every package that babelpress requires, as its own metadata names them."""
    rows = []
    for line in requires("babelpress") or []:
        if "extra ==" in line:
            continue
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            rows.append(_row(name, version(name), True))
        except PackageNotFoundError:
            rows.append(_row(name, "missing", False, f"pip install '{line}'"))
    return rows


def _devices() -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        return _row("devices", f"unknown: {error}", False, "install torch first")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return _row("devices", ", ".join(names), True)
    return _row("devices", f"CPU, {torch.get_num_threads()} threads", True)


def _memory() -> dict[str, Any]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _row("memory", f"{total / 2**30:.1f} GiB", True)


def _disk() -> dict[str, Any]:
    free = shutil.disk_usage(Path.cwd()).free
    return _row("disk", f"{free / 1e9:.1f} GB free here", free > FREE, "make at least 1 GB free")


def _embedded() -> dict[str, Any]:
    folder = DATA / EMBEDDED
    there = all((folder / name).exists() for name in ("config.json", "model.safetensors"))
    return _row(EMBEDDED, str(folder) if there else "missing", there, "reinstall babelpress")


def _hub() -> dict[str, Any]:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urlopen(f"{endpoint}/api/models?limit=1", timeout=HUB_SECONDS):
            return _row("hub", endpoint, True)
    # Failures of the network, an endpoint that is no address, an answer that is no HTTP.
    except (OSError, ValueError, HTTPException) as error:
        mend = "check the network, HF_ENDPOINT and HF_TOKEN; local folders work without the hub"
        return _row("hub", f"{endpoint}: {error}", False, mend)
