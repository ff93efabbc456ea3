"""One batch of datasets that differ in what they have: actions and their width, states, depth, language."""

import dataclasses
import json

import numpy as np
import pytest
from rlds_writer import episode_steps, tiny_spec, write_rlds

from data_pipelines.stream import open_stream
from farsighted_jax.core import spec as spec_lib
from farsighted_jax.core.batch import check

NAMES = ("full", "narrow", "video")
LENGTH = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Full: 7 action dimensions, depth, two cameras, language; narrow: 4; video: no action."""
    folder = tmp_path_factory.mktemp("rlds")
    options = {"lengths": {"train": (LENGTH,) * 3}, "size": (8, 8)}
    write_rlds(folder, "full", depth="png", wrist=True, **options)
    write_rlds(folder, "narrow", width=4, state_width=2, hz=10.0, drop=("language_instruction",), **options)
    write_rlds(folder, "video", drop=("action", "state"), **options)
    change_spec(folder, tiny_spec("narrow", width=4, state_width=2, hz=10.0), language_key="")
    change_spec(folder, tiny_spec("video"), action=None, state_key="", state_names=())
    return folder


def change_spec(folder, spec, **changes):
    values = spec_lib.to_dict(dataclasses.replace(spec, **changes))
    (folder / spec.name / "1.0.0" / "dataset_spec.json").write_text(json.dumps(values))


def opened(root, mixture, **changes):
    data = {
        "dir": str(root), "mixture": mixture, "split": "train", "resolution": 8, "offsets_s": (0.2,),
        "action_horizon": 3, "text_tokenizer": "bytes", "text_length": 8, "cameras": ("primary", "wrist"),
        "history_s": (0.2,), "augment": True, "shift": 0.2, "plain_clip": True,
    }  # fmt: skip
    return open_stream(data | changes, batch_size=12, seed=1)


def test_they_give_one_batch_that_masks_what_a_dataset_lacks(root):
    stream = opened(root, ",".join(NAMES))
    batch = stream.batch(0)
    sizes = check(batch, values=True)
    assert {letter: sizes[letter] for letter in "JMIRPL"} == {"J": 3, "M": 7, "I": 5, "R": 2, "P": 2, "L": 8}
    full, narrow, video = (batch["dataset"] == stream.names.index(name) for name in NAMES)
    assert full.any() and narrow.any() and video.any()
    for rows, width, state_width in ((full, 7, 5), (narrow, 4, 2), (video, 0, 0)):
        assert (batch["action_valid"][rows][:, 0] == (np.arange(7) < width)).all()
        assert (batch["action_sum_valid"][rows][:, 0] == (np.arange(7) < width)).all()
        assert (batch["proprio_valid"][rows] == (np.arange(5) < state_width)).all()
    for name in ("depth_valid", "plain_depth_valid", "history_depth_valid"):
        assert batch[name][full].any() and not batch[name][~full].any()
    assert batch["text_valid"].any(axis=1).tolist() == (~narrow).tolist()
    assert batch["history_valid"][:, -1].tolist() == [[True, has_wrist] for has_wrist in full]
    for name in ("action", "action_sum", "proprio", "text", "depth", "history_depth", "plain_depth"):
        assert not batch[name][~batch[f"{name}_valid"]].any(), name


def test_a_row_does_not_depend_on_the_other_datasets(root):
    """Padding apart: a dataset alone gives the same rows as within a mixture."""
    options = {"cameras": ("primary",), "augment": False}
    mixed, alone = opened(root, "narrow,full", **options), opened(root, "narrow", **options)
    rows = {}
    for stream in (mixed, alone):
        for batch in stream.epoch(readers=1, prefetch=1):
            for row in np.flatnonzero(batch["dataset"] == 0):
                place = int(batch["episode"][row]), int(batch["step"][row])
                rows.setdefault(place, []).append({name: array[row] for name, array in batch.items()})
    assert len(rows) == 3 * (LENGTH - 2)
    for within, by_itself in rows.values():
        for name, array in by_itself.items():
            part = tuple(slice(size) for size in array.shape)
            np.testing.assert_array_equal(within[name][part], array, err_msg=name)
        assert (within["action_valid"].sum(), within["proprio_valid"].sum()) == (
            by_itself["action_valid"].sum(), by_itself["proprio_valid"].sum()
        )  # fmt: skip


def test_video_alone_has_no_action_fields(root):
    batch = opened(root, "video", action_fraction=0.1, cameras=("primary",)).batch(0)
    check(batch, values=True)
    assert not {"action", "action_sum", "proprio", "depth", "history_depth", "plain_depth"} & batch.keys()
    assert batch["text_valid"].any(axis=1).all() and batch["history_valid"][:, -1].all()


def test_another_camera_may_have_depth_of_its_own(root, tmp_path):
    """It is normalised by the constants of the clip's camera, which the batch holds."""
    write_rlds(tmp_path, "full", depth="png", wrist=True, size=(8, 8), lengths={"train": (LENGTH,)}, shards=1)
    spec = tiny_spec("full", depth="png", wrist=True)
    wrist = dataclasses.replace(
        spec.cameras[0], name="wrist", rgb_key="observation/wrist", depth_unit_m=0.002
    )
    change_spec(tmp_path, spec, cameras=(spec.cameras[0], wrist))
    batch = opened(tmp_path, "full", augment=False).batch(0)
    for row in range(12):
        steps = episode_steps(0, LENGTH, depth="png", wrist=True, size=(8, 8))
        stored = steps[batch["step"][row]]["observation"]["depth"]
        valid = batch["history_depth_valid"][row, -1]
        np.testing.assert_array_equal(valid, [stored > 0, stored > 0])
        log_m = batch["history_depth"][row, -1] * batch["depth_scale"][row] + batch["depth_center"][row]
        expected = [stored * 0.001, stored * 0.002]
        np.testing.assert_allclose(np.exp(log_m[valid]), np.stack(expected)[valid], rtol=1e-4)
