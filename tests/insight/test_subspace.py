from types import SimpleNamespace

import pico
import pytest
import torch

from babelpress.errors import BadModel
from babelpress.insight import subspace
from babelpress.models.open import Opened
from babelpress.moments.gather import Batch
from babelpress.system.progress import silent
from babelpress.text.token_blocks import TokenBlocks

TAGS = ("eng_Latn", "fra_Latn", "hin_Deva", "yor_Latn")


@pytest.fixture
def planted():
    """Means of four languages: one shared vector, and two directions orthogonal to it."""
    generator = torch.Generator().manual_seed(0)
    basis_HK, _ = torch.linalg.qr(torch.randn(9, 3, dtype=torch.float64, generator=generator))
    shared_H, specific_HK = 5 * basis_HK[:, 0], basis_HK[:, 1:]
    weights_KL = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.3, 1.0, -2.0, 0.1]], dtype=torch.float64)
    return shared_H, specific_HK, shared_H[:, None] + specific_HK @ weights_KL


def projector(basis_HK):
    return basis_HK @ basis_HK.T


def test_planted_shared_and_specific_parts_are_found(planted):
    shared_H, specific_HK, mean_HL = planted

    found = subspace.split_of(mean_HL, 2)

    torch.testing.assert_close(found.shared_H, shared_H)
    torch.testing.assert_close(projector(found.specific_HK), projector(specific_HK))


def test_the_shared_vector_is_orthogonal_to_what_is_specific_with_noise_too(planted):
    *_, mean_HL = planted
    noisy_HL = mean_HL + 0.01 * torch.randn(9, 4, generator=torch.Generator().manual_seed(4))

    found = subspace.split_of(noisy_HL, 2)

    assert (found.specific_HK.T @ found.shared_H).abs().max() < 1e-8
    torch.testing.assert_close(
        found.specific_HK.T @ found.specific_HK, torch.eye(2, dtype=torch.float64)
    )


def batch_of(tag, x_TH, counted=None):
    mask_BT = torch.ones(1, len(x_TH), dtype=torch.bool)
    if counted is not None:
        mask_BT[0, counted:] = False
    return Batch(tag, x_TH[None], (mask_BT,))  # type: ignore[arg-type]


def states(mean_HL, tokens=30, seed=0):
    """Tokens about the means that are planted: the noise of every language sums to nothing."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for place, tag in enumerate(TAGS):
        noise_TH = torch.randn(tokens, len(mean_HL), dtype=torch.float64, generator=generator)
        found[tag] = mean_HL[:, place] + noise_TH - noise_TH.mean(0)
    return found


def parts_of(rows):
    return {(r["language"], r["part"]): r for r in rows if r["kind"] == "part"}


def test_a_loss_planted_in_one_part_shows_in_that_part_of_that_language_only(planted):
    _, specific_HK, mean_HL = planted
    before = states(mean_HL)
    after = {tag: x.clone() for tag, x in before.items()}
    noise_TH = torch.randn(30, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    noise_TH = noise_TH - noise_TH.mean(0)
    after["fra_Latn"] += noise_TH @ projector(specific_HK)

    rows = subspace.compared(
        [batch_of(tag, x) for tag, x in before.items()],
        [batch_of(tag, x) for tag, x in after.items()],
        TAGS,
        2,
    )

    found = parts_of(rows)
    moved = {key for key, row in found.items() if row["value"] > 1e-12}
    assert moved == {("fra_Latn", "specific")}
    wanted = slow_error(before["fra_Latn"], after["fra_Latn"], planted)
    assert found["fra_Latn", "specific"]["value"] == pytest.approx(wanted[0])
    assert found["fra_Latn", "specific"]["cosine"] == pytest.approx(wanted[1])
    assert found["eng_Latn", "agnostic"]["cosine"] == pytest.approx(1.0)
    assert next(r for r in rows if r["kind"] == "basis")["value"] == pytest.approx(1.0)


def slow_error(old_TH, new_TH, planted):
    """Error and cosine of the specific part, one token and direction at a time."""
    shared_H, specific_HK, _ = planted
    lost = size = size_new = both = 0.0
    for old, new in zip(old_TH - shared_H, new_TH - shared_H, strict=True):
        for direction in specific_HK.T.tolist():
            a = sum(x * d for x, d in zip(old.tolist(), direction, strict=True))
            b = sum(x * d for x, d in zip(new.tolist(), direction, strict=True))
            lost += (a - b) ** 2
            size, size_new, both = size + a * a, size_new + b * b, both + a * b
    return lost / size, both / (size * size_new) ** 0.5


def test_a_loss_of_what_is_shared_is_measured_about_the_mean_of_all(planted):
    shared_H, specific_HK, mean_HL = planted
    before = states(mean_HL)
    after = {tag: 0.75 * x for tag, x in before.items()}

    rows = subspace.compared(
        [batch_of(tag, x) for tag, x in before.items()],
        [batch_of(tag, x) for tag, x in after.items()],
        TAGS,
        2,
    )

    rest_HH = torch.eye(9, dtype=torch.float64) - projector(specific_HK)
    for tag in TAGS:
        old_TH, new_TH = (x[tag] @ rest_HH - shared_H for x in (before, after))
        wanted = float((old_TH - new_TH).square().sum() / old_TH.square().sum())
        assert parts_of(rows)[tag, "agnostic"]["value"] == pytest.approx(wanted)


def test_a_direction_that_is_gone_shows_in_the_basis_and_padding_does_not_count(planted):
    shared_H, specific_HK, mean_HL = planted
    before = states(mean_HL)
    known_HK = torch.cat([shared_H[:, None], specific_HK], 1)
    basis_HH, _ = torch.linalg.qr(torch.cat([known_HK, torch.eye(9).double()], 1))
    along_1L = specific_HK[:, 1:].T @ mean_HL
    turned_HL = mean_HL - specific_HK[:, 1:] @ along_1L + basis_HH[:, 5:6] @ along_1L
    after = states(turned_HL)

    def rows_of(junk):
        junk_TH = torch.full((junk, 9), 1e6, dtype=torch.float64)
        return subspace.compared(
            [batch_of(tag, torch.cat([x, junk_TH]), 30) for tag, x in before.items()],
            [batch_of(tag, torch.cat([x, 2 * junk_TH]), 30) for tag, x in after.items()],
            TAGS,
            2,
        )

    kept = next(row for row in rows_of(0) if row["kind"] == "basis")["value"]
    assert kept == pytest.approx(0.5)
    assert rows_of(3) == rows_of(0)


@pytest.fixture
def given():
    """Two models of the same shape, of which one has a block that was changed."""
    torch.manual_seed(0)
    dense = pico.FAMILIES["llama"]().eval()
    pressed = pico.FAMILIES["llama"]().eval()
    pressed.load_state_dict(dense.state_dict())
    with torch.no_grad():
        pressed.model.layers[1].mlp.down_proj.weight[:, ::2] = 0.0
    generator = torch.Generator().manual_seed(1)
    text = {
        tag: TokenBlocks(
            tag,
            torch.randint(3, pico.VOCABULARY, (2, 12), generator=generator),
            torch.ones(2, 12, dtype=torch.bool),
        )
        for tag in TAGS
    }
    runs = {"run": Opened("run", pressed, pico.tokenizer(), torch.float32)}
    return SimpleNamespace(
        text=text,
        labels=["run"],
        dense=Opened("pico", dense, pico.tokenizer(), torch.float32),
        run=runs.__getitem__,
        name="pico",
        progress=silent,
    )


def test_states_are_moved_after_the_block_that_was_pressed_and_not_before(given):
    rows = subspace.measure(given)

    errors = {block: [r["value"] for r in rows if r["block"] == block] for block in range(3)}
    parts = {b: [r["value"] for r in rows if r["block"] == b and r["part"]] for b in errors}
    assert max(parts[0]) == max(parts[1]) == 0.0
    assert min(parts[2]) > 1e-4
    languages, depth, basis = subspace.pictures(rows)
    assert "the specific part of" in languages.seen and "run" in depth.seen
    assert {p.down for p in basis.points} == {"run"}


def test_another_number_of_blocks_is_an_error(given):
    given.run("run").model.model.layers = given.run("run").model.model.layers[:1]
    with pytest.raises(BadModel, match="run has 1 blocks and pico 2"):
        subspace.measure(given)
