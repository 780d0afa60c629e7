"""What two ordinary compressors make of the test text, as a yardstick for a language model.

Each is primed with all train text of a language and then charged for the test text alone:
(compressed(train + test) − compressed(train)) · 8 / bytes(test), in bits per byte.
Documents are joined by one newline, train before test, and the newline between the two is charged.

- xz: LZMA2, preset 9 extreme, 64 MiB dictionary, larger than any language's train text here.
- PPMd: order 6, 256 MiB of memory, variant H (7-Zip's), from the package `pyppmd`.

    python benchmarks/reference/compressors.py DATA/text --out compressors.csv
"""

import argparse
import csv
import io
import lzma
from collections.abc import Callable, Iterable
from pathlib import Path

import pyppmd

from babelpress.system.files import write_text
from babelpress.text.corpus import Corpus, Document, open_corpus

COLUMNS = ("language", "train_bytes", "test_bytes", "documents", "xz", "ppmd")


def xz(text: bytes) -> int:
    """Compressed size in bytes."""
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}
    return len(lzma.compress(text, filters=[lzma2]))


def ppmd(text: bytes) -> int:
    """Compressed size in bytes."""
    encoder = pyppmd.Ppmd7Encoder(6, 256 << 20)
    return len(encoder.encode(text)) + len(encoder.flush())


def bits_per_byte(size: Callable[[bytes], int], train: bytes, test: bytes) -> float:
    """What the test text costs a compressor that has read the train text."""
    return (size(train + b"\n" + test) - size(train)) * 8 / len(test)


def joined(documents: Iterable[Document]) -> bytes:
    """The UTF-8 text of documents, one newline between two."""
    return "\n".join(document.text for document in documents).encode()


def row(corpus: Corpus, tests: Corpus, language: str) -> tuple[str | int, ...]:
    """One line of the table."""
    documents = tests.documents(language, "test")
    train, test = joined(corpus.documents(language, "train")), joined(documents)
    scores = [f"{bits_per_byte(size, train, test):.4f}" for size in (xz, ppmd)]
    return (language, len(train), len(test), len(documents), *scores)


def main() -> None:
    """Read DATA, print each language as it is done, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", help="a corpus folder, one file per language")
    parser.add_argument("--tests", default="flores", help="the source whose test split is scored")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    given = parser.parse_args()
    corpus = open_corpus(given.data)
    tests = open_corpus(f"{given.data}?src={given.tests}")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for language in corpus.languages():
        writer.writerow(line := row(corpus, tests, language))
        print(*line, flush=True)
    write_text(given.out, table.getvalue())


if __name__ == "__main__":
    main()
