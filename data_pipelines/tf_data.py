"""A plain tf.data pipeline of the same windows, to measure the reader beside; needs the extra `build`.

It does what peers' RLDS loaders do: whole episodes from TFRecord through TFDS, images still encoded;
windows cut from each episode; a shuffle buffer of windows; then decoding, resizing and batching in as many
threads as tf.data sees fit. Images are resized as `frame.prepare_rgb` does.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

from data_pipelines.reading_rate import reading_rate

SHUFFLE = 1000


def window_batches(
    folder: str,
    split: str,
    *,
    rgb_key: str,
    action_key: str,
    steps: Sequence[int],
    action_horizon: int,
    resolution: int,
    batch_size: int,
    shuffle: int = SHUFFLE,
) -> Any:
    """An endless tf.data.Dataset of batches of whole windows.

    Args:
      folder: version folder of a dataset of TFRecord files.
      split: as TFDS has it.
      rgb_key: of the image in a step, e.g. "observation/image".
      action_key: of the action, or "" without.
      steps: steps from frame 0 to each further frame.
      action_horizon: steps of the action chunk; past the end the last one is repeated.
      resolution: height and width of the result in pixels.
      batch_size: windows a batch.
      shuffle: windows of the shuffle buffer; 0 for the order of the files, once.

    Returns:
      Batches {"rgb": uint8[B, T, size, size, 3], "action": float32[B, J, M]}.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.set_visible_devices([], "GPU")
    offsets = tf.constant([0, *steps])
    builder = tfds.builder_from_directory(folder)
    episodes = builder.as_dataset(
        split=split,
        shuffle_files=bool(shuffle),
        decoders={"steps": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False, enable_ordering_guard=False),
    )

    def windows(episode):
        encoded_L = _leaf(episode["steps"], rgb_key)
        length = tf.shape(encoded_L)[0]
        starts_W = tf.range(tf.maximum(length - max(steps), 0))
        out = {"rgb": tf.gather(encoded_L, starts_W[:, None] + offsets)}
        if action_key:
            chunk_WJ = starts_W[:, None] + tf.range(action_horizon)
            out["action"] = tf.gather(_leaf(episode["steps"], action_key), tf.minimum(chunk_WJ, length - 1))
        return tf.data.Dataset.from_tensor_slices(out)

    def prepared(window):
        images = tf.map_fn(
            lambda encoded: resized(tf.io.decode_image(encoded, channels=3, expand_animations=False)),
            window["rgb"],
            fn_output_signature=tf.TensorSpec((resolution, resolution, 3), tf.uint8),
            parallel_iterations=len(steps) + 1,
        )
        return window | {"rgb": images}

    def resized(image_HWC):
        return resize(image_HWC, resolution)

    if shuffle:
        episodes = episodes.repeat()
    found = episodes.flat_map(windows)
    if shuffle:
        found = found.shuffle(shuffle, seed=0)
    found = found.map(prepared, num_parallel_calls=tf.data.AUTOTUNE, deterministic=not shuffle)
    return found.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def resize(image_HWC: Any, resolution: int) -> Any:
    """The image at the model's size: area average where it shrinks, bilinear where it grows."""
    import tensorflow as tf

    shape = tf.shape(image_HWC)
    size = (resolution, resolution)

    def shrunk():
        return tf.image.resize(image_HWC, size, method="area")

    def grown():
        return tf.image.resize(image_HWC, size, method="bilinear")

    resized_HWC = tf.cond(tf.reduce_max(shape[:2]) > resolution, shrunk, grown)
    return tf.cast(tf.round(resized_HWC), tf.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m data_pipelines.tf_data JSON`: measures it and prints one JSON object."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("settings", help="arguments of `window_batches`, and under 'rate' of `reading_rate`")
    settings = json.loads(parser.parse_args(argv).settings)
    rate = settings.pop("rate")
    batches = window_batches(**settings).as_numpy_iterator()
    frames = 1 + len(settings["steps"])
    print(json.dumps(reading_rate(batches, lambda batch: len(batch["rgb"]) * frames, **rate)))


def _leaf(steps, key):
    for part in key.split("/"):
        steps = steps[part]
    return steps


if __name__ == "__main__":
    main()
