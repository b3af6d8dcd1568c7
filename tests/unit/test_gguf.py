"""GGUF headers, made here value by value: what is read, what is passed over, and what a broken one says."""

from __future__ import annotations

import io
import random
import struct

import pytest
from gguf_files import TYPES, GgufFile

from orchestrator.clients import gguf
from orchestrator.errors import MigrateError


def parse(data, **bound):
    return gguf.parse(io.BytesIO(data), **bound)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", [2, 3])
def test_every_value_type_in_either_byte_order(order, version):
    values = {"u8": 200, "i8": -5, "u16": 60000, "i16": -300, "u32": 4_000_000_000, "i32": -7, "f32": 0.5,
              "bool": True, "str": "grüß", "u64": 2**63, "i64": -(2**40), "f64": 1e-6}
    made = GgufFile(order=order, version=version)
    for kind, value in values.items():
        made.add(f"x.{kind}", kind, value)
    made.array("x.kv", "i32", [8, 0, 8])
    found = parse(made.bytes())
    assert {key.removeprefix("x."): value for key, value in found.values.items()} == {**values, "kv": [8, 0, 8]}
    assert (found.version, found.lengths, found.complete) == (version, {"x.kv": 3}, True)


def test_long_arrays_keep_only_their_length():
    made = GgufFile()
    made.array("tokenizer.ggml.tokens", "str", [f"t{n}" for n in range(5000)])
    made.array("tokenizer.ggml.scores", "f32", [0.0] * 5000)
    made.add("last", "u32", 7)
    found = parse(made.bytes())
    assert found.values == {"tokenizer.ggml.tokens": None, "tokenizer.ggml.scores": None, "last": 7}
    assert found.lengths == {"tokenizer.ggml.tokens": 5000, "tokenizer.ggml.scores": 5000}


def test_tensor_bytes_are_those_of_whole_blocks():
    made = GgufFile()
    made.tensor("a", (256, 4), 12).tensor("b", (7,), 0).tensor("c", (64, 3), 8)
    found = parse(made.bytes())
    assert [(one.name, one.type, one.bytes) for one in found.tensors] == [
        ("a", "Q4_K", 4 * 144), ("b", "F32", 28), ("c", "Q8_0", 6 * 34)]
    assert found.weights == 4 * 144 + 28 + 6 * 34
    assert parse(made.tensor("new", (1,), 99).bytes()).weights is None


def test_quantisation_by_file_type():
    assert parse(GgufFile().add("general.file_type", "u32", 15).bytes()).quantization == "Q4_K_M"
    assert parse(GgufFile().add("general.file_type", "u32", 9999).bytes()).quantization == ""


def test_a_float_that_json_has_not_becomes_none():
    assert parse(GgufFile().add("x", "f32", float("nan")).bytes()).values == {"x": None}


def test_a_table_behind_the_bound_is_cut_and_said():
    made = GgufFile().add("general.architecture", "str", "llama")
    for number in range(200):
        made.tensor(f"blk.{number}", (32,), 0)
    found = parse(made.bytes(), limit=4096)
    assert not found.complete
    assert found.weights is None
    assert 0 < len(found.tensors) < 200


HUGE = struct.pack("<Q", 2**62)


@pytest.mark.parametrize(("data", "why"), [
    (b"", "ends after 0 bytes"),
    (b"GGML" + bytes(20), "b'GGML'"),
    (b"GGUF" + struct.pack("<I", 1) + bytes(16), "version is 1"),
    (b"GGUF" + struct.pack("<IQQ", 3, 0, 5), "within its header"),
    (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "within its header"),
    (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + HUGE, "goes on behind"),
    (GgufFile().raw("k", struct.pack("<I", 77)).bytes(), "type 77"),
    (GgufFile().raw("k", struct.pack("<II", 9, 8) + HUGE).bytes(), "does not fit"),
    (GgufFile().raw("k", struct.pack("<II", 9, 9) + HUGE).bytes(), "does not fit"),
    (GgufFile().raw("k", struct.pack("<II", 9, 77) + HUGE).bytes(), "type 77"),
    (GgufFile().raw("k", struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9).bytes(), "nest deeper"),
    (GgufFile().tensor("t", (1,) * 9, 0).bytes(), "9 dimensions"),
])
def test_malformed_says_why(tmp_path, data, why):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(MigrateError) as caught:
        gguf.read(path)
    assert why in caught.value.message


def test_mangled_headers_never_do_worse_than_an_error():
    made = GgufFile().add("general.architecture", "str", "llama").array("t", "str", ["a"] * 1500)
    whole = made.tensor("a", (256, 4), 12).bytes()
    dice = random.Random(7)
    refused = 0
    for _ in range(400):
        data = bytearray(whole[: dice.randrange(len(whole))] if dice.random() < 0.3 else whole)
        for _ in range(dice.randrange(1, 6)):
            if data:
                data[dice.randrange(min(len(data), 120))] = dice.randrange(256)
        try:
            parse(bytes(data))
        except (gguf.Malformed, gguf.BeyondBound):
            refused += 1
    assert refused > 100


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(MigrateError, match="cannot read"):
            gguf.read(path)


def test_the_maker_knows_every_type():
    assert sorted(TYPES) == ["bool", "f32", "f64", "i16", "i32", "i64", "i8", "str", "u16", "u32", "u64", "u8"]
