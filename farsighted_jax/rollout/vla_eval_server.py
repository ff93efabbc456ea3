"""A policy as a model server of `vla-eval`, which runs LIBERO, CALVIN and SimplerEnv in containers.

A client sends an observation a step and gets one action. The policy is asked when the first `execute` actions
of its last chunk are used up, for all connections that wait at once, in batches of one size.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from farsighted_jax import __version__
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.rollout import vla_eval_wire as wire
from farsighted_jax.rollout.benchmarks import BEGINS, BENCHMARKS, IMAGES, INSTRUCTION, STATE, observed
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.serving import listening
from farsighted_jax.serving.batcher import Batcher, stacked
from farsighted_jax.serving.errors import ServingError
from farsighted_jax.serving.observation import ObservationError
from farsighted_jax.serving.policy import Policy

FORESEEN = (ServingError, RolloutError, ObservationError, PolicyError)

_LOG = logging.getLogger(__name__)


class BenchmarkPolicy:
    """A policy that sees and acts as a benchmark does; without memory.

    Attributes:
      settings: what a client is asked to send.
      execute: actions of a chunk that are taken before the policy is asked again.
      batch_size: observations of one call.
    """

    def __init__(self, policy: Policy, benchmark: str, *, execute: int, batch_size: int = 1):
        """Takes the policy and the name of its benchmark.

        Args:
          policy: see `serving.policy.Policy`.
          benchmark: key of `BENCHMARKS`.
          execute: see the class.
          batch_size: see the class.

        Raises:
          RolloutError: the policy gives no or too few actions, actions that the benchmark does not take, or
            sees a camera that it lacks.
        """
        self._benchmark = BENCHMARKS[benchmark]
        if policy.horizon < execute:
            raise RolloutError(f"the policy gives {policy.horizon} actions a chunk, expected {execute}")
        self.execute, self.batch_size, self.settings = (
            execute,
            batch_size,
            self._benchmark.settings_for(policy),
        )
        self._policy, self._map = policy, self._benchmark.actions_of(policy.spec.action)
        self._calls = itertools.count()

    def history(self):
        """Keeps the frames of one connection."""
        return self._policy.history()

    def observed(self, payload: dict[str, Any]) -> dict[str, Any]:
        """A benchmark's observation as the policy reads it, see `benchmarks.observed`."""
        return observed(self._benchmark, self._policy, payload)

    def read(self, observation: dict[str, Any]) -> dict[str, np.ndarray]:
        """An observation as a batch of one row; raises ObservationError, see `serving.policy.Policy`."""
        return self._policy.read([observation])

    def chunks(self, rows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Actions for at most `batch_size` of what `read` gives, as the benchmark takes them.

        Returns:
          float32[n, execute, 7].

        Raises:
          RolloutError: actions that are not finite.
        """
        # One size, so that the policy is compiled once.
        batch = stacked(rows, [self.batch_size])
        action_BJM = self._policy.compute("actions", batch, seed=next(self._calls))
        chunk_BJM = action_BJM[: len(rows), : self.execute]
        if not np.isfinite(chunk_BJM).all():
            raise RolloutError("the policy gives actions that are not finite")
        return self._map(chunk_BJM)

    def compile(self) -> None:
        """Asks once for a dark scene: all is compiled, and a state of another width is told at once."""
        blank = np.zeros((64, 64, 3), np.uint8)
        state = np.zeros(self._benchmark.state_width)
        # A quaternion of zeros is no rotation.
        state[3] = 1.0
        images = {key: blank for key in self._benchmark.cameras.values()}
        scene = {IMAGES: images, STATE: state, INSTRUCTION: ""}
        self.chunks([self.read(self.history().add(self.observed(scene)))])


class Conversation:
    """One connection: frames in, frames out, and what is remembered between them."""

    def __init__(self, acting: BenchmarkPolicy, ask: Callable[[Any], Awaitable[np.ndarray]]):
        """Takes the policy and what asks it, see `Batcher.ask`."""
        self._acting, self._ask = acting, ask
        self._history, self._left = acting.history(), deque()

    async def answer(self, frame: bytes | str) -> bytes | None:
        """What is sent back, or None where nothing is; whatever goes wrong is answered by an error."""
        seq = 0
        try:
            message = wire.unpacked(frame)
            seq = message.seq
            reply = await self._reply(message)
        except FORESEEN as error:
            reply = wire.Message(wire.ERROR, {"error": str(error)})
        except Exception:
            _LOG.exception("an observation could not be answered")
            reply = wire.Message(wire.ERROR, {"error": "internal error, see the server's log"})
        return reply and wire.packed(reply._replace(seq=seq))

    async def _reply(self, message):
        if message.type == wire.HELLO:
            return wire.Message(wire.HELLO, self._greeting(message.payload))
        if message.type == wire.OBSERVATION:
            return wire.Message(wire.ACTION, {"actions": await self._action(message.payload)})
        if message.type in (wire.EPISODE_START, wire.EPISODE_END):
            self._forget()
            return None
        if message.type == wire.ERROR:
            _LOG.error("the client says: %s", message.payload)
            return None
        raise wire.WireError(f"a message of type {message.type!r} from a client")

    def _greeting(self, payload):
        version = payload.get("protocol_version")
        if version != wire.PROTOCOL_VERSION:
            raise wire.WireError(f"protocol version {version!r}, expected {wire.PROTOCOL_VERSION}")
        return {
            "harness_version": f"farsighted-jax {__version__}",
            "protocol_version": wire.PROTOCOL_VERSION,
            "model_server": "farsighted-jax",
            "capabilities": {},
            "observation_params": self._acting.settings,
        }

    async def _action(self, payload):
        if payload.get(BEGINS):
            self._forget()
        # Every frame is kept, also those at which the policy is not asked.
        observation = self._history.add(self._acting.observed(payload))
        if not self._left:
            row = await asyncio.to_thread(self._acting.read, observation)
            self._left.extend(await self._ask(row))
        return self._left.popleft()

    def _forget(self):
        self._history.reset()
        self._left.clear()


async def serve(
    acting: BenchmarkPolicy,
    host: str,
    port: int,
    *,
    token: str = "",
    ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Serves until SIGTERM or until it is cancelled; `GET /health` is answered by 200.

    Args:
      acting: see there; it is compiled before the port is bound.
      host: address to listen at.
      port: 0 for a free one.
      token: needed at any other address than the machine's own; the address is then ws://host:port/TOKEN.
      ready: is told the port.

    Raises:
      ServingError: another machine could connect, and there is no token.
    """
    listening.check_address(host, token)
    from websockets.exceptions import ConnectionClosed

    await asyncio.to_thread(acting.compile)
    batcher = Batcher(acting.chunks, acting.batch_size)

    async def converse(connection, stopped):
        conversation = Conversation(acting, batcher.ask)
        with contextlib.suppress(ConnectionClosed):
            while (frame := await listening.next_frame(connection, stopped)) is not None:
                if (reply := await conversation.answer(frame)) is not None:
                    await connection.send(reply)

    answering = asyncio.create_task(batcher.run())
    pages = {"/health": ("application/json", lambda: '{"status": "ok"}\n')}
    try:
        await listening.listen(converse, host, port, pages=pages, token=token, ready=ready)
    finally:
        answering.cancel()
