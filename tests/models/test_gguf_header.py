"""Headers of GGUF files, and files that are none."""

import struct

import gguf
import numpy as np
import pytest
from small import opened

from babelpress.errors import BadModel
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models import gguf_header
from babelpress.models.names import resolve


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A whole file."""
    folder = tmp_path_factory.mktemp("file")
    FORMATS.get("gguf")(Source("small", opened()), folder, kind="q8_0")
    return folder / "model.gguf"


def test_what_is_read_is_what_the_gguf_package_reads(path):
    header, reader = gguf_header.read(path), gguf.GGUFReader(path)

    fields = {name: each.contents() for name, each in reader.fields.items()}
    fields = {name: each for name, each in fields.items() if not name.startswith("GGUF.")}
    assert dict(header.metadata) == fields
    assert len(header.tensors) == len(reader.tensors)
    for each in reader.tensors:
        found = header.tensors[each.name]
        assert found.kind.name == each.tensor_type.name
        assert list(found.shape) == [int(n) for n in each.shape[::-1]]
        assert found.start == each.data_offset
    norm = next(each for each in reader.tensors if each.name == "output_norm.weight")
    assert header.floats("output_norm.weight") == tuple(norm.data.tolist())


def test_types_are_counted_by_part(path):
    found = gguf_header.read(path).kinds

    assert found["attn_q"] == {"Q8_0": 2}
    assert found["token_embd"] == {"Q8_0": 1}
    assert "attn_norm" not in found


@pytest.mark.parametrize("each", gguf_header.KINDS.values(), ids=lambda each: each.name)
def test_types_have_the_sizes_that_the_gguf_package_knows(each):
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[each.name]]

    assert (each.block, each.bytes) == (block, size)


def changed(path, folder, edit):
    """The file with other bytes."""
    made = folder / "changed.gguf"
    made.write_bytes(edit(path.read_bytes()))
    return made


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: b"GGML" + data[4:], "does not begin as GGUF does"),
        (lambda data: data[:0], "does not begin as GGUF does"),
        (lambda data: data[:10], "damaged or cut short in its header"),
        (lambda data: data[:700], "damaged or cut short in its header"),
        (lambda data: data[:-64], "cut short: its tensor"),
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], r"another kind \(version 1\)"),
        (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], r"another kind \(big-endian\)"),
        (lambda data: data[:16] + struct.pack("<Q", 1 << 60) + data[24:], "damaged or cut short"),
    ],
)
def test_a_damaged_file_is_one_line(edit, words, path, tmp_path):
    with pytest.raises(BadModel, match=words):
        resolve(str(changed(path, tmp_path, edit)))


def made(folder, tensors, **pairs):
    """A file with some keys and empty tensors."""
    writer = gguf.GGUFWriter(folder / "made.gguf", "llama")
    for key, value in pairs.items():
        if isinstance(value, str):
            writer.add_string(key.replace("_", "."), value)
        else:
            writer.add_uint16(key.replace("_", "."), value)
    for name, kind in tensors.items():
        writer.add_tensor(name, np.zeros((2, 8), dtype=np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "made.gguf"


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ({"split_count": 3}, "one of 3 files of a model.*--merge"),
        ({"general_type": "imatrix"}, "no model, but of kind imatrix"),
    ],
)
def test_a_part_or_another_thing_than_a_model_is_one_line(pairs, words, tmp_path):
    with pytest.raises(BadModel, match=words):
        gguf_header.read(made(tmp_path, {}, **pairs))


@pytest.mark.parametrize(("count", "words"), [(3, "one of 3 files"), ("3", "one of 3 files")])
def test_a_part_after_the_first_is_one_line(count, words, tmp_path):
    """llama-gguf-split writes nothing but split.* into them."""
    key, kind = (b"split.count", 8 if isinstance(count, str) else 2)
    value = struct.pack("<Q", 1) + count.encode() if kind == 8 else struct.pack("<H", count)
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value
    (tmp_path / "m-00002-of-00003.gguf").write_bytes(
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair + bytes(64)
    )

    with pytest.raises(BadModel, match=rf"{words} of a model \(split\.count\).*--merge"):
        gguf_header.read(tmp_path / "m-00002-of-00003.gguf")


def test_a_file_by_another_name_says_how_to_name_it(path, tmp_path):
    (tmp_path / "model").write_bytes(path.read_bytes()[:64])

    with pytest.raises(BadModel, match=r"GGUF file by another name.*link it to model\.gguf"):
        resolve(str(tmp_path / "model"))


def test_a_mistyped_path_is_not_asked_of_the_hub():
    with pytest.raises(BadModel, match=r"no such file: served/modle\.gguf"):
        resolve("served/modle.gguf")


def test_a_type_that_is_not_known_is_named(tmp_path):
    with pytest.raises(BadModel, match=r"keeps blk\.0 in a type that is not known.*number 24"):
        gguf_header.read(made(tmp_path, {"blk.0": gguf.GGMLQuantizationType.I8}))


def test_a_folder_with_a_file_names_it(path):
    with pytest.raises(BadModel, match=r"no config\.json.*Give the file: .*model\.gguf"):
        resolve(str(path.parent))


def test_a_file_that_changes_is_read_again(path, tmp_path):
    copy = changed(path, tmp_path, lambda data: data)
    before = gguf_header.read(copy)
    copy.write_bytes(path.read_bytes() + b"more")

    assert gguf_header.read(copy) is not before
