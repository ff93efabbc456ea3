"""A web server of a folder for tests, which honours Range as far as it is told to."""

from __future__ import annotations

import contextlib
import http.server
import os
import threading


class RangeServer(http.server.ThreadingHTTPServer):
    """Serves a folder at `url`.

    Attributes:
      ranges: whether Range is honoured.
      lists: whether folders are listed.
      drop: of how many requests the answer breaks off in the middle.
      busy: how many requests are answered 503.
      requests: (method, path, Range) of each request.
      num_bytes: sent as content.
    """

    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = os.fspath(root)
        self.ranges, self.lists, self.drop, self.busy = True, True, 0, 0
        self.requests, self.num_bytes = [], 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(root):
    """The server of a folder, until the block ends."""
    server = RangeServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and content leave in two writes, the second of which would wait for the first to be confirmed.
    disable_nagle_algorithm = True

    def translate_path(self, path):
        self.directory = self.server.root
        return super().translate_path(path)

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        if self._may_go_on():
            super().do_HEAD()

    def do_GET(self):
        if not self._may_go_on():
            return
        place, wanted = self.translate_path(self.path), self.headers.get("Range")
        if os.path.isdir(place):
            return super().do_GET() if self.server.lists else self.send_error(403)
        if not os.path.exists(place):
            return self.send_error(404)
        with open(place, "rb") as file:
            content = file.read()
        first, last, status = 0, len(content) - 1, 200
        if wanted and self.server.ranges:
            first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            status = 206
        part = content[first : last + 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.end_headers()
        with self.server.lock:
            drops, self.server.drop = self.server.drop > 0, max(0, self.server.drop - 1)
            self.server.num_bytes += len(part)
        if drops:
            part, self.close_connection = part[: len(part) // 2], True
        with contextlib.suppress(ConnectionError):
            self.wfile.write(part)

    def _may_go_on(self):
        with self.server.lock:
            self.server.requests.append((self.command, self.path, self.headers.get("Range")))
            busy, self.server.busy = self.server.busy > 0, max(0, self.server.busy - 1)
        if busy:
            self.send_error(503)
        return not busy
