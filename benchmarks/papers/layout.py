"""Lay out labelled text of a task as the battery of small encoders reads it.

    python -m benchmarks.papers.layout FOLDER --task ner --languages ha,ig,sw,yo,zu --train 100 \
        --dev 40 --test 100 --out data/ner-100

FOLDER is laid out as MasakhaNER 2.0, SIB-200 or AfriSenti are. Of each language so many texts of
every split are taken, those whose names have the smallest hashes, which is the order in which
babelpress reads them: so fewer are always a part of more, and of a task that is translated the same
texts are taken in every language. 0 takes all; where there are fewer, that is said. A language
without train texts is refused.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from babelpress.system.files import new_folder, write_text
from babelpress.text.labelled import TASKS, LabelledCorpus, open_labelled
from babelpress.text.languages import select

NAMES = {"train": "train", "valid": "dev", "test": "test"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--task", required=True, choices=tuple(TASKS))
    parser.add_argument("--languages", required=True)
    parser.add_argument("--train", type=_count, default=0)
    parser.add_argument("--dev", type=_count, default=0)
    parser.add_argument("--test", type=_count, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = open_labelled(args.task, args.folder)
    tags = select(args.languages.split(","), among=corpus.languages())
    corpus.require(tags, "train")
    many = {"train": args.train, "valid": args.dev, "test": args.test}
    written = _write(corpus, args.task, tags, many, args.out)
    print(f"{args.out}: {len(tags)} languages")
    for split, most in many.items():
        print(_said(NAMES[split], most, {tag: written[tag, split] for tag in tags}))


def _count(text: str) -> int:
    """A number of texts, which is not below zero."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} texts cannot be taken; 0 takes all")
    return number


def _write(
    corpus: LabelledCorpus, task: str, tags: list[str], many: Mapping[str, int], out: Path
) -> dict[tuple[str, str], int]:
    """Write the files, and tell how many texts went into each."""
    written: dict[tuple[str, str], int] = {}
    with new_folder(out) as new:
        for tag in tags:
            (new / tag).mkdir()
            for split, most in many.items():
                rows = _rows(corpus, task, tag, split, most)
                written[tag, split] = len(rows)
                write_text(new / tag / f"{NAMES[split]}.jsonl", "".join(rows))
    return written


def _said(name: str, most: int, written: Mapping[str, int]) -> str:
    """How many texts of a split were written, and which languages have fewer than asked for."""
    found = f"{name}: {sum(written.values())} texts"
    fewer = [f"{tag} {number}" for tag, number in written.items() if number < most]
    return f"{found}; fewer than {most}: {', '.join(fewer)}" if fewer else found


def _rows(corpus: LabelledCorpus, task: str, tag: str, split: str, most: int) -> list[str]:
    """Texts of a language as lines of JSON, with the columns of the task."""
    known = TASKS[task]
    lines: list[str] = []
    for each in corpus.documents(tag, split)[: most or None]:
        words, labels = list(each.words), list(each.labels)
        row = {
            known.text: words if known.by_word else words[0],
            known.label: labels if known.by_word else labels[0],
        }
        if known.name:
            row[known.name] = each.id.partition("/")[2]
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return lines


if __name__ == "__main__":
    main()
