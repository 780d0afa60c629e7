"""Tables and verdict of `gptq.py`: errors of our GPTQ in those of other packages."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import geometric_mean

WORSE = 1.02  # times the error of a package: up to here ours is as good


@dataclass(frozen=True, slots=True)
class Row:
    """One linear and setting; dictionaries are by package."""

    layer: str
    bits: int
    group: int | str
    order: str
    rtn: float
    ours: float
    seconds: float
    theirs: dict[str, float] = field(default_factory=dict)
    ours_on_their_grid: dict[str, float] = field(default_factory=dict)
    their_seconds: dict[str, float] = field(default_factory=dict)

    def own(self, package: str) -> float:
        """Our error in theirs, each on its own grid."""
        return self.ours / self.theirs[package]

    def same(self, package: str) -> float:
        """Our error in theirs, both on theirs."""
        return self.ours_on_their_grid[package] / self.theirs[package]

    def slower(self, package: str) -> float:
        """Our seconds in theirs."""
        return self.seconds / self.their_seconds[package]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def linear_by_linear(rows: list[Row], packages: list[str]) -> str:
    """A line for every linear and setting."""
    head = ["linear", "bits", "group", "order", "RTN", "ours", *packages, "ours / best"]
    head += [f"ours on its grid / {package}" for package in packages]
    return table(
        head,
        (
            [row.layer, str(row.bits), str(row.group), row.order]
            + [f"{each:.3e}" for each in (row.rtn, row.ours, *row.theirs.values())]
            + [f"{row.ours / min(row.theirs.values()):.4f}"]
            + [f"{row.same(package):.4f}" for package in packages]
            for row in rows
        ),
    )


def summary(rows: list[Row], packages: list[str]) -> str:
    """Geometric means over the linears, for every setting and over all."""
    head = ["bits", "group", "order", "ours / RTN"]
    head += [f"ours / {package}, {what}" for package in packages for what in ("own", "same")]
    head += [f"our seconds / {package}" for package in packages]
    return table(
        head,
        (
            [*map(str, setting), *means(some, packages)]
            for setting, some in [*by_setting(rows).items(), (("all", "all", "all"), rows)]
        ),
    )


def by_setting(rows: list[Row]) -> dict[tuple[int, int | str, str], list[Row]]:
    """The rows of every setting."""
    found: dict[tuple[int, int | str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.bits, row.group, row.order), []).append(row)
    return found


def means(rows: list[Row], packages: list[str]) -> list[str]:
    """The cells of a line of the summary."""
    errors = [geometric_mean(row.ours / row.rtn for row in rows)]
    for package in packages:
        errors += [mean(rows, package, Row.own), mean(rows, package, Row.same)]
    seconds = [mean(rows, package, Row.slower) for package in packages]
    return [f"{each:.4f}" for each in errors] + [f"{each:.2f}" for each in seconds]


def verdict(rows: list[Row], package: str) -> bool:
    """Say how ours compares with a package; True where it is as good or better."""
    own = {each: mean(some, package, Row.own) for each, some in by_setting(rows).items()}
    same = {each: mean(some, package, Row.same) for each, some in by_setting(rows).items()}
    print(
        f"{package}: ours has {mean(rows, package, Row.same):.4f} times its error on the same grid "
        f"({min(same.values()):.4f} to {max(same.values()):.4f} by setting), "
        f"{mean(rows, package, Row.own):.4f} on its own ({min(own.values()):.4f} to "
        f"{max(own.values()):.4f}); at most {WORSE} is as good."
    )
    for (bits, group, order), ratio in own.items():
        if ratio > WORSE:
            print(
                f"  worse on its own grid: {bits} bits, group {group}, order {order}: {ratio:.4f}"
            )
    return max(same.values()) <= WORSE and mean(rows, package, Row.own) <= WORSE


def mean(rows: list[Row], package: str, ratio: Callable[[Row, str], float]) -> float:
    """The geometric mean of a ratio to a package."""
    return geometric_mean(ratio(row, package) for row in rows)
