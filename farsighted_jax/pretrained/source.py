"""Where weights come from: a file, a folder, or a repository of the Hugging Face hub; and proof of which.

A repository is fetched once into the hub's own cache and read from there,
offline, ever after.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

from farsighted_jax.checkpoint.manifest import file_sha256
from farsighted_jax.pretrained import safetensors_file

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class SourceError(RuntimeError):
    """Weights are absent or are others than was asked for; the message has the command that gets them."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Files of weights on this machine.

    Attributes:
      path: file or folder, for `safetensors_file.read`.
      origin: "owner/name@commit", or the name of the file or folder.
      sha256: see `weights_sha256`.
    """

    path: Path
    origin: str
    sha256: str


def located(
    source: str,
    *,
    revision: str = "",
    sha256: str = "",
    file: str = safetensors_file.FILE,
    cache: Path | None = None,
) -> Source:
    """Finds weights, fetching them if they are in a repository and not in the cache.

    Args:
      source: path of a file or folder, or "owner/name" where no such path exists.
      revision: branch, tag or commit of a repository; "" for its main branch.
      sha256: what `weights_sha256` must give; "" accepts any.
      file: in a repository, the file to take; its index where it is in shards.
      cache: of the hub; its own by default.

    Raises:
      SourceError: neither on this machine nor to be had, or another checksum.
      WeightsFileError: see `safetensors_file.files`.
    """
    again = ""
    if Path(source).exists():
        if revision:
            raise SourceError(f"{source}: a path has no revision, found {revision!r}")
        # A path of this machine means nothing elsewhere, and the checksum says which file it was.
        path, origin = Path(source), Path(source).resolve().name
    elif _REPOSITORY.fullmatch(source):
        revision = revision or "main"
        path = _from_hub(source, revision, file, cache)
        # The hub's cache keeps files in a folder named by the commit, which a branch does not tell.
        origin = f"{source}@{path.parent.name}"
        again = f"; to fetch it again: {_command(source, revision, path.name)} --force-download"
    else:
        raise SourceError(f"{source}: no such file or folder, and not the owner/name of a repository")
    found = weights_sha256(safetensors_file.files(path))
    if sha256 and found != sha256.lower():
        raise SourceError(
            f"{path}: SHA-256 {found}, expected {sha256.lower()}: these are other weights than were asked "
            f"for{again}"
        )
    return Source(path, origin, found)


def companion(
    source: str, file: str, *, revision: str = "", repository: str = "", cache: Path | None = None
) -> Path | None:
    """A small file that belongs to weights, such as a tokenizer: beside them, or in a repository.

    Args:
      source: of the weights, as `located` takes it. Beside a path only the folder is searched.
      file: its name.
      revision: of `source`, if that is a repository.
      repository: another one that has the file, where `source` is a repository without it.
      cache: of the hub; its own by default.

    Returns:
      The file, or None where there is none.

    Raises:
      SourceError: a repository has to be asked and cannot be.
    """
    if Path(source).exists():
        folder = Path(source) if Path(source).is_dir() else Path(source).parent
        return folder / file if (folder / file).is_file() else None
    for place, commit in ((source, revision or "main"), (repository, "main")):
        found = place and (_cached(place, commit, file, cache) or _fetched(place, commit, file, cache))
        if found:
            return found
    return None


def weights_sha256(files: list[Path]) -> str:
    """SHA-256 of a file; of several, that of the lines that `sha256sum *` prints for them, sorted by name."""
    digests = {path.name: file_sha256(path) for path in files}
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _from_hub(repository, revision, file, cache) -> Path:
    """The file in the hub's cache, or its index beside all of its shards."""
    names = (file, f"{file}.index.json")
    # What is cached is taken as it is: no request is made for it.
    paths = (_cached(repository, revision, name, cache) for name in names)
    path = next((path for path in paths if path), None)
    if path is None:
        paths = (_fetched(repository, revision, name, cache) for name in names)
        path = next((path for path in paths if path), None)
    if path is None:
        raise SourceError(
            f"{repository}@{revision} has neither {' nor '.join(names)}. If it has files of torch only: "
            f"{_command(repository, revision, 'pytorch_model.bin')}, then convert that file. "
            + safetensors_file.refusal(Path("pytorch_model.bin"))
        )
    if path.name.endswith(".index.json"):
        for name in safetensors_file.shards(path):
            if not (
                _cached(repository, revision, name, cache) or _fetched(repository, revision, name, cache)
            ):
                raise SourceError(f"{repository}@{revision}: {path.name} names {name}, which is not there")
    return path


def _cached(repository, revision, name, cache) -> Path | None:
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(repository, name, cache_dir=cache, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _fetched(repository, revision, name, cache) -> Path | None:
    """Downloads a file; None where the repository has no such file."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision, cache_dir=cache))
    except LocalEntryNotFoundError as error:
        # Also an EntryNotFoundError; it means that the hub could not be asked.
        raise _unreachable(repository, revision, name, "no connection to the hub") from error
    except EntryNotFoundError:
        return None
    except Exception as error:
        # Access, disk, an unknown revision: the hub's errors share no base class.
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise _unreachable(repository, revision, name, reason) from error


def _unreachable(repository, revision, name, reason):
    return SourceError(
        f"{name} of {repository}@{revision} is not in the cache and could not be fetched ({reason}). On a "
        f"machine that reaches the hub: {_command(repository, revision, name)}; the path that it prints can "
        "be given as the source, on any machine"
    )


def _command(repository, revision, name):
    return f"hf download {repository} {name} --revision {revision}"
