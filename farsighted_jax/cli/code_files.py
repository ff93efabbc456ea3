"""Files of codes: what `farsighted encode` writes and `farsighted decode` reads, JSON or npz."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SUFFIXES = (".json", ".npz")


class CodeFileError(ValueError):
    """A file of codes cannot be used; the message names it and what is wrong."""


class CodeFile(NamedTuple):
    """Codes of the clips of one video.

    Attributes:
      model: digest, step and sizes of the model, see `clips.Model.describe`.
      source: name, hz and num_frames of the video.
      start_B: int[B] frame at which each clip begins.
      time_s_Bt: float[B, t] seconds from frame 0 to frame k.
      code_BtZ: int32[B, t, Z].
    """

    model: Mapping[str, Any]
    source: Mapping[str, Any]
    start_B: np.ndarray
    time_s_Bt: np.ndarray
    code_BtZ: np.ndarray


def check_suffix(path: Path) -> None:
    """Raises CodeFileError unless the name ends in one of `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise CodeFileError(f"{path}: codes are kept in a file that ends in one of {SUFFIXES}")


def write_codes(path: Path, codes: CodeFile, vectors: Mapping[str, np.ndarray]) -> None:
    """Writes codes; an npz also holds `vectors` ("encoded", "quantized" float32[B, t, Z, U])."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"model": dict(codes.model), "source": dict(codes.source)}
    if path.suffix == ".npz":
        arrays = {"start": codes.start_B, "time_s": codes.time_s_Bt, "code": codes.code_BtZ, **vectors}
        np.savez(path, about=np.array(json.dumps(about)), **arrays)
        return
    clips = [
        {
            "start": int(start),
            "start_s": round(int(start) / codes.source["hz"], 6),
            "time_s": [round(float(time), 6) for time in time_s_t],
            "codes": code_tZ.tolist(),
        }
        for start, time_s_t, code_tZ in zip(codes.start_B, codes.time_s_Bt, codes.code_BtZ, strict=True)
    ]
    # A clip a line: codes spread over a line each cannot be looked at.
    heads = [f' "{name}": {json.dumps(value)},' for name, value in about.items()]
    rows = ",\n".join(f"  {json.dumps(clip)}" for clip in clips)
    path.write_text("\n".join(["{", *heads, ' "clips": [', rows, " ]", "}"]) + "\n", encoding="utf-8")


def read_codes(path: Path, model: Mapping[str, Any]) -> CodeFile:
    """Reads codes for use with a model.

    Raises:
      CodeFileError: no such file, other content, or codes of another model.
    """
    check_suffix(path)
    try:
        codes = _read_npz(path) if path.suffix == ".npz" else _read_json(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CodeFileError(f"{path}: no codes as `farsighted encode` writes them: {error!r}") from error
    if (
        codes.code_BtZ.ndim != 3
        or codes.time_s_Bt.shape != codes.code_BtZ.shape[:2]
        or not len(codes.start_B)
    ):
        raise CodeFileError(
            f"{path}: codes of shape {codes.code_BtZ.shape} at times of shape {codes.time_s_Bt.shape}, "
            "expected [clips, t, slots] and [clips, t]"
        )
    if codes.model.get("digest") != model["digest"]:
        raise CodeFileError(
            f"{path}: codes of the model {str(codes.model.get('digest'))[:16]}, but the checkpoint is "
            f"{model['digest'][:16]}; encode again with this checkpoint"
        )
    return codes


def _read_npz(path):
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        return CodeFile(about["model"], about["source"], arrays["start"], arrays["time_s"], arrays["code"])


def _read_json(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    columns = [[clip[name] for clip in found["clips"]] for name in ("start", "time_s", "codes")]
    start, time_s, code = (np.array(column) for column in columns)
    return CodeFile(found["model"], found["source"], start, time_s.astype(np.float64), code.astype(np.int32))
