"""Where a release is: a folder, behind a URI, or in a repository of the Hugging Face hub; brought here.

Of a remote release the copy of the weights for other programs is left where it
is. What is here already is not fetched again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from etils import epath

from data_pipelines.cache import user_folder
from farsighted_jax.checkpoint import manifest
from farsighted_jax.checkpoint.release import LOOSE, ReleaseError

HUB = "hf://"

_REPOSITORY = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")

# (repository, revision, None for the main branch) -> folder on this machine.
Fetch = Callable[[str, str | None], str | os.PathLike]


def local_folder(place: str | os.PathLike, *, fetch: Fetch | None = None, cache: Path | None = None) -> Path:
    """The folder of a release on this machine.

    Args:
      place: a folder; a URI such as gs://bucket/folder; or hf://owner/name, with
        @revision for a branch, tag or commit.
      fetch: brings a repository here, in place of the hub's own client.
      cache: folder for what comes from a URI; in the user's cache by default.

    Raises:
      ReleaseError: nothing there, no such form, or it could not be fetched.
    """
    place = os.fspath(place)
    if place.startswith(HUB):
        match = _REPOSITORY.fullmatch(place.removeprefix(HUB))
        if not match:
            raise ReleaseError(f"{place!r} is not of the form hf://owner/name or hf://owner/name@revision")
        return Path((fetch or _from_hub)(match["name"], match["revision"]))
    if "://" in place:
        return _from_uri(place, cache or user_folder() / "releases")
    if not Path(place).is_dir():
        raise ReleaseError(f"{place}: no such folder; expected a release, gs://... or hf://owner/name")
    return Path(place)


def _from_hub(repository, revision):
    import huggingface_hub

    try:
        return huggingface_hub.snapshot_download(
            repository, revision=revision, ignore_patterns=[name for name in LOOSE if "safetensors" in name]
        )
    # Access, disk, network, an unknown revision: the hub's errors share no base class.
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        command = f"hf download {repository} --revision {revision or 'main'} --local-dir DIR"
        raise ReleaseError(
            f"{HUB}{repository}: not in the hub's cache and could not be fetched ({reason}). On a machine "
            f"that reaches the hub: {command}; that folder can be loaded anywhere"
        ) from error


def _from_uri(uri, cache):
    """A copy below `cache`, named by the place and by the content of the manifest."""
    uri = uri.rstrip("/")
    remote = epath.Path(uri)
    try:
        text = (remote / manifest.NAME).read_text()
    except OSError as error:
        raise ReleaseError(f"{uri}: no release there, {manifest.NAME} cannot be read ({error})") from error
    key = hashlib.sha256(f"{uri}\n{text}".encode()).hexdigest()[:16]
    folder = cache / f"{remote.name}-{key}"
    if folder.is_dir():
        return folder
    partial = cache / f".{folder.name}.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        manifest.write_atomically(partial / manifest.NAME, text)
        for name in manifest.read(partial)["files"]:
            _copy(remote, partial, name)
        partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise ReleaseError(f"{uri}: could not be copied to {folder} ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _copy(remote, partial, name):
    parts = PurePosixPath(name).parts
    # The manifest decides what is written here: it may name files inside the folder, nothing else.
    if ".." in parts or PurePosixPath(name).is_absolute():
        raise ReleaseError(f"{remote}: {manifest.NAME} lists {name!r}, which lies outside of the release")
    if len(parts) == 1 and any("safetensors" in p and fnmatch.fnmatchcase(name, p) for p in LOOSE):
        return
    (partial / name).parent.mkdir(parents=True, exist_ok=True)
    with (remote / name).open("rb") as source, open(partial / name, "wb") as target:
        shutil.copyfileobj(source, target)
