"""A tiny task and stream for the tests of training: a two-layer network with an averaged statistic."""

import dataclasses
import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from farsighted_jax.core import rng

INPUTS, HIDDEN, OUTPUTS = 6, 8, 4


@dataclasses.dataclass(frozen=True)
class ToyTask:
    """Masked regression with noise on the input; `model_state` averages the hidden units."""

    noise: float = 0.01
    partial_init: bool = False

    def init(self, key, batch):
        first, second = jax.random.split(key)
        params = {
            "encoder": {
                "kernel": jax.random.normal(first, (batch["x"].shape[1], HIDDEN)) * 0.4,
                "bias": jnp.zeros(HIDDEN),
            },
            "decoder": {
                "kernel": jax.random.normal(second, (HIDDEN, OUTPUTS)) * 0.4,
                "bias": jnp.zeros(OUTPUTS),
            },
        }
        return params, {"mean": jnp.zeros(HIDDEN)}

    def pretrained_shapes(self):
        return {}

    def denominators(self, batch):
        return {"error": jnp.maximum(batch["valid"].sum().astype(jnp.float32), 1.0)}

    def loss(self, params, model_state, batch, key, denominators):
        keys = rng.sample_keys(key, batch["row"])
        noise = jax.vmap(lambda k: jax.random.normal(k, batch["x"].shape[1:]))(keys)
        x = batch["x"] + self.noise * noise
        hidden = jnp.tanh(x @ params["encoder"]["kernel"] + params["encoder"]["bias"])
        centred = hidden - model_state["mean"]
        y = centred @ params["decoder"]["kernel"] + params["decoder"]["bias"]
        error = jnp.where(batch["valid"][:, None], (y - batch["y"]) ** 2, 0.0).sum()
        count = batch["valid"].sum().astype(jnp.float32)
        updates = {
            "sum": jax.lax.stop_gradient(jnp.where(batch["valid"][:, None], hidden, 0.0).sum(0)),
            "count": count,
        }
        return error / denominators["error"], ({"error": (error, count)}, updates)

    def merge_updates(self, first, second):
        return jax.tree.map(jnp.add, first, second)

    def next_model_state(self, model_state, updates):
        mean = updates["sum"] / jnp.maximum(updates["count"], 1.0)
        return {"mean": 0.9 * model_state["mean"] + 0.1 * mean}, {
            "batch_mean": (updates["sum"].sum(), updates["count"])
        }

    def restarted_model_state(self, model_state, updates):
        return {"mean": jnp.zeros_like(model_state["mean"])}


@dataclasses.dataclass
class ToyStream:
    """batch = f(seed, step); steps in `bad_steps` (counted from 0) hold a NaN."""

    batch_size: int = 16
    seed: int = 0
    bad_steps: tuple = ()
    fingerprint: str = "toy-1"
    rows: tuple | None = None
    opened: int = 0
    closed: int = 0

    statistics = {"toy": {"mean": [0.0, 1.0], "count": 3}}
    schedule = [[0, {"toy": 1.0}]]
    names = ("toy",)

    @property
    def fingerprints(self):
        return {"toy": self.fingerprint}

    def batch(self, step):
        random = np.random.default_rng([self.seed, step])
        x = random.normal(size=(self.batch_size, INPUTS)).astype(np.float32)
        y = np.tanh(x[:, :OUTPUTS] * 2 - x[:, -OUTPUTS:]).astype(np.float32)
        if step in self.bad_steps:
            y[1, 2] = np.nan
        valid = np.arange(self.batch_size) % 5 != 3
        batch = {"x": x, "y": y, "valid": valid, "step": np.full(self.batch_size, step, np.int32)}
        batch["episode"] = np.arange(self.batch_size, dtype=np.int32)
        return batch if self.rows is None else {name: array[list(self.rows)] for name, array in batch.items()}

    def batches(self, first_step, *, readers, prefetch):
        self.opened += 1
        step = first_step
        try:
            while True:
                yield step, self.batch(step)
                step += 1
        finally:
            self.closed += 1

    def ids_digest(self, batch):
        return hashlib.sha256(batch["step"].tobytes() + batch["episode"].tobytes()).hexdigest()[:16]


def toy_config(**changes):
    """A small configuration; keys with "__" for a dot, e.g. `checkpoint__every=1`."""
    config = ConfigDict(
        dict(
            seed=0, total_steps=20, stop_step=0, log_every=1, batch_size=16, init="",
            optimizer=dict(
                learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=-1, b1=0.9, b2=0.99,
                weight_decay=0.1, clip_norm=1.0, accumulation=1, ema_decay=0.0, freeze=(),
                no_decay=(r"bias$",), max_bad_steps=3,
            ),
            gate=dict(metric="", minimum=0.0, start_step=4, window=3, patience=2),
            checkpoint=dict(every=100, keep_last=2, keep_every=0, async_save=True),
            mesh=dict(data=-1, fsdp=1, tensor=1),
            data=dict(dir="", readers=1, prefetch=1),
        )
    )  # fmt: skip
    for key, value in changes.items():
        config.update_from_flattened_dict({key.replace("__", "."): value})
    config.lock()
    return config


def main(workdir, *assignments):
    """Trains in a process of its own: `python toy_task.py WORKDIR key=value ...`."""
    from farsighted_jax.core.config import assign
    from farsighted_jax.sharding.mesh import make_mesh
    from farsighted_jax.train.loop import train

    config = toy_config()
    for assignment in assignments:
        assign(config, *assignment.split("=", 1))
    train(ToyTask(), ToyStream(config.batch_size), config, workdir, mesh=make_mesh(config.mesh))


if __name__ == "__main__":
    main(*sys.argv[1:])
