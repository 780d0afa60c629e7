"""Commands that look and change nothing: languages, mixture, doctor.

Tested in tests/commands/test_commands.py.
"""

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Model, Offers, Watched, command
from babelpress.commands.given import COMMAS
from babelpress.commands.outcome import Outcome, Table
from babelpress.system.progress import silent
from babelpress.system.settings import words
from babelpress.text.mixtures import OFFERED


@command(
    rows={
        "language": "canonical tag",
        "share": "share of the training distribution; null where that has no such language",
        "disclosed": "whether the model's own distribution is known; else the shares are a prior's",
        "tokens_per_byte": "tokens over UTF-8 bytes of the text",
        "tokens_per_word": "tokens over words between blanks; means little in Thai or Chinese",
        "unknown": "share of tokens that are the unknown one",
        "bits_per_byte": "of this model; null with --no-bits",
    }
)
def languages(
    model: Model,
    *,
    corpus: Annotated[
        str,
        Parameter(help="Text to measure on (its test split): embedded, a folder, or hub:ID."),
    ] = "embedded",
    only: Annotated[
        str,
        Parameter(
            help="Languages, by any name, or groups such as latin; all of the corpus by default."
        ),
        COMMAS,
    ] = "",
    bits: Annotated[
        bool, Parameter(help="Also measure bits per byte (a pass over that text).")
    ] = True,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """The languages of a model: training shares, tokenizer fertility, dense bits per byte.

    An encoder has no bits per byte.

    Example: babelpress languages babel-mini
    """
    checks.looking(model, corpus, words(only), progress)
    from babelpress.models.reading import sees_both_sides
    from babelpress.runs.open import open_any
    from babelpress.runs.places import origin_of
    from babelpress.text import fertility, mixtures
    from babelpress.text.corpus import open_corpus
    from babelpress.text.draw import languages_of

    opened = open_any(model, device=device, quantized=True)
    text = open_corpus(corpus)
    text.require(tags := languages_of(text, words(only)))
    documents = {tag: text.documents(tag, "test") for tag in tags}
    fertile = {tag: fertility.measure(opened.tokenizer, documents[tag], tag) for tag in tags}
    known = mixtures.distribution_of(origin_of(opened.name))
    table = mixtures.distribution(known.distribution)
    total = sum(table.values.values())
    none = bits and sees_both_sides(opened.model)
    scores = _bits(opened, documents, progress) if bits and not none else {}
    rows = [
        {
            "language": tag,
            "share": table.values[tag] / total if tag in table.values else None,
            "disclosed": known.disclosed,
            **asdict(fertile[tag]),
            "bits_per_byte": scores.get(tag),
        }
        for tag in tags
    ]
    rows.sort(key=lambda row: -(row["share"] or 0))
    no_bits = NO_LOSS if opened.model.config.is_encoder_decoder else NO_BITS
    says = (f"{known.words} (in {table.unit}, {table.stage}).", *((no_bits,) if none else ()))
    return Outcome(rows, tables=(Table(_COLUMNS, rows),), says=says, warnings=o.aside(text))


NO_BITS = (
    "An encoder has no bits per byte: score it with babelpress eval --on masked or --on retrieval."
)
NO_LOSS = (
    "An encoder-decoder has no bits per byte of a text alone: score its translations with "
    "babelpress eval --on translation_loss or --on translate."
)
EQUAL = (
    "Every language gives as many tokens, whatever its share: each is looked at apart, and the "
    "shares weigh what was seen afterwards, so that one calibration serves every mixture."
)
_COLUMNS = (
    o.key(o.tag()),
    o.beside(o.name()),
    o.share("share", "share"),
    o.number("tokens_per_byte", "tok/byte"),
    o.number("tokens_per_word", "tok/word"),
    o.share("unknown", "unknown"),
    o.key(o.number("bits_per_byte", "bits/byte")),
)
_SHARED = (
    o.key(o.tag()),
    o.beside(o.name()),
    o.share("share", "share"),
    o.count("tokens", "tokens"),
)


def _bits(opened, documents, progress) -> dict[str, float]:
    """Bits per byte of every language."""
    from babelpress.evals import bits_per_byte
    from babelpress.judge.evaluate import WINDOW
    from babelpress.text.draw import fitting_length

    found: dict[str, float] = {}
    for done, (tag, texts) in enumerate(documents.items(), 1):
        scored = bits_per_byte.measure(
            opened.model, opened.tokenizer, {tag: texts}, window=fitting_length(opened, WINDOW)
        )
        found[tag] = scored[tag].value
        progress("bits per byte: language", done, len(documents))
    return found


@command(
    rows={
        "language": "canonical tag",
        "share": "share of the language; they sum to one",
        "tokens": "calibration tokens that would be read of it; 0 where its share is 0",
        "count": "segments of the mbs policy; null for the others",
    }
)
def mixture(
    policy: Annotated[
        str,
        Parameter(
            help="english, only:LANG, uniform, proportional[:DIST], temperature:T[:DIST], "
            "mbs:N[:DIST], minimax, measured, or a YAML of shares."
        ),
        Offers(OFFERED),
    ],
    *,
    languages: Annotated[
        str, Parameter(help="Languages or groups; those of the corpus by default."), COMMAS
    ] = "",
    corpus: Annotated[
        str, Parameter(help="Where the languages come from if none are named.")
    ] = "embedded",
    model: Annotated[
        str,
        Parameter(help="Whose training distribution is meant when the policy names none."),
    ] = "",
    tokens: Annotated[
        int, Parameter(help="Calibration tokens per language, as calibrate takes them.")
    ] = 16384,
) -> Outcome:
    """What a mixture policy gives: shares and tokens per language, before anything runs.

    minimax and measured begin with uniform shares and find theirs while pressing. minimax lowers
    the damage that moments predict for the worst language; where it was measured, on babel-mini,
    it gained nothing to speak of over uniform (LOG.md). measured lowers the loss of the worst
    language on text held out: six rounds, each a press and a scoring, and with propagate compressed
    a pass over the calibration text too; what it gains is not measured on several seeds yet.

    Example: babelpress mixture mbs:256:bloom-roots --languages en,zh,fr,sw,yo
    """
    from babelpress.runs.places import origin_of
    from babelpress.text.corpus import open_corpus
    from babelpress.text.languages import select
    from babelpress.text.mixtures import mixture as build

    asked = words(languages)
    text = None if asked else open_corpus(corpus)
    tags = text.languages() if text else select(asked)
    mixed = build(policy, tags, model=origin_of(model) if model else None)
    rows = [
        {
            "language": tag,
            "share": share,
            "tokens": tokens if share > 0 else 0,
            "count": mixed.counts[tag] if mixed.counts else None,
        }
        for tag, share in mixed.shares.items()
    ]
    columns = (*_SHARED, *((o.count("count", "segments"),) if mixed.counts else ()))
    source = f"{mixed.distribution} ({mixed.unit})" if mixed.distribution else mixed.unit
    says = f"{mixed.policy}: {source}. {mixed.note}".strip()
    aside = o.aside(text) if text else ()
    return Outcome(rows, tables=(Table(columns, rows),), says=(says, EQUAL), warnings=aside)


@command(
    rows={
        "what": "package, device or thing looked at",
        "found": "its version, or what was found",
        "ok": "whether it will do",
        "mend": "the command or the step that mends it; empty where ok",
    }
)
def doctor(
    *,
    hub: Annotated[
        bool, Parameter(help="Also ask the model hub whether it answers (a network call).")
    ] = False,
) -> Outcome:
    """What is installed, what is missing, and the command that mends it.

    The exit code is 2 where something is to be mended.

    Example: babelpress doctor
    """
    from babelpress.system import doctor as look

    rows = look.look(hub=hub)
    missing = [row for row in rows if not row["ok"]]
    says = tuple(f"{row['what']}: {row['mend']}" for row in missing) or ("all is well",)
    state = o.Column("", lambda row: "ok" if row["ok"] else "MEND")
    columns = (o.word("what", "what"), state, o.word("found", "found"))
    tables = (Table(columns, rows),)
    return Outcome(rows, tables=tables, says=says, exit_code=2 if missing else 0)
