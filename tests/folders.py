"""What lies in a folder, so that two of them can be compared."""

import json


def content(folder):
    """Every file by its path; JSON files without their cost."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found[name] = path.read_bytes()
        if path.name in ("manifest.json", "report.json"):
            value = json.loads(found[name])
            value.pop("cost", None)
            found[name] = value
    return found


def halves(folder):
    """Whatever lies in a folder or beneath it that was not finished."""
    return [path for path in folder.rglob("*") if ".partial" in path.name or path.name == ".lock"]
