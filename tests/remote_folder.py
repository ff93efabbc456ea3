"""A folder behind a URI for tests: what the reader may ask of gs://, and no local path."""

from __future__ import annotations

import os
import types

from etils import epath


def register(root):
    """Serves the local folder `root` as "fake://" and returns that URI."""

    @epath.register_path_cls("fake://")
    class FakePath(os.PathLike):
        def __init__(self, uri):
            self._uri = str(uri)
            self._local = os.path.join(root, self._uri.removeprefix("fake://"))

        def __fspath__(self):
            return self._uri

        def __truediv__(self, part):
            return FakePath(os.path.join(self._uri, part))

        def joinpath(self, *parts):
            return FakePath(os.path.join(self._uri, *parts))

        @property
        def name(self):
            return os.path.basename(self._uri)

        @property
        def parent(self):
            return FakePath(os.path.dirname(self._uri))

        def exists(self):
            return os.path.exists(self._local)

        def iterdir(self):
            return [self / name for name in os.listdir(self._local)]

        def stat(self):
            found = os.stat(self._local)
            return types.SimpleNamespace(length=found.st_size, mtime=found.st_mtime)

        def read_text(self):
            with open(self._local) as file:
                return file.read()

        def open(self, mode):
            return open(self._local, mode)

    return "fake://"
