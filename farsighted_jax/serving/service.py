"""What a server does with requests: reads each, answers several at once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from farsighted_jax import __version__
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.serving import key_layouts
from farsighted_jax.serving.batcher import batch_sizes, stacked
from farsighted_jax.serving.errors import NotFinite, RequestError, ServingError
from farsighted_jax.serving.key_layouts import KeyLayout
from farsighted_jax.serving.policy import Policy

ENDPOINT, SESSION, EMBODIMENT, OUTPUTS = "endpoint", "session_id", "embodiment", "outputs"
ACTIONS, EXTRAS = "actions", {"plan": "plan", "imagined": "vision"}


class Request(NamedTuple):
    """One observation that was read.

    Attributes:
      row: a batch of one row.
      outputs: names of EXTRAS that are asked for.
    """

    row: dict[str, np.ndarray]
    outputs: tuple[str, ...]


class PolicyService:
    """A policy as clients of one layout see it; without memory.

    A request is an observation, with "endpoint" ("infer", or "reset", for which there is nothing to do),
    "session_id", "embodiment" (an error unless it is the policy's) and "outputs" (names of EXTRAS), if any.

    Attributes:
      layout: of requests; None where they are observations as in `serving.observation`.
      outputs: of EXTRAS that may be asked for.
      batch_size: requests that are answered at once.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        layout: KeyLayout | None = None,
        act: Callable[[np.ndarray], np.ndarray] = lambda action_JM: action_JM,
        outputs: Sequence[str] = (),
        batch_size: int = 8,
    ):
        """Compiles nothing yet.

        Args:
          policy: gives actions.
          layout: see the class.
          act: from actions float[..., M] of the policy to those that clients take.
          outputs: see the class.
          batch_size: see the class.

        Raises:
          ServingError: the policy lacks actions or one of the outputs.
        """
        for name, group in {ACTIONS: "action", **{name: EXTRAS[name] for name in outputs}}.items():
            if group not in policy.groups or (name == ACTIONS and not policy.horizon):
                raise ServingError(f"this policy has no {name} to serve; it has the groups {policy.groups}")
        self.policy, self.layout, self.outputs, self.batch_size = policy, layout, tuple(outputs), batch_size
        self._act, self._sizes, self._calls = act, batch_sizes(batch_size), itertools.count()

    def metadata(self) -> dict[str, Any]:
        """What a client is told first."""
        policy = self.policy
        keys: Mapping[str, Any] = {}
        if self.layout:
            read = {"state": list(self.layout.state), "instruction": self.layout.instruction}
            cameras = {role: self.layout.cameras[role] for role in policy.cameras}
            keys = {"cameras": cameras, **{key: value for key, value in read.items() if key in policy.keys}}
        return {
            "server": f"farsighted-jax {__version__}",
            EMBODIMENT: policy.spec.name,
            "keys": keys or {"cameras": list(policy.cameras), "observation": list(policy.keys)},
            "horizon": policy.horizon,
            "hz": policy.spec.action.hz,
            "history_steps": list(policy.history_steps),
            OUTPUTS: list(self.outputs),
        }

    def compile(self) -> None:
        """Asks for a dark scene in every size of batch and every output, so that all is compiled."""
        (row,) = [self.policy.read([self.policy.blank()])]
        for size in self._sizes:
            for answer in self.answers([Request(row, self.outputs)] * size):
                if isinstance(answer, NotFinite):
                    raise answer

    def read(self, fields: Mapping[str, Any]) -> Request:
        """A request that can be answered.

        Raises:
          RequestError: names a key that is wrong.
          ObservationError: likewise.
        """
        fields = {key: value for key, value in fields.items() if key not in (ENDPOINT, SESSION)}
        asked, known = fields.pop(OUTPUTS, ()), self.policy.spec.name
        names = asked if isinstance(asked, (list, tuple)) else [asked]
        if wrong := [name for name in names if not isinstance(name, str) or name not in self.outputs]:
            found = key_layouts.told(wrong[0])
            raise RequestError(f"{OUTPUTS!r}: {found}, expected a list of {list(self.outputs)}")
        embodiment = fields.pop(EMBODIMENT, known)
        if not isinstance(embodiment, str) or embodiment != known:
            raise RequestError(
                f"{EMBODIMENT!r} is {key_layouts.told(embodiment)}, this policy acts for {known!r}"
            )
        if self.layout:
            fields = key_layouts.observation(self.layout, self.policy, fields)
        return Request(self.policy.read([fields]), tuple(names))

    def answers(self, requests: Sequence[Request]) -> list[dict[str, Any] | NotFinite]:
        """A reply to each of at most `batch_size` requests, or the error of what is not finite in it."""
        started = time.monotonic()
        found = {ACTIONS: dict(enumerate(self._computed(ACTIONS, requests)))}
        for name in self.outputs:
            rows = [row for row, request in enumerate(requests) if name in request.outputs]
            if rows:
                values = self._computed(name, [requests[row] for row in rows])
                found[name] = dict(zip(rows, values, strict=True))
        timing = {"policy_timing": {"infer_ms": 1000 * (time.monotonic() - started)}}
        replies = []
        for row in range(len(requests)):
            reply = {name: values[row] for name, values in found.items() if row in values}
            bad = [name for name, value in reply.items() if not np.isfinite(value).all()]
            if bad:
                replies.append(NotFinite(f"the policy's {bad[0]} are not finite; none is sent"))
            else:
                replies.append({**reply, ACTIONS: self._act(reply[ACTIONS]), **timing})
        return replies

    def _computed(self, name, requests):
        batch = stacked([request.row for request in requests], self._sizes)
        return self.policy.compute(name, batch, seed=next(self._calls))[: len(requests)]


def roboarena_metadata(policy: Policy) -> dict[str, Any]:
    """What RoboArena's clients are told first: the fields of its server's configuration, no others.

    Raises:
      PolicyError: actions that are neither of joints nor of a hand, with its gripper last.
    """
    spec = policy.spec.action
    space = {"joint": "joint", "translation": "cartesian"}.get(spec.groups[0])
    if not space or spec.groups[-1] != "gripper":
        raise PolicyError(f"actions {spec.names}: RoboArena takes joints or a hand, and then a gripper")
    return {
        # Images come as they are: the policy's own preprocessing makes them smaller.
        "image_resolution": None,
        "needs_wrist_camera": "wrist" in policy.cameras,
        "n_external_cameras": sum("wrist" not in role for role in policy.cameras),
        "needs_stereo_camera": False,
        "needs_session_id": False,
        "action_space": f"{space}_{'velocity' if spec.delta[0] else 'position'}",
    }
