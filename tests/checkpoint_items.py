"""Items of a tiny checkpoint, for the tests of checkpoints."""

import jax
import jax.numpy as jnp

from farsighted_jax.checkpoint.manager import CheckpointStore


def items_of(seed, width=6):
    """Items of a tiny state."""
    kernel = jax.random.normal(jax.random.key(seed), (4, width))
    return {
        "params": {"dense": {"kernel": kernel, "bias": kernel[0] * 2}},
        "model_state": {"count": jnp.arange(width) + seed},
        "optimizer": {"mu": {"dense": {"kernel": kernel * 3}}, "step": jnp.int32(seed)},
    }


def abstract_of(items):
    """Shapes of items, on the first device."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), items)


def saved_run(folder, steps, frozen=None):
    """Saves steps into a run folder; returns step -> state digest."""
    store = CheckpointStore(folder, keep_last=9, keep_every=0, report=lambda text: None)
    reference = store.save_frozen(frozen or {})
    documents = {"config": {"seed": 1}, "statistics": {"a": [1.5]}, "data": {"fingerprint": "f"}}
    digests = {step: store.save(step, items_of(step), documents, reference) for step in steps}
    store.close()
    return digests
