"""A WebSocket server as all of ours are: who may connect, how large a frame may be, pages, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import signal
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from farsighted_jax.serving.errors import ServingError
from farsighted_jax.serving.wire import MAX_FRAME_BYTES

# Seconds for a client to take leave in; one that is gone does not.
CLOSE_S = 2.0

Page = tuple[str, Callable[[], str]]
Converse = Callable[[Any, asyncio.Event], Awaitable[None]]


def check_address(host: str, token: str) -> None:
    """Raises ServingError where another machine could connect without a token."""
    if not token and not _is_loopback(host):
        raise ServingError(f"whoever reaches {host} could use the policy: give a token, or take 127.0.0.1")


async def listen(
    converse: Converse,
    host: str,
    port: int,
    *,
    pages: Mapping[str, Page],
    token: str = "",
    ready: Callable[[int], None] = lambda port: None,
    max_connections: int = 128,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    grace_s: float = 60.0,
) -> None:
    """Serves until SIGTERM or until it is cancelled; what was asked before is answered then.

    With a token a client is admitted by the header `Authorization: Api-Key TOKEN` or the path /TOKEN. Pages
    in a browser, which tell their origin, are not: any could talk to a server on its visitor's machine.

    Args:
      converse: talks with one client; is given the connection and an event that says that the server stops.
      host: see `check_address`.
      port: 0 for a free one.
      pages: path -> (content type, what makes the text), for whoever asks.
      token: see above; "" admits all.
      ready: is told the port.
      max_connections: at once; one more is refused by 503.
      max_frame_bytes: of a request; a larger one closes its connection by 1009 before it is read.
      grace_s: seconds that conversations may take to finish.

    Raises:
      ServingError: see `check_address`.
    """
    check_address(host, token)
    from websockets.asyncio.server import serve

    stopped, talking = asyncio.Event(), set()

    async def handle(connection):
        task = asyncio.current_task()
        talking.add(task)
        try:
            await converse(connection, stopped)
        finally:
            talking.discard(task)

    def admit(connection, request):
        if request.path in pages:
            content_type, text = pages[request.path]
            response = connection.respond(HTTPStatus.OK, text())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = content_type
            return response
        if token and not _has_token(request, token):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong token\n")
        if len(talking) >= max_connections:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    # Only the main thread may; elsewhere whoever started it cancels it.
    with contextlib.suppress(RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    # Images do not get smaller by compression. Clients are silent while a robot moves: no pings.
    options = {"compression": None, "max_size": max_frame_bytes, "max_queue": 1, "ping_interval": None}
    options["close_timeout"] = CLOSE_S
    admission = {"process_request": admit, "origins": [None], "server_header": None}
    server = await serve(handle, host, port, **admission, **options)
    try:
        ready(server.sockets[0].getsockname()[1])
        await stopped.wait()
    finally:
        stopped.set()
        server.close(close_connections=False)
        if talking:
            await asyncio.wait(talking, timeout=grace_s)
        for task in talking:
            task.cancel()
        await server.wait_closed()


async def next_frame(
    connection: Any, stopped: asyncio.Event, idle_s: float | None = None
) -> bytes | str | None:
    """The next whole frame, or None where the server stops or the client left, or sent none for `idle_s`."""
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        return await first_of(connection.recv(), stopped.wait(), timeout=idle_s)
    return None


async def first_of(wanted: Awaitable, other: Awaitable, *, timeout: float | None = None) -> Any:
    """The result of `wanted`, or None where `other` or the time comes first; both have ended then."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _has_token(request, token):
    word, _, given = request.headers.get("Authorization", "").partition(" ")
    given = given if word in ("Api-Key", "Bearer") else request.path.lstrip("/")
    return hmac.compare_digest(given.encode(), token.encode())


def _is_loopback(host):
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
