"""The pictures of docs/gallery.md: its commands are run as written, and each picture is taken.

    python benchmarks/gallery.py --out FOLDER           (or: make gallery)
    python benchmarks/gallery.py --out FOLDER --looks   (only the pictures, of what lies there)

The page is what is done: the command lines of its first block are run in FOLDER, and a picture
`gallery/ANALYSIS-PICTURE-light.png` that it names is the section of that picture on the page that
`babelpress insight` wrote, in a headless Chromium, light and dark. Of two panels both are shown,
of more the first. What is seen in each is printed, to hold the page's words against.
"""

import argparse
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from babelpress import cli
from babelpress.insight import _kept, facts
from babelpress.report.insight import PAGE

if TYPE_CHECKING:
    from browsing import Tab

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery.md"
WIDTH = 920  # of the window, in pixels
LARGEST = 120_000  # bytes of a picture
SCHEMES = ("light", "dark")
SHOW = """
(async (id) => {
  const settled = () => new Promise((done) => setTimeout(done, 400));
  const figure = document.getElementById(id);
  const chooser = document.querySelector(`.chooser[data-chart="${id}"]`);
  const select = chooser?.querySelector("select");
  const row = document.createElement("div");
  figure.before(row);
  row.append(figure);
  if (select && select.options.length === 2) {
    Object.assign(row.style, { display: "grid", gridTemplateColumns: "1fr 1fr", gap: "0 2rem" });
    row.append(document.createElement("div"));
    window.dispatchEvent(new Event("resize"));
    const cells = [];
    for (const { value } of select.options) {
      select.value = value;
      select.dispatchEvent(new Event("change", { bubbles: true }));
      await settled();
      const cell = document.createElement("div");
      const title = document.createElement("p");
      title.className = "of";
      title.textContent = value;
      cell.append(title, figure.querySelector("svg").cloneNode(true));
      cells.push(cell);
    }
    row.replaceChildren(...cells);
    chooser.hidden = true;
  }
  const [top, end] = [document.getElementById(`${id}-title`), row].map(
    (each) => each.getBoundingClientRect());
  return {
    x: end.left + scrollX - 12, y: top.top + scrollY - 12,
    width: end.width + 24, height: end.bottom - top.top + 24,
  };
})
"""
IDS = """
[...document.querySelectorAll("main section")].map((section) => [
  section.querySelector("h2").textContent,
  [...section.querySelectorAll("figure.chart")].map((figure) => figure.id)])
"""


class Shot(NamedTuple):
    """A picture of an analysis, and where an image of it goes, with `SCHEME` in its name."""

    analysis: str
    picture: str
    path: Path


def command_lines(page: str) -> list[list[str]]:
    """The words of every command line in the first block of the page."""
    block = re.findall(r"^```\w*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line]


def shots(page: str) -> list[Shot]:
    """The pictures that the page names."""
    named = dict.fromkeys(re.findall(r"gallery/(\w+)-(\w+)-(?:light|dark)\.png", page))
    folder = GALLERY.parent / "gallery"
    return [Shot(one, two, folder / f"{one}-{two}-SCHEME.png") for one, two in named]


def run(lines: list[list[str]], folder: Path) -> None:
    """Run command lines in a folder; what is done there is not done again."""
    os.chdir(folder)
    for program, *words in lines:
        assert program == "babelpress", program
        print("$", shlex.join([program, *words]), flush=True)
        if code := cli.main(words):
            sys.exit(code)


def take(found: list[Shot], folder: Path) -> Iterator[str]:
    """Take every picture, light and dark; gives a line about each.

    Raises ValueError for one that is larger than it may be.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from browsing import Browser, Tab

    profile = Path(tempfile.mkdtemp())
    browser = Browser(profile)
    try:
        for shot in found:
            (facts_path,) = folder.glob(f"*/{shot.analysis}.json")
            kept = _kept.read_one(facts_path.parent, shot.analysis)
            assert kept is not None
            (seen,) = (each.seen for each in kept.pictures if each.name == shot.picture)
            for scheme in SCHEMES:
                tab = Tab(browser, WIDTH, scheme=scheme)
                tab.call("Emulation.setScrollbarsHidden", hidden=True)  # else measured with one
                tab.open(facts_path.parent / PAGE)
                yield save(shot, scheme, tab.picture(tab.js(f"{SHOW}({place(tab, shot)!r})")))
            yield f"  {seen}"
    finally:
        browser.close()
        shutil.rmtree(profile, ignore_errors=True)


def save(shot: Shot, scheme: str, image: bytes) -> str:
    """Write an image and say how large it is. Raises ValueError where it is too large."""
    path = Path(str(shot.path).replace("SCHEME", scheme))
    if len(image) > LARGEST:
        raise ValueError(f"{path.name} has {len(image):,} bytes, over {LARGEST:,}.")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(image)
    return f"{path.name}: {len(image):,} bytes"


def place(tab: "Tab", shot: Shot) -> str:
    """The id of a picture on the page."""
    spoken = facts(shot.analysis).spoken
    (found,) = (
        each
        for title, figures in tab.js(IDS)
        if title == spoken
        for each in figures
        if each.endswith(f"-{shot.picture}")
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the commands are run")
    parser.add_argument("--looks", action="store_true", help="only take the pictures again")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    folder = asked.out.resolve()
    page = GALLERY.read_text(encoding="utf-8")
    if not asked.looks:
        run(command_lines(page), folder)
    for line in take(shots(page), folder):
        print(line, flush=True)


if __name__ == "__main__":
    main()
