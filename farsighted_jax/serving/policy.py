"""A released policy as a function: a raw observation in, actions in the robot's own units out.

It keeps no memory: the same observation and seed give the same actions, whatever
was asked before. A policy with a history reads earlier frames from the
observation; `Policy.history` makes what keeps them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines.frame import Preprocessing
from data_pipelines.language.instructions import Instructions, Tokenizer, tokenizer_for
from data_pipelines.language.piece_tokenizer import FILE as TOKENIZER
from data_pipelines.trajectory import as_stored, history_steps, keyframe_steps, oriented
from farsighted_jax.checkpoint import release, restore
from farsighted_jax.checkpoint.release import Release, ReleaseError
from farsighted_jax.core import config as config_lib
from farsighted_jax.core import placement
from farsighted_jax.core.normalization import ArrayStatistics, denormalize, normalize
from farsighted_jax.core.spec import DatasetSpec, dataset_spec
from farsighted_jax.lam.frozen import described_lam
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.inference import LatentPolicy, Ongoing
from farsighted_jax.policy.task import PolicyTask, policy_task
from farsighted_jax.serving.download import Fetch, local_folder
from farsighted_jax.serving.example import check_example
from farsighted_jax.serving.history import FrameHistory
from farsighted_jax.serving.observation import ObservationReader, RawObservation
from farsighted_jax.sharding import place as placing
from farsighted_jax.sharding import rules
from farsighted_jax.sharding.mesh import num_batch_shards, one_device

LAM = "lam.json"

# What a policy without actions gives, by the group of tokens that it comes from.
GIVEN = {"plan": "`plan`", "vision": "`imagined`"}
FINETUNE = "`farsighted train --config configs/policy_finetune.py --config.init=FOLDER ...`"


class Executing(NamedTuple):
    """What a robot does while its next chunk is computed (real-time chunking, arXiv 2506.07339).

    Attributes:
      action_JM: float[n, M] the rest of its present chunk from the observation on, in the robot's units; n
        may be 0, and is at most J.
      num_committed: first actions of it that will be executed whatever the next chunk says, at most n.
    """

    action_JM: np.ndarray
    num_committed: int


class Policy:
    """Acts for one robot, with fixed weights and without memory.

    Attributes:
      spec: what its cameras, its state and its actions mean.
      keys: of an observation, see `serving.observation`.
      cameras: roles that "rgb" must have.
      depth_cameras: roles that "depth" may have.
      history_steps: R steps before the present one that it sees, the oldest first, 0 the last.
      horizon: J, steps of an action chunk; 0 for a policy that gives none.
      keyframe_step: steps from now to the frame that `imagined` foresees.
      groups: of tokens: "context", and those of "vision", "plan" and "action" that it has.
    """

    def __init__(
        self,
        latent: LatentPolicy,
        reader: ObservationReader,
        *,
        horizon: int,
        history: tuple[int, ...],
        keyframe_step: int,
        actions: ArrayStatistics | None,
        mesh: Mesh | None = None,
    ):
        """Use `load`.

        Args:
          latent: model and weights.
          reader: of observations.
          horizon: J.
          history: see `history_steps`.
          keyframe_step: see there.
          actions: statistics of the actions, or None without.
          mesh: rows of a batch are spread over its data axes; None: one device.
        """
        self.spec, self.keys, self.cameras = reader.spec, reader.keys, reader.roles
        self.depth_cameras = reader.depth_roles
        self.horizon, self.history_steps = horizon if actions else 0, history
        self.groups, self.keyframe_step = latent.groups, keyframe_step
        self._latent, self._reader, self._actions, self._mesh = latent, reader, actions, mesh
        self._traced_for = one_device() if mesh is None else mesh

    def __call__(
        self,
        observation: RawObservation | Sequence[RawObservation],
        *,
        seed: int | Sequence[int] | None = 0,
        executing: Sequence[Executing | None] | None = None,
    ) -> np.ndarray:
        """Actions for one observation, or for each of a list.

        Args:
          observation: see `serving.observation`.
          seed: of the noise that the flow starts from, which depends on the place in a list too; or one of
            each observation, uint32, whose noise depends on nothing else; None: it starts from zero.
          executing: of each observation of a list, or None for one without: the new chunk begins with the
            committed actions and goes on from the rest smoothly.

        Returns:
          float32[J, M] for one, float32[B, J, M] for a list of B: actions as the dataset stores
          them, the first of them to be taken now.

        Raises:
          ObservationError: names the key that is wrong, missing or unknown.
          PolicyError: a policy without actions, another number of seeds or of what is being executed than of
            observations, or actions of another shape.
        """
        one = isinstance(observation, Mapping)
        batch = self.read([observation] if one else observation)
        action_BJM = self.compute("actions", batch, seed=seed, executing=executing)
        return action_BJM[0] if one else action_BJM

    def plan(self, observations: Sequence[RawObservation]) -> np.ndarray:
        """The latent plan of each observation, codes int32[B, t, Z]; PolicyError for a policy without one."""
        return self.compute("plan", self.read(observations))

    def imagined(self, observations: Sequence[RawObservation]) -> np.ndarray:
        """The next keyframe of each observation as it foresees it, float32[B, H, W, 3] within [0, 1].

        PolicyError for a policy that does not.
        """
        return self.compute("imagined", self.read(observations))

    def read(self, observations: Sequence[RawObservation]) -> dict[str, np.ndarray]:
        """Observations as the rows of a batch; raises ObservationError, see `__call__`."""
        return self._reader.batch(observations)

    def blank(self) -> RawObservation:
        """A dark scene, to compile with."""
        scene = {
            "rgb": {role: np.zeros((8, 8, 3), np.uint8) for role in self.cameras},
            "state": np.zeros(len(self._reader.state.mean) if self._reader.state else 0),
            "instruction": "",
        }
        return {key: value for key, value in scene.items() if key in self.keys}

    def compute(
        self,
        name: str,
        batch: Mapping[str, np.ndarray],
        *,
        seed: int | Sequence[int] | None = 0,
        executing: Sequence[Executing | None] | None = None,
    ) -> np.ndarray:
        """One output of a batch that `read` made; compiled at its first call with so many rows.

        Args:
          name: "actions", "plan" or "imagined", as `__call__` and the methods of these names give it.
          batch: B rows.
          seed: see `__call__`.
          executing: see `__call__`.

        Raises:
          PolicyError: a policy without it; for actions see `__call__`.
        """
        with placement.traced_for(self._traced_for):
            return self._computed(name, batch, seed, executing)

    def _computed(self, name, batch, seed, executing):
        num = len(batch["dataset"])
        if name == "plan":
            return np.asarray(self._latent.plan(self._placed(batch))["code"])[:num]
        if name == "imagined":
            return np.asarray(self._latent.imagined(self._placed(batch))["rgb"])[:num]
        if not self.horizon:
            given = " and ".join(name for group, name in GIVEN.items() if group in self.groups)
            instead = f", only {given}; finetune it: {FINETUNE}" if "action" not in self.groups else ""
            raise PolicyError(f"this policy has no actions for {self.spec.name!r}{instead}")
        rows = self._seeds(seed, num) | self._ongoing(executing, num)
        batch = self._placed({**batch, **rows})
        ongoing = Ongoing(*(batch.pop(name) for name in Ongoing._fields)) if executing is not None else None
        if "seed" in rows:
            key = jax.vmap(jax.random.key)(batch.pop("seed"))
        else:
            key = None if seed is None else jax.random.key(seed)
        normalized_BJM = np.asarray(self._latent.actions(batch, key, ongoing))[:num]
        return self.in_robot_units(normalized_BJM[..., : self.spec.action.width])

    def history(self) -> FrameHistory:
        """Keeps the frames that observations must have; one for each robot that is run."""
        return FrameHistory(self.history_steps)

    def in_robot_units(self, action_JM: np.ndarray) -> np.ndarray:
        """Normalised actions, float[..., M], as the dataset stores them."""
        return as_stored(denormalize(action_JM, *self._normalization()), self.spec.action)

    def _normalization(self):
        gripper = [group == "gripper" for group in self.spec.action.groups]
        return self._actions, self._reader.normalization, gripper

    def _seeds(self, seed, num):
        """Rows of a batch."""
        if np.ndim(seed) == 0:
            return {}
        _check_count("seeds", seed, num)
        return {"seed": np.asarray(seed, np.uint32)}

    def _ongoing(self, executing, num_rows):
        """Rows of a batch, those of `Ongoing`."""
        if executing is None:
            return {}
        _check_count("chunks that are executed", executing, num_rows)
        width = self.spec.action.width
        known_BJM = np.zeros((len(executing), self.horizon, width), np.float32)
        count_B2 = np.zeros((len(executing), 2), np.int32)
        for row, each in enumerate(executing):
            if each is None:
                continue
            action_JM, committed = each
            num, given = len(action_JM), np.shape(action_JM)
            if given != (num, width) or not 0 <= committed <= num <= self.horizon:
                raise PolicyError(
                    f"{committed} committed of actions of shape {given}, expected at most "
                    f"{self.horizon} of {width} numbers"
                )
            known_BJM[row, :num] = normalize(oriented(action_JM, self.spec.action), *self._normalization())
            count_B2[row] = committed, num
        return Ongoing(known_BJM, *count_B2.T)._asdict()

    def _placed(self, batch):
        """A batch on its devices; on a mesh its last row is repeated until it can be spread."""
        if self._mesh is None:
            return dict(batch)
        missing = -len(batch["dataset"]) % num_batch_shards(self._mesh)
        padded = {name: np.concatenate([rows, rows[-1:].repeat(missing, 0)]) for name, rows in batch.items()}
        return placing.shard_batch(padded, self._mesh)


def _check_count(name, given, num):
    if len(given) != num:
        raise PolicyError(f"{len(given)} {name} for {num} observations")


def load(
    place: str | os.PathLike,
    *,
    embodiment: str | None = None,
    check: bool = False,
    mesh: Mesh | None = None,
    fetch: Fetch | None = None,
) -> Policy:
    """Makes a policy of a release alone.

    Args:
      place: a folder, gs://bucket/folder, hf://owner/name or hf://owner/name@revision.
      embodiment: dataset whose robot it is to act for; needed where several have actions.
      check: compute the release's example again and compare, see `example.check_example`.
      mesh: from `sharding.mesh.make_mesh`; by default one device holds all.
      fetch: see `download.local_folder`.

    Raises:
      ReleaseError: no release of a policy, one of another format, an example that comes out
        otherwise, or an embodiment that it does not have.
      CorruptCheckpointError: names the file that is damaged.
    """
    found = release.read(local_folder(place, fetch=fetch))
    if found.kind != "policy":
        raise ReleaseError(f"{found.folder}: a release of kind {found.kind!r}, expected 'policy'")
    config = config_lib.from_json(found.text("config.json"))
    specs = {spec.name: spec for spec in map(dataset_spec, found.document("specs.json"))}
    task = policy_task(config, _lam(found, list(specs)), specs)
    parts = {
        "task": task,
        "params": _params(found.folder, mesh),
        "config": config,
        "specs": specs,
        "statistics": found.document("statistics.json"),
        "preprocessing": Preprocessing(**found.document("preprocessing.json")),
        "tokenizer": _tokenizer(found, config.data.text_tokenizer),
        "mesh": mesh,
    }
    if check:
        check_example(found, lambda name: policy_of(embodiment=name, **parts), config.model.dtype)
    return policy_of(embodiment=embodiment, **parts)


def policy_of(
    *,
    task: PolicyTask,
    params: Any,
    config: Mapping[str, Any],
    specs: Mapping[str, DatasetSpec],
    statistics: Mapping[str, Any],
    preprocessing: Preprocessing,
    tokenizer: Tokenizer | None,
    embodiment: str | None = None,
    mesh: Mesh | None = None,
) -> Policy:
    """A policy from its parts.

    Args:
      task: model and inputs.
      params: its parameters; on `mesh`, if there is one.
      config: of the run.
      specs: dataset -> specification, in the mixture's order.
      statistics: dataset -> what its inputs were normalised with.
      preprocessing: of every image.
      tokenizer: of the instructions, or None.
      embodiment: see `load`.
      mesh: see `load`.

    Raises:
      ReleaseError: an embodiment that it does not have, or none named where there are several.
    """
    spec, data = specs[_chosen(specs, embodiment)], config["data"]
    offsets_s = dict(data.get("dataset_offsets_s", ())).get(spec.name, data["offsets_s"])
    own, all_states = statistics[spec.name], [entry["state"] for entry in statistics.values()]
    reads_state = "proprio" in task.fields
    reader = ObservationReader(
        spec=spec,
        index=list(specs).index(spec.name),
        preprocessing=preprocessing,
        cameras=tuple(data["cameras"]),
        num_frames=len(data["history_s"]) + 1,
        with_depth="history_depth" in task.fields,
        depth=tuple(own["depth"]) if own["depth"] and "history_depth" in task.fields else None,
        state=ArrayStatistics.from_dict(own["state"]) if own["state"] and reads_state else None,
        state_width=max((len(s["mean"]) for s in all_states if s), default=0) if reads_state else 0,
        normalization=data["normalization"],
        instructions=Instructions(tokenizer, data["text_length"]) if "text" in task.fields else None,
    )
    return Policy(
        LatentPolicy(task, params),
        reader,
        horizon=task.model.layout.chunk,
        history=history_steps(spec.hz, data["history_s"], spec.name),
        keyframe_step=keyframe_steps(spec.hz, offsets_s, spec.name)[0],
        actions=ArrayStatistics.from_dict(own["action"]) if own["action"] else None,
        mesh=mesh,
    )


def _chosen(specs, embodiment):
    """Name of the dataset to act for."""
    acting = [name for name, spec in specs.items() if spec.action] or list(specs)
    if embodiment is None and len(acting) == 1:
        return acting[0]
    if embodiment not in specs:
        asked = "none was named" if embodiment is None else f"found {embodiment!r}"
        raise ReleaseError(f"embodiment: {asked}, expected one of {acting}")
    return embodiment


def _lam(found: Release, datasets):
    return described_lam(found.document(LAM), datasets) if found.has(LAM) else None


def _tokenizer(found: Release, name: str):
    if not name:
        return None
    return tokenizer_for(os.fspath(found.folder / TOKENIZER) if found.has(TOKENIZER) else name)


def _params(folder, mesh):
    """Parameters by the rules of training, on the mesh or the first device."""
    if mesh is None:
        return restore.read_weights(folder, items=("params",))[1]["params"]
    params = restore.read_weights(folder, items=("params",), sharding=rules.replicated(mesh))[1]["params"]
    shardings = rules.state_shardings(mesh, rules.DEFAULT_RULES, {"params": params})["params"]
    return jax.device_put(params, shardings)
