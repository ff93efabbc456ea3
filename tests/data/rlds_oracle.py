"""Runs the `rlds` package on arrays and prints what it finds; started as its own process by test_rlds_oracle.

`rlds` imports `reverb`, whose binary fits no current TensorFlow. Only names
are taken from it, at import, by functions that are not used here; an empty
stand-in takes its place while `rlds` is imported.
"""

import json
import sys
import types
from unittest import mock

import numpy as np
import tensorflow as tf


def imported_rlds():
    """The rlds package, imported with a stand-in for reverb."""
    reverb = types.ModuleType("reverb")
    reverb.structured_writer = types.SimpleNamespace(
        Config=object, Pattern=object, ReferenceStep=object, Condition=object
    )
    with mock.patch.dict(sys.modules, {"reverb": reverb}):
        import rlds
    return rlds


def main(path):
    """Prints windows (lists of steps) for each episode and stride, and mean and std of the actions."""
    rlds = imported_rlds()
    with np.load(path, allow_pickle=False) as stored:
        episodes = [stored[f"episode_{i}"] for i in range(len(stored.files))]
    windows = {}
    for stride in (1, 2):
        windows[stride] = []
        for actions in episodes:
            steps = tf.data.Dataset.range(len(actions))
            batches = rlds.transformations.batch(steps, size=4, shift=1, stride=stride)
            windows[stride].append([batch.numpy().tolist() for batch in batches])

    def nested():
        for actions in episodes:
            yield {"steps": tf.data.Dataset.from_tensor_slices({"action": actions})}

    steps_spec = tf.data.DatasetSpec({"action": tf.TensorSpec((episodes[0].shape[1],), tf.float32)})
    dataset = tf.data.Dataset.from_generator(nested, output_signature={"steps": steps_spec})
    mean, std = rlds.transformations.mean_and_std(
        dataset, lambda step: ({"action": step["action"]}, {"action": True}), optimization_batch_size=4
    )
    found = {"mean": np.asarray(mean["action"]).tolist(), "std": np.asarray(std["action"]).tolist()}
    print(json.dumps({"windows": windows, **found}))


if __name__ == "__main__":
    main(sys.argv[1])
