"""Writes safetensors files, right ones and wrong ones, without the package."""

import json

KINDS = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}


def header_of(arrays):
    """name -> header line; the arrays lie one after the other."""
    header, position = {}, 0
    for name, array in arrays.items():
        end = position + array.nbytes
        kind = KINDS[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    return header


def write_safetensors(path, arrays, header=None, tail=b""):
    """Writes arrays in order under `header`, a dict or text, by default the right one."""
    header = header_of(arrays) if header is None else header
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    data = b"".join(array.tobytes() for array in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data + tail)


def write_shards(folder, shards, weight_map=None):
    """Writes {file: arrays} and their index; returns the path of the index."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, arrays in shards.items():
        write_safetensors(folder / file, arrays)
    if weight_map is None:
        weight_map = {name: file for file, arrays in shards.items() for name in arrays}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index
