"""Fixtures of many tests."""

import pico
import pytest
from killing import single_thread


@pytest.fixture
def one_thread():
    """Forked children must not touch OpenMP."""
    with single_thread():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A llama as a transformers folder; by its name it has the training shares of babel-mini."""
    folder = tmp_path_factory.mktemp("models") / "babel-mini-pico"
    pico.model().save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder
