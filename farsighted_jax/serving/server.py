"""The policy server: openpi's protocol over WebSocket, for its clients as they are.

The server speaks first, one map of metadata; then a client sends an observation and gets actions, in turns.
An error is a text, "TYPE: what is wrong", after which the connection is closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.serving import listening, wire
from farsighted_jax.serving.batcher import Batcher
from farsighted_jax.serving.errors import DeadlineExceeded, Overloaded, RequestError, ServingError
from farsighted_jax.serving.key_layouts import told
from farsighted_jax.serving.metrics import CONTENT_TYPE, Metrics
from farsighted_jax.serving.observation import ObservationError
from farsighted_jax.serving.service import ENDPOINT, PolicyService

FORESEEN = (ServingError, ObservationError, PolicyError)
RESET = "reset successful"
MAX_ERROR_TEXT = 1000
GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER = 1001, 1011, 1013

_LOG = logging.getLogger(__name__)


class PolicyServer:
    """Conversations with clients, and what was done in them.

    Attributes:
      metrics: see there.
    """

    def __init__(
        self,
        service: PolicyService,
        *,
        metadata: Mapping[str, Any] | None = None,
        capacity: int = 128,
        deadline_s: float = 60.0,
        idle_s: float = 3600.0,
        send_s: float = 30.0,
    ):
        """Serves nothing before `serve`.

        Args:
          service: answers.
          metadata: told first; that of the service by default.
          capacity: requests that wait at most, see `Batcher`.
          deadline_s: seconds that an answer may take.
          idle_s: seconds without a whole request after which a client is taken to be gone.
          send_s: seconds that a client may take to accept its answer.
        """
        self._service, self._metadata = service, dict(metadata or service.metadata())
        self._batcher = Batcher(self._answers, service.batch_size, capacity=capacity, deadline_s=deadline_s)
        self._idle_s, self._send_s = idle_s, send_s
        self.metrics = Metrics(lambda: len(self._batcher))

    async def serve(
        self,
        host: str,
        port: int,
        *,
        token: str = "",
        ready: Callable[[int], None] = lambda port: None,
        **options: Any,
    ) -> None:
        """Compiles, then serves until SIGTERM or until it is cancelled; see `listening.listen`.

        `GET /healthz` is answered by 200 OK, `GET /metrics` in Prometheus' format.
        """
        listening.check_address(host, token)
        await asyncio.to_thread(self._service.compile)
        pages = {"/healthz": ("text/plain", lambda: "OK\n"), "/metrics": (CONTENT_TYPE, self.metrics.text)}
        answering = asyncio.create_task(self._batcher.run())
        try:
            await listening.listen(
                self._converse, host, port, pages=pages, token=token, ready=ready, **options
            )
        finally:
            answering.cancel()

    async def _converse(self, connection, stopped):
        from websockets.exceptions import ConnectionClosed

        self.metrics.connections += 1
        try:
            await self._send(connection, wire.packed(self._metadata))
            previous_ms = None
            while (frame := await listening.next_frame(connection, stopped, self._idle_s)) is not None:
                started = time.monotonic()
                reply = await self._reply(connection, frame, started, previous_ms)
                if reply is None:
                    return
                await self._send(connection, reply)
                previous_ms = 1000 * (time.monotonic() - started)
            await connection.close(GOING_AWAY)
        except ConnectionClosed:
            pass
        except TimeoutError:
            # It does not read: a closing frame would wait behind the rest.
            connection.transport.abort()
        finally:
            self.metrics.connections -= 1

    async def _reply(self, connection, frame, started, previous_ms):
        """A frame to send, or None where the connection is at its end."""
        try:
            reply = await listening.first_of(
                self._answer(frame, started, previous_ms), connection.wait_closed()
            )
        except FORESEEN as error:
            await self._refuse(connection, type(error), str(error))
        except Exception:
            _LOG.exception("a request could not be answered")
            await self._refuse(connection, RuntimeError, "see the server's log")
        else:
            self.metrics.requests += reply is not None
            self.metrics.request_seconds.add(time.monotonic() - started)
            return reply
        return None

    async def _answer(self, frame, started, previous_ms):
        # Unpacking, decoding and resizing take as long as a health check may wait.
        fields, dialect = await asyncio.to_thread(wire.unpacked, frame)
        endpoint = fields.get(ENDPOINT, "infer")
        if not isinstance(endpoint, str) or endpoint not in ("infer", "reset"):
            raise RequestError(f"{ENDPOINT!r} is {told(endpoint)}, expected 'infer' or 'reset'")
        if endpoint == "reset":
            return RESET
        request = await asyncio.to_thread(self._service.read, fields)
        reply = await self._batcher.ask(request)
        timing = {"infer_ms": 1000 * (time.monotonic() - started)}
        if previous_ms is not None:
            timing["prev_total_ms"] = previous_ms
        return wire.packed({**reply, "server_timing": timing}, dialect)

    async def _refuse(self, connection, kind, text):
        name = "InternalError" if kind is RuntimeError else kind.__name__
        self.metrics.requests += 1
        self.metrics.errors[name] += 1
        await self._send(connection, f"{name}: {text[:MAX_ERROR_TEXT]}")
        code = TRY_AGAIN_LATER if kind in (Overloaded, DeadlineExceeded) else INTERNAL_ERROR
        await connection.close(code, name)

    async def _send(self, connection, frame):
        async with asyncio.timeout(self._send_s):
            await connection.send(frame)

    def _answers(self, requests):
        started = time.monotonic()
        answers = self._service.answers(requests)
        self.metrics.inference_seconds.add(time.monotonic() - started)
        self.metrics.batch.add(len(requests))
        return answers
