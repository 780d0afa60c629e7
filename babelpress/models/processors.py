"""What lies beside a model that also sees or hears: the settings of its processors, file by file."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils import cached_file

from babelpress.errors import BadRun

FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def copy_processors(model: PreTrainedModel, folder: Path) -> None:
    """Copy them, byte for byte, from where a model was opened; a model of text alone has none.

    Raises BadRun where the disk refuses.
    """
    if model.config.get_text_config() is model.config:
        return
    for name in FILES:
        found = cached_file(
            model.name_or_path,
            name,
            revision=getattr(model.config, "_commit_hash", None),
            _raise_exceptions_for_missing_entries=False,
        )
        if found is None:
            continue
        try:
            shutil.copyfile(found, folder / name)
        except OSError as error:
            raise BadRun(f"cannot write {folder / name}: {error.strerror}.") from error
