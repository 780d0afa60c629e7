"""What the pages show works: every command line, recipe, sweep and library call is done as written.

A two-block model stands in for babel-mini, and a few lines of the embedded text for all of it. What
needs a Ray cluster is read by the parser only (tests/sweeps/test_on_ray.py does sweeps on Ray).
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from babelpress import cli
from babelpress.models import names
from babelpress.runs import recipe
from babelpress.sweeps import plan
from babelpress.system import plain
from babelpress.system.files import DATA
from babelpress.text import corpus

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            *("tutorial", "recipes", "cluster", "offload", "corpora", "insight", "shrink"),
            *("trim", "gguf", "recover", "distill", "moments", "allocate", "fit", "advise"),
        )
    ),
]
LANGUAGES = ("eng_Latn", "fra_Latn", "swh_Latn", "yor_Latn")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page in order: what language they are in, and their text."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("/shared/", "shared/")
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lines(block: str) -> list[list[str]]:
    """The words of each command line of babelpress; prompts and what a job says are no part."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        _, name, words = line.rpartition("babelpress ")
        if name and re.fullmatch(r"(\w+\$ *| *|.*-- +)", line.partition("babelpress ")[0]):
            found.append(shlex.split(words, comments=True))
    return found


def write_named(block: str) -> None:
    """Write a YAML block under the name that its first line says, if it says one."""
    if name := re.match(r"# (\w+\.yaml)\n", block):
        Path(name[1]).write_text(block, encoding="utf-8")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What stands in for babel-mini, and the text."""
    data = tmp_path_factory.mktemp("data")
    own = DATA / names.EMBEDDED
    tokenizer = AutoTokenizer.from_pretrained(own)
    config = LlamaConfig.from_pretrained(
        own,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    LlamaForCausalLM(config).save_pretrained(data / names.EMBEDDED)
    tokenizer.save_pretrained(data / names.EMBEDDED)
    (data / "text").mkdir()
    for tag in LANGUAGES:
        lines = (corpus.EMBEDDED / f"{tag}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [
            line
            for split in ("train", "test")
            for line in [line for line in lines if json.loads(line)["split"] == split][:22]
        ]
        (data / "text" / f"{tag}.jsonl").write_text("\n".join(kept), encoding="utf-8")
    return data


@pytest.fixture
def place(small, tmp_path, monkeypatch):
    """A folder with what the pages take for granted: models, text, a recipe and a sweep."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(names, "DATA", small)
    monkeypatch.setattr(corpus, "EMBEDDED", small / "text")
    monkeypatch.setenv("COLUMNS", "100")
    for folder in ("MODEL", "shared/models/llama"):
        shutil.copytree(small / names.EMBEDDED, folder)
    shutil.copytree(small / "text", "shared/text")
    for language, block in blocks("docs/recipes.md"):
        if language == "yaml":
            write_named(block)


def parse(words: list[str]) -> None:
    cli.build().parse_args(words, exit_on_error=False, print_error=False, help_on_error=False)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_done_as_written(place, page, capsys):
    done = 0
    for language, block in blocks(page):
        if language == "yaml":
            write_named(block)
        elif language == "python":
            exec(compile(block, page, "exec"), {})
        else:
            for words in lines(block):
                parse(words)
                if "ray" not in words:
                    assert cli.main(words) == 0, (words, capsys.readouterr().err)
                done += 1

    assert done


def test_every_yaml_of_the_pages_is_a_recipe_a_sweep_or_said_to_be_of_another_program(place):
    kinds = []
    for page in PAGES:
        for language, block in blocks(page):
            if language == "yaml":
                data = plain.load(block) if "apiVersion" not in block else yaml.safe_load(block)
                if "apiVersion" in data:
                    (line,) = lines(data["spec"]["entrypoint"])
                    parse(line)
                elif "evaluate" in data:
                    assert plan.of(data).entries
                    kinds.append("sweep")
                else:
                    assert recipe.of(data).steps
                    kinds.append("recipe")

    assert {"sweep", "recipe"} <= set(kinds)
