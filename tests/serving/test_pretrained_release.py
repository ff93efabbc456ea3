"""A release of a policy without actions: what it gives, what it says of actions."""

import numpy as np
import pytest
from tiny_policy_run import write_policy_run

from farsighted_jax.cli.publish import publish
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.serving.example import observations_of
from farsighted_jax.serving.policy import load

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")


def video_only(config):
    config.task, config.model.action = "policy_pretrain", False


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    run = write_policy_run(tmp_path_factory.mktemp("video"), video_only)
    # Here its example is computed twice and compared.
    return publish(run, run.parent / "released")


def test_it_plans_and_imagines(published):
    arrays, policy = published.example(), load(published.folder)
    observations = observations_of(arrays)
    np.testing.assert_array_equal(policy.plan(observations), arrays["output/code"])
    assert arrays["output/code"].shape == (2, 2, 4)
    frames = policy.imagined(observations)
    assert frames.shape == (2, 16, 16, 3) and frames.dtype == np.float32
    assert frames.min() >= 0 and frames.max() <= 1 and np.ptp(frames[0] - frames[1]) > 1e-3


def test_it_says_how_to_get_actions(published):
    policy = load(published.folder)
    assert policy.horizon == 0
    with pytest.raises(
        PolicyError, match="no actions for 'tiny', only `plan` and `imagined`; finetune it: .*init="
    ):
        policy(observations_of(published.example()))
    card = published.text("README.md")
    assert "policy.plan(observations)" in card and "policy_finetune.py" in card and "no actions" in card
    assert "float32[J, M]" not in card and "## Actions" not in card


@pytest.mark.slow
def test_one_that_imagines_alone_has_a_frame_as_its_example(tmp_path):
    def change(config):
        video_only(config)
        config.model.plan = False

    found = publish(write_policy_run(tmp_path, change), tmp_path / "released")
    policy = load(found.folder)
    frames = found.example()["output/rgb"]
    np.testing.assert_array_equal(policy.imagined(observations_of(found.example())), frames)
    with pytest.raises(PolicyError, match="plan"):
        policy.plan(observations_of(found.example()))
