"""A made-up result of the usual size: 31 languages under three calibrations."""

from dataclasses import replace

import numpy as np
import pytest

from babelpress.judge.compare import Change, Comparison, Summary
from babelpress.report import Pressed, ReportInput

ZEROS = ("Zeros alone make nothing faster.", "An ordinary dense file.")
UNPACKED = ("A quantized model was measured with its weights unpacked.", "The same weights.")

# In per cent; they do not come from any model.
SHARES = {
    "eng_Latn": 21.0, "rus_Cyrl": 11.0, "deu_Latn": 9.5, "fra_Latn": 8.2, "spa_Latn": 8.0,
    "zho_Hans": 7.5, "jpn_Jpan": 7.0, "arb_Arab": 4.5, "por_Latn": 4.1, "ita_Latn": 4.0,
    "pol_Latn": 3.0, "tur_Latn": 2.4, "vie_Latn": 2.0, "kor_Hang": 1.8, "ukr_Cyrl": 1.6,
    "heb_Hebr": 0.9, "hin_Deva": 0.8, "tha_Thai": 0.7, "ell_Grek": 0.6, "ben_Beng": 0.4,
    "tam_Taml": 0.3, "urd_Arab": 0.25, "kat_Geor": 0.15, "hye_Armn": 0.11, "swh_Latn": 0.08,
    "eus_Latn": 0.05, "amh_Ethi": 0.02, "hau_Latn": 0.012, "yor_Latn": 0.009, "ibo_Latn": 0.004,
    "khm_Khmr": 0.003,
}  # fmt: skip
HARM = {"english": (0.02, 0.055), "proportional": (0.022, 0.02), "minimax": (0.035, 0.003)}


def comparison(calibration: str, tags: list[str], *, harm: tuple[float, float]) -> Comparison:
    """Losses that grow as the training share falls, with noise of a fixed seed."""
    random = np.random.default_rng([len(calibration), len(tags)])
    changes = []
    for tag in tags:
        rarity = np.log10(SHARES["eng_Latn"] / SHARES.get(tag, 0.01))
        loss = harm[0] + harm[1] * rarity + float(random.normal(0, 0.012))
        half = 0.008 + float(random.uniform(0, 0.012))
        dense = float(random.uniform(1.1, 2.6))
        significant = abs(loss) > half
        changes.append(
            Change(
                language=tag,
                dense=dense,
                pressed=dense * (1 + loss),
                change=loss,
                low=loss - half,
                high=loss + half,
                p=0.0005 if significant else 0.31,
                p_holm=0.0009 if significant else 1.0,
                significant=significant,
                documents=40,
                needed=11,
            )
        )
    return Comparison(tuple(changes), summaries(changes), 2000, 0, True)


def summaries(changes: list[Change]) -> tuple[Summary, ...]:
    worst = max(changes, key=lambda change: change.change)
    mean = sum(change.change for change in changes) / len(changes)
    rare = [change.change for change in changes[-max(1, len(changes) // 3) :]]
    return (
        Summary("mean", mean, mean - 0.004, mean + 0.005, None),
        Summary("worst", worst.change, worst.low, worst.high, worst.language),
        Summary("low_resource", sum(rare) / len(rare), min(rare), max(rare), None),
        Summary("spread", 0.03, 0.02, 0.04, None),
    )


@pytest.fixture(scope="session")
def sample() -> ReportInput:
    return ReportInput(
        title="What half of the weights are worth",
        model="babel-mini",
        pressed=tuple(
            Pressed("wanda 0.5", name, comparison(name, list(SHARES), harm=harm), notes=(ZEROS,))
            for name, harm in HARM.items()
        ),
        shares={tag: share / 100 for tag, share in SHARES.items()},
        share_unit="tokens",
        share_source="babel-mini",
        manifest={"seed": 0, "recipe": {"method": "wanda", "pattern": "0.5"}},
        notes=("Two seeds agree within 0.3 %.",),
    )


LEDGER = {
    "parameters": 5_245_184,
    "bytes_dense": 10_490_368,
    "bytes_stored": 5_998_336,
    "bits_per_weight": 9.1487,
    "parts": [
        {"part": "blocks", "parameters": 3_145_728, "bytes_dense": 6_291_456,
         "bytes_stored": 1_671_168, "bits": 4.25},
        {"part": "embedding", "parameters": 2_097_152, "bytes_dense": 4_194_304,
         "bytes_stored": 4_322_560, "bits": 16.489},
        {"part": "other", "parameters": 2_304, "bytes_dense": 4_608,
         "bytes_stored": 4_608, "bits": 16.0},
    ],
}  # fmt: skip
PLACES = ("self_attn.q_proj+k_proj+v_proj", "self_attn.o_proj", "mlp.down_proj")


@pytest.fixture(scope="session")
def quantized(sample) -> ReportInput:
    """The same models, quantized: with ledgers, and shares beyond the calibration range."""
    pressed = []
    for place, (model, most) in enumerate(zip(sample.pressed, (0.004, 0.0011, 3e-4), strict=True)):
        random = np.random.default_rng(place)
        sites = {
            tag: {
                f"{block}.{name}": most * float(random.uniform()) * (2 if name[0] == "m" else 1)
                for block in range(4)
                for name in PLACES
            }
            for tag in SHARES
        }
        beyond = {tag: sum(each.values()) / len(each) for tag, each in sites.items()}
        pressed.append(
            replace(
                model,
                name="gptq 4 bits, group 64",
                notes=(UNPACKED,),
                ledger=LEDGER,
                beyond=beyond,
                sites=sites,
            )
        )
    return replace(sample, pressed=tuple(pressed))
