"""What lies beside a model that also sees or hears: the settings of its processors."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from babelpress.errors import BadRun

FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def copy_processors(model: PreTrainedModel, folder: Path) -> None:
    """Copy them, byte for byte, from where a model was opened; a model of text alone has none.

    Of a hub's model those that cannot be reached now are left out: no weight hangs on them.
    Raises BadRun where the disk refuses.
    """
    source = model.name_or_path
    if not source or model.config.get_text_config() is model.config:
        return
    for name in FILES:
        found = cached_file(
            source,
            name,
            revision=getattr(model.config, "_commit_hash", None),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is None:
            continue
        try:
            shutil.copyfile(found, folder / name)
        except OSError as error:
            raise BadRun(f"cannot write {folder / name}: {error.strerror}.") from error
