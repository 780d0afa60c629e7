"""Which pieces stay under a floor: against a plain loop, and against every choice there is."""

import random
from itertools import combinations

import pytest

from babelpress.trim import _choosing
from babelpress.trim._choosing import covered, order


def alone(_):
    return set()


def slow(counts, always, parts):
    """The rule, everything counted anew at every choice."""
    taken, ends, least = [], [], []

    def take(piece):
        for each in (*sorted(parts(piece)), piece):
            if each not in taken:
                taken.append(each)

    for piece in always:
        take(piece)
    while True:
        have = {tag: covered(each, taken) for tag, each in counts.items()}
        ends.append(len(taken))
        least.append(min(have.values()))
        if least[-1] == 1:
            return taken, ends, least
        tag = min(sorted(have), key=have.__getitem__)

        def rank(piece, tag=tag):
            shares = [each.get(piece, 0) / sum(each.values()) for each in counts.values()]
            return (-counts[tag][piece], -sum(shares), piece)

        take(min((piece for piece in counts[tag] if piece not in taken), key=rank))


def some_counts(seed, languages, pieces, shared):
    """Counts of languages that share some pieces, or none."""
    draw = random.Random(seed)
    return {
        f"l{number}": {
            f"p{piece if shared else f'{number}-{piece}'}": draw.randint(1, 40)
            for piece in draw.sample(range(2 * pieces), pieces)
        }
        for number in range(languages)
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_the_plain_loop(seed):
    counts = some_counts(seed, 3, 12, shared=True)

    def parts(piece):
        return {f"p{int(piece[1:]) // 2}", f"q{int(piece[1:]) % 3}"} if piece[0] == "p" else set()

    found = order(counts, ["p0", "a"], parts)

    taken, ends, least = slow(counts, ["p0", "a"], parts)
    assert list(found.pieces) == taken
    assert list(found.ends) == ends
    assert list(found.least) == pytest.approx(least)


def test_room_that_is_left_goes_to_the_rest_in_its_order_with_what_each_needs():
    counts = {"a": {"x": 3}, "b": {"y": 1}}
    parts = {"zz": {"z"}}.get

    found = order(counts, ["k"], lambda piece: parts(piece, set()), ["x", "w", "zz", "z", "v"])

    assert found.pieces == ("k", "x", "y", "w", "z", "zz", "v")
    assert found.ends == (1, 2, 3, 4, 6, 7)  # a piece is never without what it needs
    assert found.floor(1.0) == 3
    assert [found.within(size) for size in (3, 5, 6, 99)] == [3, 4, 6, 7]
    assert found.point(7).least == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_where_languages_share_no_piece_no_choice_has_a_higher_floor(seed):
    counts = some_counts(seed, 2, 4, shared=False)
    found = order(counts, (), alone)
    every = [piece for each in counts.values() for piece in each]

    for number in range(1, len(every) + 1):
        best = max(
            min(covered(each, chosen) for each in counts.values())
            for chosen in combinations(every, number)
        )
        within = found.within(number)
        assert within is not None
        assert found.point(within).least == pytest.approx(best)


@pytest.mark.parametrize("seed", range(4))
def test_where_they_share_some_no_choice_needs_many_fewer_for_a_floor(seed):
    counts = some_counts(seed, 3, 5, shared=True)
    found = order(counts, (), alone)
    every = sorted({piece for each in counts.values() for piece in each})

    def best(number):
        return max(
            min(covered(each, chosen) for each in counts.values())
            for chosen in combinations(every, number)
        )

    by_number = {number: best(number) for number in range(1, len(every) + 1)}
    for level in (0.7, 0.8, 0.9, 0.95):
        least = min(number for number, reached in by_number.items() if reached >= level)
        assert least <= found.floor(level) <= least + 1


def test_the_least_number_for_a_floor_is_the_least_and_more_never_serves_worse():
    counts = some_counts(7, 3, 30, shared=True)
    found = order(counts, (), alone)

    for level in (0.5, 0.9, 0.99, 1.0):
        number = found.floor(level)
        assert found.point(number).least >= level
        assert all(found.point(end).least < level for end in found.ends if end < number)
    assert list(found.least) == sorted(found.least)
    assert found.floor(1.0) == len({piece for each in counts.values() for piece in each})


def test_the_trade_off_has_every_level_once_and_names_the_worst():
    counts = {"b": {"x": 95, "y": 5}, "a": {"x": 90, "z": 10}}
    found = order(counts, ["k"], alone)

    points = found.trade_off()

    assert [point.pieces for point in points] == [2, 3, 4]
    assert points[0].coverage == {"b": 0.95, "a": 0.9}
    assert points[0].worst == "a"
    assert points[1].coverage == {"b": 0.95, "a": 1.0}
    assert points[1].worst == "b"
    assert points[-1].least == 1
    assert found.within(0) is None
    assert found.within(3) == 3
    assert _choosing.LEVELS[-1] == 1


def test_a_size_that_is_too_small_names_what_would_do_and_no_floor_that_is_refused():
    found = order({"a": {"x": 1, "y": 1}, "b": {"z": 1}}, ["k"], alone)

    line = _choosing.too_few(found, 3, 0.9, 4)
    assert "--size 3 leaves a 0.5000 of its tokens, and the floor is 0.9. 4 is the least in" in line
    assert line.endswith("give --size 4, or --floor 0.5.")
    line = _choosing.too_few(found, 1, 0.9, 4)
    assert "leaves a 0.0000" in line
    assert line.endswith("give --size 4.")
    assert "no room for the 1 tokens" in _choosing.too_few(found, 0, 0.9, 4)
    assert "leaves a 0.0000" in _choosing.too_few(found, 3, 0.9, 6)  # two rows have no piece
