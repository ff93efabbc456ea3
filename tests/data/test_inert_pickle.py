"""Pickled annotations are read without being unpickled."""

import os

import numpy as np
import pytest

from data_pipelines.builders.inert_pickle import npy_object
from data_pipelines.errors import DatasetError

VALUE = {
    "language": {"ann": ["open the drawer", "öffne"] * 300, "emb": np.ones((2, 3), np.float32)},
    "info": {"indx": [(1, 64), (np.int64(70000), np.int32(-2)), np.array([3, 4])], "none": [None, True, 0.5]},
}


def saved(path, value):
    np.save(path, np.array(value, dtype=object))
    return path


def test_plain_values_come_back(tmp_path):
    found = npy_object(saved(tmp_path / "x.npy", VALUE))
    assert found["language"]["ann"] == VALUE["language"]["ann"]
    assert found["info"] == {"indx": [(1, 64), (70000, -2), [3, 4]], "none": [None, True, 0.5]}
    assert "_reconstruct" in repr(found["language"]["emb"])
    assert npy_object(saved(tmp_path / "y.npy", [[1, "a"], [2, "b"]])) == [1, "a", 2, "b"]


class Calls:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_it_is_called(tmp_path):
    victim = tmp_path / "made"
    found = npy_object(saved(tmp_path / "x.npy", {"a": Calls(victim)}))
    assert not victim.exists() and "mkdir" in repr(found["a"])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"nothing", "magic string"),
        (None, "array of float64, expected one object"),
        (b"\x80\x04\x8f.", "opcode EMPTY_SET"),
        (b"\x80\x04]", "pickle exhausted|no end"),
        (b"\x80\x04a.", "IndexError"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, match):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3))
    if content is not None:
        head = saved(path, {}).read_bytes()
        path.write_bytes(head[: head.index(b"\x80")] + content if content[:1] == b"\x80" else content)
    with pytest.raises(DatasetError, match=rf"x\.npy: cannot be read as plain values: .*({match})"):
        npy_object(path)
