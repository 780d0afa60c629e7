"""What doctor sees, also on a machine where much is missing."""

import sys
from importlib.metadata import PackageNotFoundError, requires

import pytest

from babelpress import commands
from babelpress.system import doctor


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any call is a failure of the test, unless the test puts another in its place."""

    def called(*args, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(doctor, "urlopen", called)


def by_name(rows):
    return {row["what"]: row for row in rows}


def lacking(monkeypatch, *missing):
    def version(name):
        if name in missing:
            raise PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(doctor, "version", version)


def test_every_required_package_has_a_row_and_optional_ones_have_none(monkeypatch):
    lacking(monkeypatch)

    rows = by_name(doctor.look())

    assert {"torch", "transformers", "vl-convert-python", "huggingface-hub"} <= rows.keys()
    assert not {"pytest", "ruff", "pyright"} & rows.keys()
    assert rows["torch"] == {"what": "torch", "found": "1.2.3", "ok": True, "mend": ""}
    assert {"python", "devices", "memory", "disk", "babel-mini"} <= rows.keys()


def test_a_missing_package_comes_with_the_line_that_installs_it(monkeypatch):
    lacking(monkeypatch, "altair", "jinja2")
    wanted = {line for line in requires("babelpress") or [] if line.startswith("altair")}

    found = commands.doctor()

    row = by_name(found.rows)["altair"]
    assert (row["found"], row["ok"]) == ("missing", False)
    assert row["mend"] == f"pip install '{wanted.pop()}'"
    assert found.exit_code == 2
    assert found.says[0] == f"altair: {row['mend']}"
    assert len(found.says) == 2


def test_doctor_answers_even_without_torch(monkeypatch):
    lacking(monkeypatch, "torch")
    monkeypatch.setitem(sys.modules, "torch", None)

    rows = by_name(doctor.look())

    assert not rows["devices"]["ok"]
    assert rows["torch"]["mend"].startswith("pip install 'torch>=")


def test_nothing_to_mend_is_said_in_words(monkeypatch):
    lacking(monkeypatch)
    monkeypatch.setattr(doctor, "FREE", 0)

    found = commands.doctor()

    assert found.says == ("all is well",)
    assert found.exit_code == 0


def test_a_full_disk_is_something_to_mend(monkeypatch):
    monkeypatch.setattr(doctor, "FREE", 1e18)

    assert by_name(doctor.look())["disk"]["mend"] == "make at least 1 GB free"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "no address"])
def test_a_hub_that_does_not_answer_is_a_row_and_no_crash(endpoint, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", endpoint)

    row = by_name(doctor.look(hub=True))["hub"]

    assert not row["ok"]
    assert row["found"].startswith(f"{endpoint}: ")
    assert "HF_TOKEN" in row["mend"]


def test_the_hub_is_asked_only_when_told_to(monkeypatch):
    assert "hub" not in by_name(doctor.look())

    with pytest.raises(AssertionError, match="the network was used"):
        doctor.look(hub=True)
