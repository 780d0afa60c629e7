"""What paths say of language and split, in the layouts that people have."""

import pytest

from babelpress.text.languages import known
from babelpress.text.paths import said


def language(name):
    found = known(name)
    return found.tag if found else None


@pytest.mark.parametrize(
    ("path", "tag", "split"),
    [
        ("sw", "swh_Latn", None),
        ("Swahili", "swh_Latn", None),
        ("sw-KE", "swh_Latn", None),
        ("es-419", "spa_Latn", None),
        ("20231101.yo/train-00000-of-00001", "yor_Latn", "train"),
        ("yo-00003-of-00010", "yor_Latn", None),
        ("de/train", "deu_Latn", "train"),
        ("de/Validation", "deu_Latn", "valid"),
        ("data/sw_ke/dev/0", "swh_Latn", "valid"),
        ("data/yue_hant_hk/test/0000", "yue_Hant", "test"),
        ("train/sw", "swh_Latn", "train"),
        ("sw.train", "swh_Latn", "train"),
        ("swa_test", "swh_Latn", "test"),
        ("dev-ha", "hau_Latn", "valid"),
        ("flores/swh_Latn.devtest", "swh_Latn", "test"),
        ("old/sw", "swh_Latn", None),
        ("sw/wiki", "swh_Latn", None),
    ],
)
def test_the_name_nearest_to_the_file_decides(path, tag, split):
    found = said(path, language)

    assert found is not None
    assert (found.tag, found.split) == (tag, split)


@pytest.mark.parametrize("path", ["train", "data/all", "raw/test-00000-of-00001", "swahilli", "0"])
def test_what_names_no_language_says_nothing(path):
    assert said(path, language) is None


def test_files_of_one_folder_are_said_by_it_and_shards_by_their_common_name():
    def found(path):
        what = said(path, language)
        assert what is not None
        return what

    assert {found(f"x/sw/{part}").by for part in ("train", "a", "b/c")} == {"x/sw/"}
    assert {found(f"sw-0000{n}-of-00002").by for n in (0, 1)} == {"sw"}
    assert found("en-GB").variety == "GB"
