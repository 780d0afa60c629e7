"""Where the jobs of a sweep or a search are done, as a user says it, and who does them.

Tested in tests/sweeps/test_on_ray.py.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from babelpress.errors import BadSetting
from babelpress.system.progress import Progress
from babelpress.system.settings import Strict, setting

if TYPE_CHECKING:
    from babelpress.sweeps import setup as parts

PLACES = ("local", "ray")


class Hands(Strict):
    """Where the jobs of a sweep are done, and what each takes there."""

    on: str = setting("local", "local (one recipe after another, here) or ray.", offers=PLACES)
    address: str = setting(
        "", "Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT; none starts one here."
    )
    cpus: int = setting(1, "Processors, and so threads, of a task on Ray.")
    gpus: float | None = setting(
        None,
        "GPUs of a task on Ray; 0.5 lets two share one. By default one where --device is one.",
    )
    memory_mb: int | None = setting(
        None,
        "MiB of memory that a task on Ray reserves; 0 reserves none. By default what a dry run of "
        "its first block finds, which is done once for all recipes of the same size.",
    )
    retries: int = setting(3, "How often Ray does a task again whose process or machine died.")

    def shares(self, device: str) -> float:
        """GPUs of a task."""
        return float(device != "cpu") if self.gpus is None else self.gpus


def check(hands: Hands, device: str) -> None:
    """Raise BadSetting for options that mean nothing."""
    on, address = hands.on, hands.address
    numbers = {
        "cpus": hands.cpus,
        "gpus": hands.shares(device),
        "memory_mb": hands.memory_mb or 0,
        "retries": hands.retries,
    }
    if on not in PLACES:
        raise BadSetting(f"--on {on} is no place to run. Choose one of {', '.join(PLACES)}.")
    if address and on != "ray":
        raise BadSetting(f"--address {address} is of a Ray cluster. Add --on ray, or leave it out.")
    for name, value in numbers.items():
        least = int(name == "cpus")
        if not (math.isfinite(value) and value >= least):
            option = name.replace("_", "-")
            raise BadSetting(f"--{option} is {value}. It must be {least} or more.")


@contextmanager
def working(
    hands: Hands, setup: "parts.Setup", device: str, progress: Progress
) -> Iterator["parts.Hands"]:
    """Who does the jobs."""
    from babelpress.sweeps.schedule import Here

    if hands.on == "local":
        yield Here(setup, progress)
        return
    from babelpress.sweeps.on_ray import OnRay, Resources

    resources = Resources(hands.cpus, hands.shares(device), hands.memory_mb)
    with OnRay(setup, resources, address=hands.address, retries=hands.retries) as ray:
        yield ray
