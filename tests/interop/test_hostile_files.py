"""Checkpoint files that are broken or mean harm: the right numbers or a UserError, within a bound on memory; no code is run."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import transformers
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from xmodal_jax.errors import UserError
from xmodal_jax.interop import files
from xmodal_jax.interop.files import INDEX, header, tensors_of
from xmodal_jax.interop.pretrained import from_config, load_pretrained, plausible, read_config, save_pretrained
from xmodal_jax.interop.processing import load_tokenizer, pinned, read_json
from xmodal_jax.interop.trees import leaves

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.weight": np.arange(4, dtype=np.int64), "none": np.zeros((0, 3)),
    "c": np.array([True, False]), "d": np.full((2, 2), 7, np.float16),
}  # fmt: skip


def parts_of(path):
    """(header as a dictionary, data) of a file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write(path, head, data, length=None):
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes((len(head) if length is None else length).to_bytes(8, "little") + head + data)


@pytest.fixture
def file(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def test_a_whole_file_is_read_array_by_array(file):
    found = header(str(file))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].read(), array)


@pytest.mark.parametrize(
    "change",
    [
        {"a": {"data_offsets": [-24, 0]}},
        {"a": {"data_offsets": [0, 12]}},
        {"a": {"data_offsets": [24, 0]}},
        {"a": {"data_offsets": [8, 32]}},  # overlaps
        {"a": {"data_offsets": [True, 24]}},
        {"a": {"data_offsets": [0.0, 24.0]}},
        {"a": {"data_offsets": [0]}},
        {"a": {"data_offsets": None}},
        {"a": {"data_offsets": {"0": 0, "1": 24}}},
        {"a": {"shape": [3, 3]}},
        {"a": {"shape": [-2, -3]}},
        {"a": {"shape": [6.0]}},
        {"a": {"shape": "23"}},
        {"a": {"shape": [10**30, 0]}},
        {"a": {"shape": [1] * 3000}},
        {"a": {"dtype": "F33"}},
        {"a": {"dtype": ["F32"]}},
        {"a": {"dtype": "F16"}},
        {"a": 5},
        {"a": None},
        {"a": []},
        {"e": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},  # the same bytes twice
        {"e": {"dtype": "U8", "shape": [8], "data_offsets": [62, 70]}},  # behind the end
        {"d": None},
    ],
)
def test_malformed_headers_are_refused(file, change):
    head, data = parts_of(file)
    for name, about in change.items():
        old = head.get(name)
        head[name] = {**old, **about} if isinstance(about, dict) and isinstance(old, dict) else about
    write(file, head, data)
    with pytest.raises(UserError, match="model.safetensors is not a whole safetensors file"):
        tensors_of(file.parent)


def test_files_that_are_no_row_of_header_and_data(file):
    head, data = parts_of(file)
    text = json.dumps(head).encode()
    twice = text[:-1] + b', "a": ' + json.dumps(head["a"]).encode() + b"}"
    removed = {name: about for name, about in head.items() if name != "b.weight"}
    deep = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    broken = [
        (twice, data, None), (removed, data, None), (head, data + b"more", None), (head, data[:-1], None), (deep, data, None),
        (text, data, 0), (text, data, 1), (text, data, 2**63), (text, data, len(text) + len(data) + 1), (b"[1]", b"", None),
        (b"null", b"", None), (b"\xff\xfe{}", b"", None), (b'{"a":' + b"9" * 5000 + b"}", b"", None), (b"{}", b"x", None),
    ]  # fmt: skip
    for head, data, length in broken:
        write(file, head, data, length)
        with pytest.raises(UserError, match="not a whole safetensors file"):
            header(str(file))
    for content in (b"", b"\2\0", b"\2\0\0\0\0\0\0\0{"):
        file.write_bytes(content)
        with pytest.raises(UserError, match="not a whole safetensors file"):
            header(str(file))
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match="no regular file"):
        header(str(file))


def test_a_sparse_header_of_gigabytes_is_not_read(file, monkeypatch):
    with open(file, "wb") as sparse:
        sparse.write((3 << 30).to_bytes(8, "little"))
        sparse.truncate((3 << 30) + 8)
    monkeypatch.setattr(files.json, "loads", lambda *a, **k: pytest.fail("the header is read"))
    with pytest.raises(UserError, match="a header of 3,221,225,472 bytes"):
        header(str(file))


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "5", '{"metadata": {}}', '{"weight_map":', '{"weight_map": []}', '{"weight_map": {}}',
        '{"weight_map": null}',
        '{"weight_map": {"a": 5}}', '{"weight_map": {"a": ["x.safetensors"]}}', '{"weight_map": {"a": "../x.safetensors"}}',
        '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": "."}}', '{"weight_map": {"a": ""}}',
        '{"weight_map": {"a": "sub/x.safetensors"}}', '{"weight_map": {"a": "..\\\\x.safetensors"}}',
        '{"weight_map": {"a": "weights.bin"}}', '{"weight_map": {"a": "missing.safetensors"}}',
        '{"weight_map": {"other": "x.safetensors"}}', '{"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}',
        "[" * 100_000, "\ud800",
    ],
)  # fmt: skip
def test_broken_indexes_are_refused_and_nothing_outside_the_folder_is_read(tmp_path, content):
    outside = tmp_path / "x.safetensors"
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for place in (outside, folder / "x.safetensors", folder / "y.safetensors"):
        save_file({"a": np.zeros(2, np.float32)}, place)
    (folder / INDEX).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="model.safetensors.index.json|missing.safetensors is missing"):
        tensors_of(folder)


def test_shards_are_read_by_their_index(tmp_path):
    save_file({"a": ARRAYS["a"]}, tmp_path / "x.safetensors")
    save_file({"c": ARRAYS["c"]}, tmp_path / "y.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "x.safetensors", "c": "y.safetensors"}}))
    assert {name: tensor.read().tolist() for name, tensor in tensors_of(tmp_path).items()} == {
        "a": ARRAYS["a"].tolist(), "c": ARRAYS["c"].tolist(),
    }  # fmt: skip


def mutated(rng, head, data):
    """A file with a changed header, byte, length or end."""
    text = bytearray(json.dumps(head).encode())
    kind, length = rng.randrange(7), None
    if kind == 0:
        for _ in range(rng.choice([1, 1, 4])):
            text[rng.randrange(len(text))] = rng.choice(b'0123456789-{}[]",:.eEaFI \\\xff')
    elif kind == 1:
        numbers = [i for i, byte in enumerate(text) if byte in b"0123456789"]
        text[rng.choice(numbers)] = rng.choice(b"0123456789")
    elif kind == 2:
        name = rng.choice([name for name in head if name != "__metadata__"])
        key = rng.choice(["dtype", "shape", "data_offsets"])
        value = rng.choice([None, [], [0], [0, 24], [24, 56], [2**62, 0], "F32", "BOOL", "F64", [3, 2], {}, [[1]], -1, 1e300])
        text = bytearray(json.dumps({**head, name: {**head[name], key: value}}).encode())
    elif kind == 3:
        length = rng.choice([0, len(text) - 1, len(text) + 1, rng.randrange(2**64), rng.randrange(200)])
    elif kind == 4:
        data = data[: rng.randrange(len(data))]
    elif kind == 5:  # harmless: another order, and blanks behind it
        text = bytearray(json.dumps(dict(rng.sample(list(head.items()), len(head)))).encode() + b" " * rng.randrange(9))
    else:
        start = rng.randrange(len(text))
        text[start : start + rng.randrange(30)] = b""
    return bytes(text), data, length


def try_mutated(folder, seed, count):
    """Read mutated files: what is accepted has the numbers that the reference reads."""
    rng, found = random.Random(seed), {"read": 0, "refused": 0}
    path = folder / "model.safetensors"
    save_file(ARRAYS, path, metadata={"format": "pt"})
    head, data = parts_of(path)
    for _ in range(count):
        write(path, *mutated(rng, head, data))
        try:
            arrays = {name: tensor.read() for name, tensor in tensors_of(folder).items()}
        except UserError:
            found["refused"] += 1
            continue
        try:
            expected = load_file(path)
        except SafetensorError as error:
            raise AssertionError(f"{path.read_bytes()[8:400]} is read, which the reference refuses: {error}") from error
        assert arrays.keys() == expected.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name])
            assert array.dtype == expected[name].dtype
        found["read"] += 1
    return found


def test_mutated_files_give_the_numbers_of_the_reference_or_are_refused(tmp_path):
    found = try_mutated(tmp_path, 0, 300)
    assert found["read"] > 10 and found["refused"] > 100


def mutated_index(rng, places):
    """Text of an index with some bytes changed, a piece left out, or a name or a place that is another one."""
    if rng.random() < 0.5:
        raw = bytearray(json.dumps({"weight_map": places}).encode())
        for _ in range(rng.choice([1, 1, 4])):
            raw[rng.randrange(len(raw))] = rng.choice(b'0123456789-{}[]",:./xya\\\0\xff')
        start = rng.randrange(len(raw))
        return bytes(raw[:start] + raw[start + rng.choice([0, 0, 1, 20]) :])
    name = rng.choice(list(places))
    others = ["y.safetensors", "x.safetensors", "../x.safetensors", "/x.safetensors", "z" * 300, "", None, 5, [], {}, "\0"]
    kept = dict(rng.sample(list(places.items()), rng.choice([4, 5, 5])))  # in another order, or without one
    changed = kept if rng.random() < 0.5 else {**kept, rng.choice([name, "other", "a"]): rng.choice(others)}
    return json.dumps({rng.choice(["weight_map"] * 5 + ["weight_maps"]): changed}).encode()


def try_indexes(folder, seed, count):
    """Read shards by mutated indexes: what is accepted has all names of the index, and the numbers that were written."""
    rng, found = random.Random(seed), {"read": 0, "refused": 0}
    save_file({"outside": ARRAYS["a"]}, folder / "x.safetensors")
    folder = folder / "shards"
    folder.mkdir()
    shards = {"x.safetensors": ["a", "none", "d"], "y.safetensors": ["b.weight", "c"]}
    for name, arrays in shards.items():
        save_file({array: ARRAYS[array] for array in arrays}, folder / name)
    places = {array: name for name, arrays in shards.items() for array in arrays}
    for _ in range(count):
        (folder / INDEX).write_bytes(mutated_index(rng, places))
        try:
            arrays = {name: tensor.read() for name, tensor in tensors_of(folder).items()}
        except UserError:
            found["refused"] += 1
            continue
        assert arrays.keys() >= json.loads((folder / INDEX).read_bytes())["weight_map"].keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, ARRAYS[name])
        found["read"] += 1
    return found


def test_mutated_indexes_give_the_numbers_that_were_written_or_are_refused(tmp_path):
    assert min(try_indexes(tmp_path, 0, 300).values()) > 30


WITHIN = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import test_hostile_files as tried
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before = peak()
tried.try_mutated(pathlib.Path(sys.argv[2]), 1, 2000)
indexed = pathlib.Path(sys.argv[2]) / "indexed"
indexed.mkdir()
tried.try_indexes(indexed, 1, 2000)
path = pathlib.Path(sys.argv[2]) / "model.safetensors"
many = b",".join(b'"%d":[]' % i for i in range(1_200_000))
for head in (b"{" + b'"a":0,' * 2_500_000 + b'"b":0}', b'{"a":' + b"[" * 16_000_000, b"{" + many + b"}"):
    tried.write(path, head, b"")
    try:
        tried.header(str(path))
    except tried.UserError:
        pass
print(peak() - before)
"""


@pytest.mark.slow
def test_mutated_and_huge_headers_stay_within_the_stated_bound(tmp_path):
    command = [sys.executable, "-c", WITHIN, os.path.dirname(__file__), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(said.stdout.split()[-1]) < 512 * 2**20


@pytest.mark.parametrize("content", ["", "[]", "5", "null", '{"a": ', "[" * 100_000, '{"a":' * 100_000, "\ud800", "[[1, 2]]"])
def test_json_files_that_are_no_objects_are_refused(tmp_path, content):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogatepass"))
        with pytest.raises(UserError, match=name):
            read_json(tmp_path, name)
    with pytest.raises(UserError, match="config.json"):
        read_config(str(tmp_path))
    (tmp_path / "tokenizer.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="no tokeniser"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("change", [{"num_labels": 10**9}, {"num_hidden_layers": 10**8}, {"text_config": {"num_layers": 10**7}},
                                    {"hidden_size": 10**12}, {"n_layer": -(10**7)}])  # fmt: skip
def test_sizes_that_no_model_has_are_refused_before_anything_is_made(tmp_path, change):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **change}))
    with pytest.raises(UserError, match="no size of a model"):
        read_config(str(tmp_path))
    plausible({"vocab_size": 250_000, "num_labels": 21_843, "layers": [3, 4], "max_position_embeddings": 131_072}, "here")


CODE = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass C:\n    pass\n"


@pytest.mark.parametrize("model_type", ["strange", "bert"])
def test_code_in_a_folder_is_never_run(tmp_path, model_type, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks whether to run code"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    maps = {"AutoConfig": "code.C", "AutoTokenizer": ["code.C", None], "AutoModel": "code.C"}
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "auto_map": maps}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "C", "auto_map": maps}))
    if model_type == "strange":
        with pytest.raises(UserError):
            read_config(str(tmp_path))
    else:
        assert read_config(str(tmp_path)).model_type == "bert"
    with pytest.raises(UserError):
        load_tokenizer(str(tmp_path))
    assert not list(tmp_path.rglob("ran"))


def test_a_revision_of_a_name_on_the_hub_can_be_pinned(tmp_path, monkeypatch):
    assert pinned("google/vit@0123abc") == ("google/vit", {"revision": "0123abc"})
    assert pinned("google/vit") == ("google/vit", {})
    assert pinned("vit@refs/pr/3") == ("vit", {"revision": "refs/pr/3"})
    (tmp_path / "a@b").mkdir()
    assert pinned(str(tmp_path / "a@b")) == (str(tmp_path / "a@b"), {})


TINY = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
VALUES = [0, -1, 1, 2, 10**6, 10**9, 10**12, 1e300, None, "x", "", [], [0], {}, True, False, "gelu", [1, 2], 0.5]


def mutated_config(rng, values):
    """A config.json with a few values changed or left out, or with other bytes."""
    if rng.random() < 0.2:
        raw = bytearray(json.dumps(values).encode())
        for _ in range(rng.choice([1, 3])):
            raw[rng.randrange(len(raw))] = rng.choice(b'0123456789{}[]",:x')
        return raw.decode("latin-1")
    changed = json.loads(json.dumps(values))
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice(list(changed))
        changed[name] = rng.choice(VALUES)
        if rng.random() < 0.15:
            del changed[name]
    return json.dumps(changed)


def try_configs(folder, seed, count):
    """Load checkpoints whose config.json is mutated: the same numbers, or a UserError."""
    rng, found = random.Random(seed), {"read": 0, "refused": 0}
    configs = {
        "vit": transformers.ViTConfig(**TINY, image_size=16, patch_size=8),
        "bert": transformers.BertConfig(**TINY, vocab_size=60, max_position_embeddings=20),
        "gpt2": transformers.GPT2Config(vocab_size=60, n_positions=20, n_embd=16, n_layer=1, n_head=2),
    }
    whole = {}
    for name, config in configs.items():
        save_pretrained(folder / name, *from_config(config))
        whole[name] = leaves(load_pretrained(folder / name).params)
    for number in range(count):
        name = list(configs)[number % len(configs)]
        file = folder / name / "config.json"
        text = file.read_text()
        file.write_text(mutated_config(rng, json.loads(text)), encoding="utf-8")
        try:
            arrays = leaves(load_pretrained(folder / name).params)
            found["read"] += 1
            for path, array in arrays.items():
                if array.shape == whole[name][path].shape:  # heads can be split otherwise
                    np.testing.assert_array_equal(array, whole[name][path])
        except UserError:
            found["refused"] += 1
        file.write_text(text)
    return found


@pytest.mark.slow
def test_many_mutated_configs_give_the_same_numbers_or_are_refused(tmp_path):
    assert min(try_configs(tmp_path, 1, 600).values()) > 50
