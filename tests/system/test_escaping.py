"""Any terminal writes any text: what an encoding lacks is written near it."""

import io

import pytest

from babelpress.system.escaping import NEAR, writable

TEXT = "Bokmål – +1.5 ± 2 → x … ρ ≥ 3 ภาษา \ud800"


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", "Bokmal - +1.5 +- 2 -> x ... rho >= 3 ???? ?"),
        ("latin-1", "Bokmål - +1.5 ± 2 -> x ... rho >= 3 ???? ?"),
        ("cp1252", "Bokmål – +1.5 ± 2 -> x … rho >= 3 ???? ?"),
        ("utf-8", "Bokmål – +1.5 ± 2 → x … ρ ≥ 3 ภาษา ?"),
    ],
)
def test_what_an_encoding_lacks_is_written_near_it_and_the_rest_as_it_is(encoding, written):
    assert writable(TEXT, encoding) == written


def test_marks_go_with_their_letters():
    assert writable("e\u0301a", "ascii") == "ea"


def test_a_stream_may_do_the_same():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=NEAR)
    stream.write(TEXT)
    stream.flush()

    assert stream.buffer.getvalue().startswith(b"Bokmal - +1.5")


def test_reading_is_no_writing():
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", NEAR)
