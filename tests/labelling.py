"""Small encoders with the head of a task, and labelled text of our own in three languages."""

from pathlib import Path
from typing import Any

import pico
import pyarrow
import torch
from pyarrow import parquet
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForTokenClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
)

from babelpress.models.open import Opened
from babelpress.text.labelled import Labelled

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TOPICS = ("travel", "health", "sports")
MODERN: dict[str, Any] = {
    **pico._SHAPE,
    "cls_token_id": 0,
    "sep_token_id": 1,
    "layer_types": ["full_attention", "sliding_attention"],
    "local_attention": 8,
}
DISTIL: dict[str, Any] = {
    "vocab_size": pico.VOCABULARY,
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 2,
}
OF_WORDS = {
    "bert": lambda more: BertForTokenClassification(BertConfig(**pico._ENCODER, **more)),
    "xlm_roberta": lambda more: XLMRobertaForTokenClassification(
        XLMRobertaConfig(**pico._ROBERTA, **more)
    ),
    "distilbert": lambda more: DistilBertForTokenClassification(DistilBertConfig(**DISTIL, **more)),
}
OF_TEXTS = {
    "bert": lambda more: BertForSequenceClassification(BertConfig(**pico._ENCODER, **more)),
    "xlm_roberta": lambda more: XLMRobertaForSequenceClassification(
        XLMRobertaConfig(**pico._ROBERTA, **more)
    ),
    "modernbert": lambda more: ModernBertForSequenceClassification(
        ModernBertConfig(**MODERN, **more)
    ),
}


def loud(model: Any, std: float = 0.3) -> Any:
    """Weights large enough that what is read matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=std)
    return model.eval()


def head(families: Any, family: str, labels: tuple[str, ...], seed: int = 5) -> Any:
    """A random model with a head for these labels."""
    torch.manual_seed(seed)
    more = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    return loud(families[family](more))


def bare(seed: int = 5) -> Any:
    """A random encoder without a head."""
    torch.manual_seed(seed)
    return loud(BertModel(BertConfig(**pico._ENCODER)))


def folder(path: Path, model: Any) -> str:
    """A model and its tokenizer as a folder."""
    model.save_pretrained(path)
    pico.tokenizer().save_pretrained(path)
    return str(path)


def opened(model: Any) -> Opened:
    """A model that is open."""
    return Opened("pico", model, pico.tokenizer(), torch.float32)


# Sentences of our own: who does something where.
WHO = ("Amina", "Juma wa Mbeya", "Neema", "Baraka", "Zawadi")
WHERE = ("Arusha", "Dar es Salaam", "Kano", "Ibadan")
DOES = ("alifika", "anaishi", "alilala")
# So unlike one another that a model of width 32 tells them apart after a few dozen steps.
TEXTS = {
    "travel": ("tttttt", "tttt tt"),
    "health": ("hhhhhh", "hhhh hh"),
    "sports": ("ssssss", "ssss ss"),
}


def sentences(number: int, tag: str = "swh_Latn", split: str = "train") -> list[Labelled]:
    """Tagged sentences, each another one."""
    found = []
    for place in range(number):
        who, where = WHO[place % len(WHO)].split(), WHERE[place % len(WHERE)].split()
        words = [*who, DOES[place % len(DOES)], *where, str(place)]
        labels = [
            *("I-PER" if k else "B-PER" for k in range(len(who))),
            "O",
            *("I-LOC" if k else "B-LOC" for k in range(len(where))),
            "O",
        ]
        found.append(Labelled(f"ner/{tag}/{split}-{place + 1}", tuple(words), tuple(labels)))
    return found


def topics(number: int, split: str = "train") -> list[Labelled]:
    """Texts with a topic each, every one another."""
    labels = list(TEXTS)
    found = []
    for place in range(number):
        label = labels[place % len(labels)]
        text = f"{TEXTS[label][place // len(labels) % 2]} {place}"
        found.append(Labelled(f"topic/{split}-{place}", (text,), (label,)))
    return found


def write_sentences(root: Path, sizes: dict[str, dict[str, int]]) -> str:
    """A folder of tagged sentences, so many by language and split."""
    for language, splits in sizes.items():
        (root / language).mkdir(parents=True, exist_ok=True)
        for split, number in splits.items():
            blocks = ["\n".join(each.text.split("\n")) for each in sentences(number)]
            text = "\n\n".join(blocks) + "\n"
            (root / language / f"{split}.txt").write_text(text, encoding="utf-8")
    return str(root)


def write_topics(root: Path, sizes: dict[str, dict[str, int]]) -> str:
    """A folder of texts with topics, so many by language and split."""
    for language, splits in sizes.items():
        (root / language).mkdir(parents=True, exist_ok=True)
        for split, number in splits.items():
            rows = [
                f"{split}-{place}\t{each.labels[0]}\t{each.words[0]}\n"
                for place, each in enumerate(topics(number, split))
            ]
            text = "index_id\tcategory\ttext\n" + "".join(rows)
            (root / language / f"{split}.tsv").write_text(text, encoding="utf-8")
    return str(root)


def write_numbers(root: Path, sizes: dict[str, dict[str, int]]) -> str:
    """A folder of texts with a feeling each, which is a number that nothing names."""
    for language, splits in sizes.items():
        (root / language).mkdir(parents=True, exist_ok=True)
        for split, number in splits.items():
            texts = [each.words[0] for each in topics(number, split)]
            columns = {"tweet": texts, "label": [place % 3 for place in range(number)]}
            parquet.write_table(pyarrow.table(columns), root / language / f"{split}.parquet")
    return str(root)


@torch.no_grad()
def slow_classes(model, tokenizer, documents, window):
    """Of each text alone: the label that is found, its probability, and whether it is right."""
    found = []
    for each in documents:
        ids = tokenizer(each.words[0], add_special_tokens=False)["input_ids"][: window - 2]
        p_C = model(torch.tensor([[0, *ids, 1]])).logits[0].double().softmax(0)
        best = int(p_C.argmax())
        right = TOPICS[best] == each.labels[0]
        found.append((TOPICS[best], p_C[best].item(), right))
    return found


@torch.no_grad()
def undecided(family, documents):
    """A model for which no label is likelier than another over all texts."""
    model = head(OF_TEXTS, family, TOPICS)
    texts = [each.words[0] for each in documents]
    ids = pico.tokenizer()(texts, add_special_tokens=False)["input_ids"]
    logits_DC = torch.stack([model(torch.tensor([[0, *each, 1]])).logits[0] for each in ids])
    *_, last = (each for each in model.modules() if getattr(each, "out_features", 0) == 3)
    last.weight.mul_(5 / logits_DC.std(0)[:, None])
    last.bias.copy_((last.bias - logits_DC.mean(0)) * 5 / logits_DC.std(0))
    return model
