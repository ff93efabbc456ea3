"""Files and folders of a plain web server: read by ranges, listed by its index pages.

The standard library is all that it needs. A request that fails in a way that
may pass (no connection, a dropped one, a busy server) is repeated with growing
pauses; what stays wrong is an error that names the URL. Reading in parts needs
a server that honours `Range`: one that sends the whole file is refused at once,
instead of being asked for all of it for every record.
"""

from __future__ import annotations

import dataclasses
import email.utils
import html.parser
import http.client
import os
import random
import time
import urllib.parse

from data_pipelines.errors import RemoteError

SCHEMES = ("http", "https")
TIMEOUT_S = 60.0
ATTEMPTS = 6
FIRST_PAUSE_S = 0.25

_MAX_REDIRECTS = 5
_RETRIED = (408, 429, 500, 502, 503, 504)
_DROPPED = (http.client.HTTPException, OSError)


class HttpPath(os.PathLike):
    """A file or folder, with as much of pathlib as reading a dataset takes; no request is made before it."""

    def __init__(self, url: str):
        """Takes an http:// or https:// URL."""
        self._url = url

    def __fspath__(self) -> str:
        return self._url

    def __truediv__(self, part: str) -> HttpPath:
        return HttpPath(f"{self._url.rstrip('/')}/{urllib.parse.quote(part)}")

    @property
    def name(self) -> str:
        """Its last part."""
        return urllib.parse.unquote(self._url.rstrip("/").rpartition("/")[2])

    @property
    def parent(self) -> HttpPath:
        """The folder that it is in."""
        return HttpPath(self._url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Whether the server has it; RemoteError if it cannot say."""
        try:
            _Connection(self._url).get(head=True)
        except _MissingError:
            return False
        return True

    def read_text(self) -> str:
        """Its text, UTF-8; RemoteError."""
        return _Connection(self._url).get().content.decode("utf-8")

    def iterdir(self) -> list[HttpPath]:
        """What the index page of a folder links to below it; RemoteError if the server gives none."""
        answer = _Connection(f"{self._url.rstrip('/')}/").get()
        if "html" not in answer.headers.get("Content-Type", ""):
            raise RemoteError(f"{self._url}: the server lists no folders; expected an HTML page of links")
        page = _Links()
        page.feed(answer.content.decode("utf-8", "replace"))
        names = (urllib.parse.unquote(link).removesuffix("/") for link in page.links if "?" not in link)
        return [self / name for name in names if name and "/" not in name and name != ".."]


class HttpFile:
    """A file read by ranges over one connection; for one thread at a time.

    Attributes:
      size: in bytes.
      time: of its last change, seconds since 1970; 0 if the server does not say.
    """

    def __init__(self, url: str):
        """Asks for size and time; RemoteError."""
        self._url, self._connection = url, _Connection(url)
        headers = self._connection.get(head=True).headers
        if "Content-Length" not in headers:
            raise RemoteError(f"{url}: the server does not say how large it is (no Content-Length)")
        self.size = int(headers["Content-Length"])
        changed = email.utils.parsedate_tz(headers.get("Last-Modified", ""))
        self.time = email.utils.mktime_tz(changed) if changed else 0

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from an offset on, fewer at its end; RemoteError, also if its size changed."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        answer = self._connection.get(first=offset, size=size)
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if whole not in ("*", str(self.size)):
            raise RemoteError(f"{self._url}: has {whole or 'unknown'} bytes, but had {self.size}")
        return answer.content

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def __del__(self):
        if hasattr(self, "_connection"):
            self.close()


@dataclasses.dataclass(frozen=True)
class _Answer:
    headers: http.client.HTTPMessage
    content: bytes


class _MissingError(RemoteError):
    """There is no such file or folder."""


class _Again(Exception):
    """A request that may succeed if it is repeated."""


class _Connection:
    """Makes requests for one URL, and repeats them."""

    def __init__(self, url):
        self._url, self._open, self._origin = url, None, None

    def get(self, *, head: bool = False, first: int = 0, size: int | None = None) -> _Answer:
        """The whole of it, its headers alone, or `size` bytes from `first` on."""
        for attempt in range(ATTEMPTS):
            try:
                return self._followed("HEAD" if head else "GET", first, size)
            except _Again as error:
                self.close()
                reason = error
            if attempt + 1 < ATTEMPTS:
                # Drawn, so that readers that failed together do not come back together.
                time.sleep(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))
        raise RemoteError(f"{self._url}: {reason}; gave up after {ATTEMPTS} attempts")

    def close(self):
        if self._open is not None:
            self._open.close()
        self._open = None

    def _followed(self, method, first, size):
        url = self._url
        for _ in range(_MAX_REDIRECTS):
            status, headers, content = self._once(method, url, first, size)
            if status not in (301, 302, 303, 307, 308):
                return _Answer(headers, content)
            url = urllib.parse.urljoin(url, headers.get("Location", ""))
        raise RemoteError(f"{self._url}: more than {_MAX_REDIRECTS} redirections")

    def _once(self, method, url, first, size):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise RemoteError(f"{self._url}: leads to {url!r}, expected http:// or https://")
        headers = {} if size is None else {"Range": f"bytes={first}-{first + size - 1}"}
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        try:
            self._connect(parts)
            self._open.request(method, target, headers=headers)
            response = self._open.getresponse()
            self._check(response, size)
            content = response.read()
        except RemoteError:
            # Its body has not been read, so that the connection is of no further use.
            self.close()
            raise
        except _DROPPED as error:
            raise _Again(f"{type(error).__name__}: {error}") from error
        if size is not None and response.status == 206 and len(content) != size:
            raise _Again(f"{len(content)} bytes came, expected {size}")
        return response.status, response.headers, content

    def _connect(self, parts):
        origin = (parts.scheme, parts.netloc)
        if self._open is None or self._origin != origin:
            self.close()
            kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
            self._open, self._origin = kinds[parts.scheme](parts.netloc, timeout=TIMEOUT_S), origin

    def _check(self, response, size):
        status, said = response.status, f"{response.status} {response.reason}"
        if status in _RETRIED:
            raise http.client.HTTPException(f"the server answers {said}")
        if status in (404, 410):
            raise _MissingError(f"{self._url}: no such file or folder ({said})")
        if status >= 400:
            raise RemoteError(f"{self._url}: the server answers {said}")
        if size is not None and status == 200:
            raise RemoteError(
                f"{self._url}: the server ignores Range and sends the whole file; expected one that answers "
                "206 to a range, or copy the dataset first"
            )


class _Links(html.parser.HTMLParser):
    """Collects the links of a page."""

    def __init__(self):
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for key, value in attrs if tag == "a" and key == "href" and value]
