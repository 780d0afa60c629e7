"""FLORES with every sentence a document of its own, so that winners and losers are sentences.

    python -m benchmarks.papers.forget.sentences TEXT_FOLDER OUT_FOLDER [LANGUAGES]

Scores are kept by document. An article of FLORES is three or four sentences, and the paper tells
which *sentences* gain and lose. Intervals take sentences of one article for independent.
"""

import json
import sys
from pathlib import Path

from babelpress.system.files import write_text
from babelpress.text.corpus import open_corpus
from babelpress.text.languages import ENGLISH, select

LANGUAGES = "es,it,pt,fr,ru,ar,sw,de,so,ha"
SOURCE = "flores"


def lines(folder: str, tag: str) -> list[str]:
    """The sentences of FLORES in a language, one record a line, without the article."""
    found: list[str] = []
    for each in open_corpus(f"{folder}?src={SOURCE}").sentences(tag):
        name = each.id.removeprefix(f"{SOURCE}/")
        record = {"id": name, "src": SOURCE, "doc": name, "split": each.split, "text": each.text}
        found.append(json.dumps(record, ensure_ascii=False))
    return found


def main(folder: str, out: str, tags: str = LANGUAGES) -> None:
    place = Path(out)
    place.mkdir(parents=True, exist_ok=True)
    for tag in dict.fromkeys([ENGLISH, *select(tags)]):
        found = lines(folder, tag)
        write_text(place / f"{tag}.jsonl", "".join(line + "\n" for line in found))
        print(tag, len(found), "sentences")


if __name__ == "__main__":
    main(*sys.argv[1:])
