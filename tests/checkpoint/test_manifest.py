import pytest

from farsighted_jax.checkpoint import manifest


@pytest.fixture
def folder(tmp_path):
    for name, content in {"a/one": b"123", "a/empty": b"", "b/two": b"45678", "top": b"9"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest.write(tmp_path, {"note": [1, 2]})
    return tmp_path


def test_intact_folder_passes(folder):
    body = manifest.read(folder)
    assert body["note"] == [1, 2] and set(body["files"]) == {"a/one", "a/empty", "b/two", "top"}
    manifest.verify_files(folder, body, ["a", "b"])
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name, other", [("a/one", "b"), ("b/two", "a")])
def test_each_fault_names_the_file_and_only_the_items_asked_for_are_read(folder, name, other):
    path, body = folder / name, manifest.read(folder)
    original = path.read_bytes()
    faults = {
        "content changed": lambda: path.write_bytes(b"X" + original[1:]),
        "bytes, expected": lambda: path.write_bytes(original[:-1]),
        "missing": path.unlink,
    }
    for word, inject in faults.items():
        inject()
        with pytest.raises(manifest.CorruptCheckpointError, match=f"{name}: .*{word}"):
            manifest.verify_files(folder, body, [name[0]])
        manifest.verify_files(folder, body, [other])
        path.write_bytes(original)


def test_extra_file_and_file_beside_the_items(folder):
    body = manifest.read(folder)
    (folder / "a" / "extra").write_bytes(b"")
    with pytest.raises(manifest.CorruptCheckpointError, match="a/extra: not in the manifest"):
        manifest.verify_files(folder, body, ["a"])
    (folder / "top").write_bytes(b"8")
    with pytest.raises(manifest.CorruptCheckpointError, match="top: content changed"):
        manifest.verify_files(folder, body, ["b"])


def test_every_flipped_bit_of_the_manifest_itself_is_seen(folder):
    path = folder / manifest.NAME
    original = path.read_bytes()
    for bit in range(0, len(original) * 8, 5):
        raw = bytearray(original)
        raw[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(raw)
        with pytest.raises(manifest.CorruptCheckpointError, match=manifest.NAME):
            manifest.read(folder)


def test_only_folders_with_a_manifest_are_complete_steps(tmp_path):
    assert manifest.complete_steps(tmp_path / "none") == []
    for name in ("3", "20", "7", "deleting-5", "9.tmp"):
        (tmp_path / name).mkdir()
        if name != "7":
            manifest.write(tmp_path / name, {})
    assert manifest.complete_steps(tmp_path) == [3, 20]
