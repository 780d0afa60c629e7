"""Counters of energy, on a folder that looks like the kernel's."""

import pytest

from babelpress.system.energy import Meter, counters


@pytest.fixture
def kernel(tmp_path):
    """Two packages, a part of the first, and a counter that only root may read."""
    for name, joules in (("intel-rapl:0", 5.0), ("intel-rapl:1", 900.0), ("intel-rapl:0:0", 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_energy_range_uj").write_text("1000000000\n")
        put(tmp_path / name, joules)
    (tmp_path / "intel-rapl:2").mkdir()
    return tmp_path


def put(folder, joules):
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n")


def test_packages_that_can_be_read_are_counted_and_their_parts_are_not_counted_twice(kernel):
    assert [each.path.name for each in counters(kernel)] == ["intel-rapl:0", "intel-rapl:1"]


def test_joules_of_all_packages_add_up(kernel):
    meter = Meter(kernel)
    put(kernel / "intel-rapl:0", 7.5)
    put(kernel / "intel-rapl:0:0", 4.0)
    put(kernel / "intel-rapl:1", 901.0)

    assert meter.joules() == pytest.approx(3.5)


def test_a_counter_that_begins_anew_is_read_on(kernel):
    meter = Meter(kernel)
    put(kernel / "intel-rapl:1", 20.0)

    assert meter.joules() == pytest.approx(120.0)


def test_without_a_counter_or_with_one_that_is_lost_nothing_is_said(kernel, tmp_path):
    assert Meter(tmp_path / "nowhere").joules() is None
    meter = Meter(kernel)
    (kernel / "intel-rapl:0" / "energy_uj").unlink()

    assert meter.joules() is None
