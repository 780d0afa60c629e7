"""Moments folders: their content, and what a user is told of one that cannot be."""

import json

import pytest

from babelpress.errors import BabelpressError, BadMoments


def content(folder):
    """Bytes of every file, and the manifest without its cost."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(found.pop("manifest.json"))
    assert set(manifest.pop("cost")) == {"seconds", "peak_memory_mib", "seal"}
    return found, manifest


def refusal(function, *arguments, kind: type[BabelpressError] = BadMoments, **options):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
