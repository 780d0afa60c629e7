"""Activations beyond the calibration range, counted one by one."""

import json
import math
import re
from functools import wraps
from importlib import import_module
from typing import Any

import numpy as np
import pico
import pytest
import torch
from routing import routed

from babelpress import evals
from babelpress.cli import main
from babelpress.errors import BadMoments, BadRun, BadSetting, NotFinite
from babelpress.evals._windows import prepare
from babelpress.judge import scores
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.experts import Slice
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.moments.ranges import Ranges, of_moments
from babelpress.moments.store import Store
from babelpress.runs.open import ranges_of
from babelpress.runs.places import RANGES
from babelpress.system.files import save_tensors
from babelpress.text.corpus import Document, open_corpus

check = import_module("babelpress.evals.range")  # the name of a built-in, were it imported

SEEN = {"eng_Latn": ["the cat sat on the mat", "it rained"], "deu_Latn": ["Grüße aus Köln"]}
TEXTS = {
    "eng_Latn": ["hello, world", "a longer one: the rain in Spain stays mainly in the plain", "no"],
    "hin_Deva": ["नमस्ते", "तुम कैसे हो?"],
}
WINDOW = 24


def documents(texts):
    return {
        tag: [Document(f"src/{i}", tag, "src", "test", text) for i, text in enumerate(given)]
        for tag, given in texts.items()
    }


def without(*attributes):
    """The byte tokenizer without these special tokens."""
    tokenizer = pico.tokenizer()
    for name in attributes:
        setattr(tokenizer, name, None)
    return tokenizer


def windows(ids, window, prefix):
    """Every window as the definition has it: what is fed, and how many tokens at its end count."""
    room = window - (prefix is not None)  # tokens of text
    step = (window - 1) // 2
    found, start, done = [], 0, 0
    while done < len(ids):
        end = min(start + room, len(ids))
        # Later windows begin with the prefix in place of a token that counted before.
        body = ids[start:end]
        fed = body if prefix is None else [prefix, *body]
        found.append((fed, end - done))
        start, done = start + step, end
    return found


def inputs(model, fed):
    """What the last linear of each site reads in one pass, each time, by BLOCK.SITE."""
    walk = Walk(model)
    seen: dict[str, list[torch.Tensor]] = {}
    handles: list[Any] = []

    def keep(name):
        def hook(_, args):
            seen.setdefault(name, []).append(args[0].float().flatten(0, -2))

        return hook

    hidden_BTH = walk.start(torch.tensor([[3, 4, 5]]))
    for index, block in enumerate(walk.blocks):
        for site in walk.sites(index, hidden_BTH):
            linear: Any = linears(block)[site.linears[-1]]
            name = f"{index}.{site.name}"
            handles.append(linear.register_forward_pre_hook(keep(name)))
        with torch.no_grad():
            hidden_BTH = walk.forward(index, hidden_BTH)
    seen.clear()
    with torch.no_grad():
        model(torch.tensor([fed]))
    for handle in handles:
        handle.remove()
    return seen


def slow_ranges(model, tokenizer, texts, window=WINDOW):
    """The largest |x_i| of every site over all tokens of the texts that count."""
    largest = {}
    for text in (text for given in texts.values() for text in given):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for fed, counted in windows(ids, window, tokenizer.bos_token_id):
            for name, every in inputs(model, fed).items():
                for x_TI in every:
                    most_I = x_TI[-counted:].abs().amax(0)
                    largest[name] = torch.maximum(largest.get(name, torch.zeros(())), most_I)
    return largest


def slow_counts(model, tokenizer, texts, ranges, prefix, window=WINDOW):
    """Pairs beyond the range and all pairs, by language, document and site, in plain loops."""
    found = {}
    for tag, given in texts.items():
        for place, text in enumerate(given):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            for fed, counted in windows(ids, window, prefix):
                for name, every in inputs(model, fed).items():
                    rows = [x for x_TI in every for x in x_TI.tolist()[len(fed) - counted :]]
                    limits = ranges[name].tolist()
                    row = found.setdefault((tag, place, name), [0, 0])
                    row[0] += sum(
                        abs(x) > m for x_I in rows for x, m in zip(x_I, limits, strict=True)
                    )
                    row[1] += sum(len(x_I) for x_I in rows)
    return found


def slow_beyond(slow, tag, place):
    """Both sums of one document over sites."""
    rows = [row for (t, p, _), row in slow.items() if (t, p) == (tag, place)]
    return [sum(row[0] for row in rows), sum(row[1] for row in rows)]


@pytest.fixture(scope="module")
def llama():
    return pico.model()


@pytest.fixture(scope="module")
def narrow(llama):
    """Ranges of a little text, so that other text lies beyond them."""
    return slow_ranges(llama, pico.tokenizer(), SEEN)


@pytest.fixture
def alone(monkeypatch):
    """Every window is a batch, so that no number is rounded otherwise than in a slow loop."""
    monkeypatch.setattr(check, "BATCH_TOKENS", 1)


@pytest.mark.parametrize("family", [f for f in pico.DENSE if f not in pico.ENCODER_DECODERS])
def test_counts_equal_plain_loops_over_tokens_and_features_in_every_family(alone, family):
    model, tokenizer = pico.model(family), pico.tokenizer()
    ranges = slow_ranges(model, tokenizer, SEEN)
    told = {}

    found = check.measure(
        model, tokenizer, documents(TEXTS), ranges=ranges, window=WINDOW, detail=told.__setitem__
    )

    slow = slow_counts(model, tokenizer, TEXTS, ranges, tokenizer.bos_token_id)
    assert {name for _, _, name in slow} == set(ranges)
    for tag, texts in TEXTS.items():
        parts = zip(found[tag].numerator_D, found[tag].denominator_D, strict=True)
        assert [[*part] for part in parts] == [slow_beyond(slow, tag, p) for p in range(len(texts))]
        assert 0 < found[tag].value < 0.5
        for name in ranges:
            rows = [row for (t, _, n), row in slow.items() if (t, n) == (tag, name)]
            assert told[tag][name] == sum(row[0] for row in rows) / sum(row[1] for row in rows)


@pytest.mark.parametrize("family", pico.EXPERTS)
def test_experts_count_the_tokens_that_came_to_them(alone, family):
    model, tokenizer = pico.model(family), pico.tokenizer()
    text = {"eng_Latn": TEXTS["eng_Latn"]}
    limit = {
        f"{index}.{name}": torch.full((weight(linear).shape[1],), 0.5)
        for index, block in enumerate(Walk(model).blocks)
        for name, linear in linears(block).items()
        if isinstance(linear, Slice)
    }
    told = {}

    found = check.measure(
        model, tokenizer, documents(text), ranges=limit, window=128, detail=told.__setitem__
    )

    beyond, pairs = dict.fromkeys(limit, 0), dict.fromkeys(limit, 0)
    for each in text["eng_Latn"]:
        ids_T = torch.tensor([tokenizer.bos_token_id, *tokenizer(each)["input_ids"]])
        for (index, name), (rows, tokens) in routed(model, ids_T).items():
            kept = [row for row, token in zip(rows, tokens, strict=True) if token]
            beyond[f"{index}.{name}"] += sum(int((abs(row) > 0.5).sum()) for row in kept)
            pairs[f"{index}.{name}"] += sum(len(row) for row in kept)
    assert found["eng_Latn"].denominator_D.sum() == sum(pairs.values())
    assert found["eng_Latn"].numerator_D.sum() == sum(beyond.values()) > 0
    for name in limit:
        assert told["eng_Latn"][name] == (beyond[name] / pairs[name] if pairs[name] else 0)


def test_text_lies_within_its_own_range(alone, llama):
    tokenizer = pico.tokenizer()
    ranges = slow_ranges(llama, tokenizer, {"eng_Latn": TEXTS["eng_Latn"]})

    found = check.measure(llama, tokenizer, documents(TEXTS), ranges=ranges, window=WINDOW)

    assert found["eng_Latn"].value == 0
    assert found["hin_Deva"].value > 0.01


def test_one_value_beyond_is_counted_once_and_equality_is_within(alone, llama):
    tokenizer, text = pico.tokenizer(), {"eng_Latn": ["rain"]}
    ranges = slow_ranges(llama, tokenizer, text)
    site = "1.mlp.down_proj"
    ranges[site] = ranges[site].clone()
    ranges[site][5] = torch.nextafter(ranges[site][5], torch.tensor(0.0))
    told = {}

    found = check.measure(
        llama, tokenizer, documents(text), ranges=ranges, window=16, detail=told.__setitem__
    )

    features = sum(len(each) for each in ranges.values())
    assert found["eng_Latn"].numerator_D.tolist() == [1]
    assert found["eng_Latn"].denominator_D.tolist() == [4 * features]
    assert told["eng_Latn"] == {name: (name == site) / (4 * len(m)) for name, m in ranges.items()}


@pytest.mark.parametrize("window", [3, 25])
def test_every_token_counts_once_and_the_special_one_before_it_never(alone, llama, narrow, window):
    features = sum(len(each) for each in narrow.values())
    tokens = {tag: [len(text.encode()) for text in given] for tag, given in TEXTS.items()}
    for gone, prefix in (((), 0), (("bos_token",), 1), (("bos_token", "eos_token"), None)):
        tokenizer = without(*gone)

        found = check.measure(llama, tokenizer, documents(TEXTS), ranges=narrow, window=window)

        slow = slow_counts(llama, tokenizer, TEXTS, narrow, prefix, window)
        for tag, given in tokens.items():
            assert found[tag].denominator_D.tolist() == [features * each for each in given]
            beyond = [slow_beyond(slow, tag, place)[0] for place in range(len(given))]
            assert found[tag].numerator_D.tolist() == beyond


def test_padding_counts_nothing_and_batches_change_the_edge_of_rounding_only(
    llama, narrow, monkeypatch
):
    counts = []
    for tokens in (1, 60, 4096):
        monkeypatch.setattr(check, "BATCH_TOKENS", tokens)
        told = check.measure(
            llama, pico.tokenizer(), documents(TEXTS), ranges=narrow, window=WINDOW
        )
        counts.append(told)

    for tag in TEXTS:
        for other in counts[1:]:
            np.testing.assert_array_equal(counts[0][tag].denominator_D, other[tag].denominator_D)
            np.testing.assert_allclose(counts[0][tag].numerator_D, other[tag].numerator_D, atol=1)


def test_little_memory_splits_comparisons_and_changes_nothing(llama, narrow):
    asked = {"ranges": narrow, "window": WINDOW}

    whole = check.measure(llama, pico.tokenizer(), documents(TEXTS), **asked)
    split = check.measure(llama, pico.tokenizer(), documents(TEXTS), memory_mb=0, **asked)

    for tag in TEXTS:
        assert whole[tag].numerator_D.tolist() == split[tag].numerator_D.tolist()


def test_half_precision_is_compared_exactly(alone, narrow):
    model, tokenizer = pico.model(dtype=torch.bfloat16), pico.tokenizer()
    ranges = slow_ranges(model, tokenizer, SEEN)

    found = check.measure(model, tokenizer, documents(TEXTS), ranges=ranges, window=WINDOW)

    slow = slow_counts(model, tokenizer, TEXTS, ranges, tokenizer.bos_token_id)
    beyond = [slow_beyond(slow, "hin_Deva", place)[0] for place in range(2)]
    assert found["hin_Deva"].numerator_D.tolist() == beyond


def test_a_site_without_a_range_does_not_count(llama, narrow):
    some = {name: each for name, each in narrow.items() if "down_proj" in name}
    told = {}

    found = check.measure(
        llama,
        pico.tokenizer(),
        documents(TEXTS),
        ranges=some,
        window=WINDOW,
        detail=told.__setitem__,
    )

    assert list(told["hin_Deva"]) == ["0.mlp.down_proj", "1.mlp.down_proj"]
    tokens = sum(len(text.encode()) for text in TEXTS["hin_Deva"])
    assert found["hin_Deva"].denominator_D.sum() == tokens * 2 * 48


def test_the_model_is_left_as_it_was_without_hooks(llama, narrow):
    llama.train()

    check.measure(llama, pico.tokenizer(), documents(TEXTS), ranges=narrow, window=WINDOW)

    assert llama.training
    assert not any(module._forward_pre_hooks for module in llama.modules())
    llama.eval()


def test_progress_counts_every_token_once(llama, narrow):
    seen = []

    check.measure(
        llama,
        pico.tokenizer(),
        documents(TEXTS),
        ranges=narrow,
        window=WINDOW,
        progress=lambda *at: seen.append(at),
    )

    total = sum(len(text.encode()) for given in TEXTS.values() for text in given)
    assert seen[-1] == ("range", total, total)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_activation_that_is_no_number_names_language_and_document(narrow, broken):
    model, tokenizer = pico.model(), pico.tokenizer()
    table: Any = model.get_input_embeddings()
    table.weight.data[tokenizer("q")["input_ids"][0]] = broken
    texts = documents({"eng_Latn": ["fine"], "fra_Latn": ["aussi", "quoi"]})

    with pytest.raises(NotFinite, match=r"'src/1' in fra_Latn"):
        check.measure(model, tokenizer, texts, ranges=narrow, window=16)


@pytest.mark.parametrize("window", [0, 2])
def test_a_window_without_room_is_refused(llama, narrow, window):
    with pytest.raises(BadSetting, match=f"window of {window} tokens.*at least 3"):
        check.measure(llama, pico.tokenizer(), documents(TEXTS), ranges=narrow, window=window)


def test_a_window_longer_than_the_positions_of_the_model_is_refused(narrow):
    model, long = pico.model("gpt2"), documents({"eng_Latn": ["x" * 300]})
    ranges = slow_ranges(model, pico.tokenizer(), SEEN)

    assert check.measure(model, pico.tokenizer(), long, ranges=ranges, window=128)
    with pytest.raises(BadSetting, match="--window 128 or less"):
        check.measure(model, pico.tokenizer(), long, ranges=ranges, window=129)


def test_ranges_of_another_model_are_refused(narrow):
    texts = documents(TEXTS)

    with pytest.raises(BadMoments, match=r"no site 0\.self_attn.* another model"):
        check.measure(pico.model("gpt2"), pico.tokenizer(), texts, ranges=narrow, window=16)
    wide = {**narrow, "1.mlp.down_proj": torch.zeros(49)}
    with pytest.raises(BadMoments, match=r"no site 1\.mlp\.down_proj with 49 inputs"):
        check.measure(pico.model(), pico.tokenizer(), texts, ranges=wide, window=16)


def test_evaluations_say_whether_they_need_ranges():
    assert evals.facts("range").needs_ranges
    assert not evals.facts("bits_per_byte").needs_ranges


# ---- where ranges come from ----------------------------------------------------------------


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A model, its moments of two languages, and a run that keeps ranges."""
    folder = tmp_path_factory.mktemp("dense")
    pico.model().save_pretrained(folder / "pico")
    pico.tokenizer().save_pretrained(folder / "pico")
    asked = ["--languages", "swh_Latn,amh_Ethi", "--tokens", "256", "--length", "64"]
    words = ["calibrate", str(folder / "pico"), "--out", str(folder / "moments"), *asked]
    assert main(words) == 0
    return folder


def opened(seed=0):
    return Opened("pico", pico.model(seed=seed), pico.tokenizer(), torch.float32)


def test_ranges_of_moments_are_maxima_over_the_languages_with_a_share(dense):
    store = Store.open(dense / "moments")
    moments = {f"{i}.{s.name}": each for i in range(2) for s, each in store.load(i).items()}

    both = of_moments(dense / "moments", opened())
    one = of_moments(dense / "moments", opened(), "only:sw")

    assert both.languages == ("swh_Latn", "amh_Ethi")
    assert one.languages == ("swh_Latn",)
    assert set(both.largest) == set(one.largest) == set(moments)
    for name, seen in moments.items():
        swahili, amharic = seen["swh_Latn"].absmax_I, seen["amh_Ethi"].absmax_I
        assert one.largest[name].double().tolist() == swahili.tolist()
        assert both.largest[name].double().tolist() == torch.maximum(swahili, amharic).tolist()
    assert both.fingerprint() != one.fingerprint()
    assert both.fingerprint() == of_moments(dense / "moments", opened(), "uniform").fingerprint()


def test_moments_of_another_model_or_of_too_few_languages_are_refused(dense):
    with pytest.raises(BadMoments, match="moments of another model"):
        of_moments(dense / "moments", opened(seed=1))
    with pytest.raises(BadSetting, match=r"share to eng_Latn, of which .* has no moments"):
        of_moments(dense / "moments", opened(), "english")


def test_calibration_text_lies_within_its_range_wherever_it_is_cut(dense):
    """The first words of each language's moments are no further out than the moments say."""
    corpus = open_corpus("embedded")
    ranges = of_moments(dense / "moments", opened()).largest
    wide = {name: each * 100 for name, each in ranges.items()}
    texts = {"swh_Latn": corpus.documents("swh_Latn", "test")[:3]}

    near = check.measure(pico.model(), pico.tokenizer(), texts, ranges=ranges, window=64)
    far = check.measure(pico.model(), pico.tokenizer(), texts, ranges=wide, window=64)

    assert 0 < near["swh_Latn"].value < 0.1
    assert far["swh_Latn"].value == 0


def test_a_run_keeps_its_own_ranges(tmp_path, narrow):
    save_tensors(tmp_path / RANGES, narrow, {"languages": "eng_Latn,deu_Latn"})

    found = ranges_of(tmp_path)

    assert found.languages == ("eng_Latn", "deu_Latn")
    assert found.fingerprint() == Ranges(narrow, ()).fingerprint()
    (tmp_path / RANGES).write_bytes((tmp_path / RANGES).read_bytes()[:100])
    with pytest.raises(BadRun, match="damaged or cut short"):
        ranges_of(tmp_path)
    with pytest.raises(BadRun, match=r"keeps no ranges\.safetensors.*--moments"):
        ranges_of(tmp_path / "none")


def test_a_fingerprint_tells_values_names_and_sizes_apart(narrow):
    name = "0.mlp.down_proj"
    moved = {**narrow, name: narrow[name].flip(0)}
    renamed = {name.replace("0.", "2."): narrow[name], **narrow}

    prints = {Ranges(each, ()).fingerprint() for each in (narrow, moved, renamed)}

    assert len(prints) == 3
    assert Ranges(dict(reversed(narrow.items())), ()).fingerprint() in prints


# ---- the command ---------------------------------------------------------------------------


def evaluated(dense, out, capsys, *more, on="range"):
    words = ["eval", str(dense / "pico"), "--on", on, "--out", str(out), "--documents", "2"]
    code = main([*words, "--languages", "sw,hi", "--window", "64", "--json", *more])
    told = capsys.readouterr()
    return code, json.loads(told.out)["results"] if code == 0 else told.err


def test_the_command_scores_against_moments_and_keeps_every_site(dense, tmp_path, capsys):
    code, rows = evaluated(dense, tmp_path, capsys, "--moments", str(dense / "moments"))

    assert code == 0
    assert [(row["language"], row["metric"]) for row in rows] == [
        ("hin_Deva", "beyond_range"),
        ("swh_Latn", "beyond_range"),
    ]
    sites = scores.sites(tmp_path, "range")
    tallies = scores.tallies(tmp_path, "range")
    inputs_of = {"q_proj": 32, "o_proj": 32, "gate_proj": 32, "down_proj": 48}
    for tag, tally in tallies.items():
        weighted = [
            (share, next(n for key, n in inputs_of.items() if key in site))
            for site, share in sites[tag].items()
        ]
        mean = sum(s * n for s, n in weighted) / sum(n for _, n in weighted)
        assert tally.value == pytest.approx(mean)
    assert rows[0]["value"] > rows[1]["value"] > 0  # Hindi was not calibrated on


def test_scores_with_other_ranges_are_measured_anew(dense, tmp_path, capsys, monkeypatch):
    measured = []
    real = check.measure

    @wraps(real)
    def measure(model, tokenizer, texts, **options):
        measured.extend(texts)
        return real(model, tokenizer, texts, **options)

    monkeypatch.setattr(check, "measure", measure)
    moments = ["--moments", str(dense / "moments")]

    _, both = evaluated(dense, tmp_path, capsys, *moments)
    _, again = evaluated(dense, tmp_path, capsys, *moments)
    assert measured == ["swh_Latn", "hin_Deva"]
    assert again == both

    _, one = evaluated(dense, tmp_path, capsys, *moments, "--mixture", "only:am")
    assert measured == ["swh_Latn", "hin_Deva"] * 2
    assert one[1]["value"] > both[1]["value"]
    assert [{**row, "parts": None} for row in scores.read_results(tmp_path)] == one


@pytest.mark.parametrize(
    ("on", "more", "said"),
    [
        ("range", [], r"range must know what calibration saw.*--moments"),
        ("range", ["--mixture", "uniform"], r"--mixture uniform is a choice.*--moments"),
        ("bits_per_byte", ["--mixture", "uniform"], "--mixture has no effect on bits_per_byte"),
        ("bits_per_byte", ["--moments", "moments"], "--moments has no effect on bits_per_byte"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(dense, tmp_path, capsys, on, more, said):
    code, told = evaluated(dense, tmp_path / "new", capsys, *more, on=on)

    assert code == 2
    assert len(told.strip().splitlines()) == 1
    assert re.search(said, told)
    assert not (tmp_path / "new").exists()


def test_the_library_is_told_that_ranges_are_needed(tmp_path):
    with pytest.raises(BadSetting, match="range must know what calibration saw"):
        asked = EvaluationSettings(on=("range",), languages=("sw",))
        evaluate(opened(), tmp_path / "new", asked)


def test_the_windows_are_those_of_bits_per_byte(llama):
    """One window shorter, because here the last token of a window is an input too."""
    prepared = prepare(pico.tokenizer(), documents(TEXTS), window=WINDOW - 1)
    ids = pico.tokenizer()(TEXTS["eng_Latn"][1])["input_ids"]

    ours = [(fed, counted) for fed, counted in windows(ids, WINDOW, 0)]
    theirs = [w for w in prepared["eng_Latn"].windows if w.document == 1]

    assert sorted((w.ids_T.tolist(), w.scored) for w in theirs) == sorted(ours)
