"""A head for a task on an encoder: labels of words, or of whole texts.

The body is that of the model, number by number; the head is new and random, but where the model has
one of the same kind with the same labels: then that stays too.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import accepted
from babelpress.models.quiet import quiet
from babelpress.system.processor import attention

OF_WORDS, OF_TEXTS = "ForTokenClassification", "ForSequenceClassification"
POOLER = "pooler."  # what one head needs of a body and another does not


def with_head(
    model: PreTrainedModel, kind: str, labels: Sequence[str], *, seed: int = 0
) -> tuple[PreTrainedModel, bool]:
    """The model in float32 with a head of a kind (OF_WORDS or OF_TEXTS), and whether it had it.

    Raises BadModel for a model that is no encoder, or of a family without such a head.
    """
    name = type(model).__name__
    check_encoder(name, model.config.to_dict())
    config = deepcopy(model.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = None
    loader: Any = getattr(transformers, accepted.HEADS[kind][0])
    if type(config) not in loader._model_mapping:
        raise BadModel(
            f"{name} is of a family that has no head for this task (…{kind}). Give XLM-R, BERT, "
            "DistilBERT, ModernBERT or their like."
        )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        made: Any = loader.from_config(
            config, dtype=torch.float32, attn_implementation=attention(str(model.device))
        )
    had = type(made).__name__ == type(model).__name__ and model.config.id2label == config.id2label
    _copy_body(model, made)
    if had:
        made.load_state_dict(model.state_dict())
    return made.to(model.device).eval(), had


def check_encoder(name: str, config: dict[str, Any]) -> None:
    """Raise BadModel for the config of a model that is no encoder."""
    if not accepted.encodes(config):
        raise BadModel(
            f"{name} is no encoder ({config.get('model_type', 'of no type')}), and a head for a "
            "task is put on those. Give XLM-R, BERT or their like."
        )


@torch.no_grad()
def _copy_body(model: PreTrainedModel, made: PreTrainedModel) -> None:
    body: Any = made.base_model
    source: Any = model.base_model
    missing, unexpected = body.load_state_dict(source.state_dict(), strict=False)
    odd = [each for each in (*missing, *unexpected) if not each.startswith(POOLER)]
    if odd:
        raise BadModel(
            f"the body of {type(made).__name__} is another one than that of {type(model).__name__} "
            f"({odd[0]} first), so no head can be put on it."
        )
