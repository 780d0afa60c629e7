"""Channels of the stream: what they are worth, what is fitted, and that cutting zeros is exact."""

import math
import weakref

import pico
import pytest
import torch
from pressing import loud
from running import refusal
from transformers import AutoModelForCausalLM

from babelpress.errors import BadModel, BadSetting
from babelpress.models.linears import linears, weight
from babelpress.models.reshaped import bare
from babelpress.models.walk import Walk
from babelpress.moments.gather import batches, pass_on
from babelpress.shrink import _stream, width
from babelpress.text.token_blocks import TokenBlocks

FAMILIES = ("llama", "qwen3", "gemma3", "mistral")
SHARES = {"swh_Latn": 0.75, "hin_Deva": 0.25}
KEPT = 20


def text():
    """Five and three blocks of two languages; some tokens do not count."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for place, (tag, rows) in enumerate(zip(SHARES, (5, 3), strict=True)):
        ids_BT = torch.randint(6 + 90 * place, 96 + 90 * place, (rows, 12), generator=generator)
        counted_BT = torch.rand(ids_BT.shape, generator=generator) > 0.2
        found[tag] = TokenBlocks(tag, ids_BT, counted_BT)
    return found


def opened(family):
    walk = Walk(loud(family))
    return walk, width.find(family, walk, str(KEPT), 4)


def seen(walk, channels, **more):
    return _stream.reads(walk, channels, text(), SHARES, **more)


def given(walk, names):
    """What linears and norms are given by language (T, H), from passes of the whole model."""
    found = {}
    for tag, each in text().items():
        rows = {}

        def see(name, rows):
            return lambda _, args: rows.update({name: args[0].detach().double()})

        hooks = [
            walk.model.get_submodule(name).register_forward_pre_hook(see(name, rows))
            for name in names
        ]
        pico.passed(walk.model, each.ids_BT)
        for hook in hooks:
            hook.remove()
        found[tag] = {name: rows[name][each.counted_BT] for name in names}
    return found


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_channel_is_worth_its_share_of_what_reads_it(family):
    """By plain sums over numbers, from a pass of the whole model."""
    walk, channels = opened(family)
    path = "model.layers.{}.{}"
    sites = [
        [path.format(n, f"{module}.{name}_proj") for name in names]
        for n in range(2)
        for module, names in (("self_attn", "qkv"), ("mlp", ("gate", "up")))
    ] + [["lm_head"]]

    worth = _stream.worth(walk, channels, seen(walk, channels))

    for tag, rows in given(walk, [site[0] for site in sites]).items():
        expected = [0.0] * 32
        for site in sites:
            weights = [walk.model.get_parameter(f"{name}.weight").detach() for name in site]
            squares = [weight_OI.double().square().sum(0).tolist() for weight_OI in weights]
            energy = []
            for h in range(32):
                column = sum(square_I[h] for square_I in squares)
                inputs = rows[site[0]][:, h].tolist()
                energy.append(column * sum(x * x for x in inputs) / len(inputs))
            for h in range(32):
                expected[h] += energy[h] / sum(energy) / len(sites)
        assert worth.of[tag].tolist() == pytest.approx(expected, rel=1e-4)


def test_what_stays_is_what_any_language_needs_most_or_all_in_the_mean():
    scores = {"swh_Latn": [1.0, 5, 2, 0.5, 1.5], "hin_Deva": [1.0, 0, 2, 5, 2]}
    worth = _stream.Worth({tag: torch.tensor(s).double() for tag, s in scores.items()}, {})

    assert worth.kept(SHARES, "max", 2).tolist() == [1, 3]
    assert worth.kept(SHARES, "mean", 2).tolist() == [1, 2]
    assert worth.kept({"hin_Deva": 1.0}, "max", 3).tolist() == [2, 3, 4]


def test_the_stream_that_stays_is_its_mean_share_of_squares():
    walk, channels = opened("llama")
    worth = _stream.worth(walk, channels, seen(walk, channels))
    kept_K = torch.arange(3, 3 + KEPT)
    norm = "model.layers.1.post_attention_layernorm"

    share = {}
    for tag, rows in given(walk, [norm]).items():
        each = [
            sum(x * x for x in row[3 : 3 + KEPT]) / sum(x * x for x in row)
            for row in rows[norm].tolist()
        ]
        share[tag] = sum(each) / len(each)
    expected = math.sqrt(sum(SHARES[tag] * share[tag] for tag in SHARES))

    assert worth.factors(kept_K, SHARES)[norm] == pytest.approx(expected, rel=1e-5)
    assert len(worth.factors(kept_K, SHARES)) == 5
    assert 0 < worth.left(kept_K)["hin_Deva"] < 1


def test_norms_of_what_is_written_are_none_of_the_stream_that_stays():
    """Gemma has some behind attention and MLP; what they are multiplied by is of what they read."""
    walk, channels = opened("gemma3")
    worth = _stream.worth(walk, channels, seen(walk, channels))
    kept_K = torch.arange(3, 3 + KEPT)
    behind = {n for n in worth.stream if "post_" in n}

    assert worth.of_writes == behind
    assert len(behind) == 4
    norms = [name for name in worth.stream if name not in behind]
    for tag, rows in given(walk, norms).items():
        shares = []
        for name in norms:
            each = [
                sum(x * x for x in row[3 : 3 + KEPT]) / sum(x * x for x in row)
                for row in rows[name].tolist()
            ]
            shares.append(sum(each) / len(each))
        assert worth.left(kept_K)[tag] == pytest.approx(sum(shares) / len(shares), rel=1e-5)
    assert set(worth.factors(kept_K, SHARES)) == set(worth.stream)
    walk, channels = opened("llama")
    assert not _stream.worth(walk, channels, seen(walk, channels)).of_writes


def test_what_is_passed_on_lies_in_memory_once(monkeypatch):
    entered, alive = [], []

    def begun(*args, **more):
        todo = batches(*args, **more)
        entered.extend(weakref.ref(each.hidden_BTH) for each in todo)
        return todo

    def onward(walk, index, todo, **more):
        if not index:
            alive.append(sum(each() is not None for each in entered))
        return pass_on(walk, index, todo, **more)

    monkeypatch.setattr(_stream, "batches", begun)
    monkeypatch.setattr(_stream, "pass_on", onward)
    walk, channels = opened("llama")
    for _ in seen(walk, channels):
        pass

    assert len(alive) > 1
    assert alive == list(range(len(alive), 0, -1))


def test_the_fit_is_least_squares_on_what_was_read():
    """Against the library's, rows weighed by their language's share and number of tokens."""
    walk, channels = opened("llama")
    kept_K = torch.arange(0, 32, 2)[:16]

    fitted = _stream.fits(walk, channels, kept_K, seen(walk, channels, gram=True), damp=1e-9)

    names = ["model.layers.1.self_attn.k_proj", "model.layers.0.mlp.up_proj", "lm_head"]
    assert len(fitted) == 2 * 5 + 1
    rows = given(walk, names)
    for name in names:
        before_OI = walk.model.get_parameter(f"{name}.weight").detach().double()
        parts = [(SHARES[tag] / len(rows[tag][name])) ** 0.5 * rows[tag][name] for tag in SHARES]
        x_TI = torch.cat(parts)
        wanted_TO = x_TI @ before_OI.T
        best_KO = torch.linalg.lstsq(x_TI[:, kept_K], wanted_TO).solution
        lost = (x_TI[:, kept_K] @ fitted[name].double().T - wanted_TO).square().sum()
        least = (x_TI[:, kept_K] @ best_KO - wanted_TO).square().sum()
        nothing = (x_TI[:, kept_K] @ before_OI[:, kept_K].T - wanted_TO).square().sum()
        assert lost.item() == pytest.approx(least.item(), rel=1e-3)
        assert lost < 0.9 * nothing


@pytest.mark.parametrize("family", FAMILIES)
def test_channels_that_are_zero_are_cut_out_and_every_logit_stays(family, tmp_path):
    walk, channels = opened(family)
    worth = _stream.worth(walk, channels, seen(walk, channels))
    kept_K = worth.kept(SHARES, "max", KEPT)
    fitted = _stream.fits(walk, channels, kept_K, seen(walk, channels, gram=True), 0.01)
    ids_BT = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    masked = _stream.zeroed(walk, channels, kept_K, worth.factors(kept_K, SHARES), fitted)
    with torch.no_grad():
        hidden = masked(ids_BT, output_hidden_states=True).hidden_states
    went = [h for h in range(32) if h not in kept_K.tolist()]
    assert all(not each[..., went].any() for each in hidden)
    before_BTV = pico.passed(masked, ids_BT).logits

    made = _stream.cut(masked, channels, kept_K)

    after_BTV = pico.passed(made, ids_BT).logits
    size = before_BTV.norm()
    assert (after_BTV - before_BTV).norm() < 1e-5 * size
    assert (pico.passed(walk.model, ids_BT).logits - before_BTV).norm() > 1e-2 * size
    text_config = made.config.get_text_config()
    assert (text_config.hidden_size, text_config.head_dim) == (KEPT, 8)
    assert text_config.num_attention_heads == 4
    made.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(pico.passed(again, ids_BT).logits, after_BTV)


def test_embeddings_that_are_multiplied_keep_what_they_give_tied_or_not():
    """Gemma multiplies them by the root of the width, which is another one then."""
    config = pico.model("gemma3").config
    for tied in (True, False):
        config.tie_word_embeddings = tied
        torch.manual_seed(0)
        walk = Walk(type(pico.model("gemma3"))(config).eval())
        channels = width.find("tiny", walk, "16", 4)
        kept_K = torch.arange(16, 32)
        masked = _stream.zeroed(walk, channels, kept_K, {}, {})
        ids_BT = torch.arange(3, 12)[None]
        before_BTV = pico.passed(masked, ids_BT).logits

        made = _stream.cut(masked, channels, kept_K)

        torch.testing.assert_close(pico.passed(made, ids_BT).logits, before_BTV)
        assert (made.lm_head.weight is made.get_input_embeddings().weight) == tied


def test_parameters_are_fewer_by_every_place_of_a_channel():
    walk, channels = opened("llama")
    before = sum(each.numel() for each in walk.model.parameters())

    made = _stream.narrowed(bare(walk.model), channels, torch.arange(KEPT, device="meta"))

    rows = sum(
        weight(each).numel() // 32 for block in walk.blocks for each in linears(block).values()
    )
    places = rows + 2 * pico.VOCABULARY + 2 * 2 + 1
    assert before - sum(each.numel() for each in made.parameters()) == (32 - KEPT) * places


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("t5", "(T5ForConditionalGeneration) is an encoder-decoder"),
        ("qwen3_moe", "is a mixture of experts"),
        ("gpt2", "(GPT2LMHeadModel) does not state how wide a head is"),
        ("bert", "does not state how wide a head is"),
        ("gemma4", "not known to read or write"),
    ],
)
def test_streams_that_are_not_known_are_one_line(family, words):
    line = refusal(BadModel, width.find, family, Walk(pico.model(family)), "0.5", 4)

    assert words in line
    assert line.endswith("Leave out --width.")


@pytest.mark.parametrize(
    ("asked", "multiple", "words"),
    [
        ("40", 4, "--width 40 is more than the 32 channels there are"),
        ("0.05", 4, "fewer than --multiple, 4, and none would be left. Give --width 4 or more, or"),
        (
            "0.75",
            6,
            "of 30 channels makes 18, which LlamaForCausalLM refuses: The hidden size (18) is",
        ),
    ],
)
def test_widths_that_cannot_be_had_are_one_line(asked, multiple, words):
    model = pico.model("llama") if multiple == 4 else _with_five_heads()

    assert words in refusal(BadSetting, width.find, "tiny", Walk(model), asked, multiple)


def _with_five_heads():
    """Four of 24 channels would divide, five do not: Llama wants that, though heads are apart."""
    config = pico.model("llama").config
    config.hidden_size, config.num_attention_heads, config.num_key_value_heads = 30, 5, 5
    return type(pico.model("llama"))(config).eval()


def test_a_norm_that_takes_the_mean_away_is_one_line():
    walk, channels = opened("llama")
    for block in walk.blocks:
        norm = torch.nn.LayerNorm(32, bias=False)
        block.input_layernorm = norm

    with pytest.raises(BadModel, match="LayerNorm is not known to divide by a mean square alone"):
        _stream.zeroed(
            walk,
            channels,
            torch.arange(KEPT),
            dict.fromkeys(["model.layers.0.input_layernorm"], 0.9),
            {},
        )
