"""An environment whose every number is known: the hand walks along a line."""

import numpy as np

from farsighted_jax.rollout.environment import RolloutError, View
from farsighted_jax.rollout.metaworld import dataset_spec


class Line:
    """The hand starts at `seed % 7` and is done where x is at least 10; the expert goes 0.5 a step."""

    name, tasks, settings, max_steps = "line", ("go", "stay"), {}, 40
    spec = dataset_spec("line", ("primary",))

    def __init__(self, stuck=()):
        self.stuck = stuck

    def instructions(self, task):
        return (task, "walk")

    def reset(self, task, seed):
        if task not in self.tasks:
            raise RolloutError(f"no task {task!r}")
        self.x, self.held, self.looked = float(seed % 7), seed in self.stuck or task == "stay", 0

    def step(self, action_M):
        self.x += 0.0 if self.held else 2 * float(action_M[0])
        return self.x >= 10

    def view(self):
        self.looked += 1
        rgb, depth = np.full((4, 4, 3), int(self.x), np.uint8), np.full((4, 4), self.x, np.float32)
        depth[0, 0] = np.inf
        return View({"primary": rgb}, {"primary": depth}, np.full(4, self.x, np.float32))

    def expert(self):
        return np.array([0.5, 0, 0, 1], np.float32)
