"""`farsighted evaluate` of policies, with functions of a few lines in place of a trained one."""

import cv2
import numpy as np
import pytest

from farsighted_jax.cli import evaluate_policy, evaluation_report
from farsighted_jax.core.normalization import ArrayStatistics, denormalize
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec
from farsighted_jax.evaluators.base import PolicyFunctions
from farsighted_jax.evaluators.registry import evaluate

V, Z, B, T, J, SIZE = 12, 2, 4, 3, 3, 16
NAMES = ("x", "y", "grip")
ACTION = ActionSpec(
    NAMES, ("m", "m", "1"), ("translation",) * 2 + ("gripper",), (True, True, False), "base", "none", 5.0
)
CAMERAS = (CameraSpec("primary", "image"),)
SPECS = (DatasetSpec("arm", 5.0, CAMERAS, ACTION), DatasetSpec("video", 5.0, CAMERAS))
ENTRY = {
    "mean": [0.5, 0.0, 0.7], "std": [1.0, 1.0, 0.4], "q01": [-1.0, -4.0, 0.0], "q99": [3.0, 4.0, 1.0],
    "min": [-1.0, -4.0, 0.0], "max": [3.0, 4.0, 1.0], "count": 9,
}  # fmt: skip
STATISTICS = {"arm": {"action": ENTRY}, "video": {"action": None}}


class Split:
    """Stands in for a stream of one batch."""

    def __init__(self):
        rng, self.batch_size = np.random.default_rng(0), B
        clip = (B, T, SIZE, SIZE)
        self.batch = {
            "rgb": rng.integers(0, 256, (*clip, 3), np.uint8),
            "depth": rng.normal(size=(*clip, 1)).astype(np.float32),
            "depth_valid": np.ones((*clip, 1), bool),
            "depth_center": np.zeros(B, np.float32),
            "depth_scale": np.ones(B, np.float32),
            "time_s": np.tile(np.arange(T, dtype=np.float32) / 5, (B, 1)),
            "frame_valid": np.ones((B, T), bool),
            "action": rng.normal(size=(B, J, 3)).astype(np.float32),
            "action_valid": np.ones((B, J, 3), bool),
            "last_action": np.zeros((B, 3), np.float32),
            "last_action_valid": np.ones((B, 3), bool),
            **{name: np.arange(B, dtype=np.int32) for name in ("episode", "step")},
            "dataset": np.zeros(B, np.int32),
        }

    def epoch(self):
        yield self.batch


def policy_functions():
    code = np.zeros((B, T - 1, Z), np.int32)
    logit = np.zeros((B, (T - 1) * Z, V), np.float32)
    logit[..., 0] = 1.0
    return PolicyFunctions(
        V,
        Z,
        actions=lambda batch: batch["action"] + np.float32(0.5),
        logits=lambda _: {"logit": logit, "code": code, "code_valid": np.ones((B, T - 1), bool)},
        plan=lambda _: {"logit": logit, "code": code},
        imagined=lambda batch: {"rgb": batch["rgb"][:, 1] / 255.0, "depth": batch["depth"][:, 1]},
    )


@pytest.fixture(scope="module")
def scored():
    split = Split()
    functions = policy_functions()
    scales = evaluate_policy.action_scales(STATISTICS, SPECS, "q01_q99")
    names = ["action_error", "plan_accuracy", "imagined_frame"]
    result = evaluate(functions, split.epoch(), names, seed=0, datasets=SPECS, action_scales=scales)
    return split, functions, {**result, "run": {"step": 7, "windows": B, "split": "val"}}


def test_scales_are_those_of_the_normalisation():
    scale, none = evaluate_policy.action_scales(STATISTICS, SPECS, "q01_q99")
    assert none is None
    np.testing.assert_allclose(scale.unit, [2.0, 4.0, 1.0])
    statistics = ArrayStatistics.from_dict(ENTRY)
    back = denormalize(scale.mean, statistics, "q01_q99", [False, False, True])
    np.testing.assert_allclose(back, ENTRY["mean"], atol=1e-6)
    assert scale.mean[2] == np.float32(0.7), "a gripper is left alone"


def test_the_summary_has_a_line_a_part(scored):
    text = evaluation_report.summary(scored[2])
    assert "arm: action error 0.500 (normalised)" in text and "4 chunks" in text
    assert "plan: top-1, 5, 10 1.000 (1.000)" in text and "unigram entropy 0.000" in text
    assert "0.2 s: imagined frame PSNR 100.000 dB" in text


def test_pictures_show_the_imagined_frame_its_depth_and_the_chunk(scored, tmp_path):
    pytest.importorskip("matplotlib")
    split, functions, result = scored
    evaluate_policy.draw(tmp_path, functions, split, result)
    assert {path.name for path in tmp_path.iterdir()} == {
        "imagined.png", "imagined_depth.png", "actions_arm.png"
    }  # fmt: skip
    for path in tmp_path.iterdir():
        assert cv2.imread(str(path)).std() > 5


def test_a_policy_that_lacks_a_part_has_no_picture_of_it(scored, tmp_path):
    split, _, _ = scored
    evaluate_policy.draw(tmp_path, PolicyFunctions(V, Z), split, {"action_error": {}})
    assert not list(tmp_path.iterdir())
    lacking = evaluate(PolicyFunctions(V, Z), split.epoch(), ["plan_accuracy", "imagined_frame"], seed=0)
    assert evaluate_policy.summary(lacking) == []
