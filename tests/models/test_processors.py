"""Settings of processors go along with a model that sees images."""

import pico
import pytest

from babelpress.errors import BadRun
from babelpress.models.open import open_model
from babelpress.models.processors import copy_processors

WORDS = '{"image_mean":  [0.25, 0.5, 0.75]}\n'  # in an order and with spaces of its own


@pytest.fixture
def folder(tmp_path):
    """A model that sees images, with settings of its processor."""
    pico.seeing("gemma3").save_pretrained(tmp_path / "model")
    pico.tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text(WORDS)
    return tmp_path / "model"


def test_files_are_copied_byte_for_byte_and_those_that_are_not_there_are_not_missed(
    folder, tmp_path
):
    (tmp_path / "new").mkdir()

    copy_processors(open_model(str(folder)).model, tmp_path / "new")

    assert [path.name for path in (tmp_path / "new").iterdir()] == ["preprocessor_config.json"]
    assert (tmp_path / "new" / "preprocessor_config.json").read_text() == WORDS


def test_a_model_of_text_alone_has_none(folder, tmp_path):
    (tmp_path / "new").mkdir()
    model = pico.model()
    model.config._name_or_path = str(folder)

    copy_processors(model, tmp_path / "new")

    assert not any((tmp_path / "new").iterdir())


def test_a_disk_that_refuses_is_one_line(folder, tmp_path):
    with pytest.raises(BadRun, match=r"cannot write .*preprocessor_config\.json"):
        copy_processors(open_model(str(folder)).model, tmp_path / "nowhere")
