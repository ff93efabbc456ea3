"""The bench of a policy: what it reports of a tiny one, and that both ways lead to the same actions."""

import json

import pytest

from data_pipelines.oxe.bridge import BRIDGE_DATASET
from farsighted_jax.bench import policy as policy_bench
from farsighted_jax.cli import bench
from farsighted_jax.cli.policy_run import policy_zeros
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.batch import check
from farsighted_jax.lam import model as lam_model
from farsighted_jax.lam.frozen import frozen_lam
from farsighted_jax.policy import model as policy_model
from farsighted_jax.policy.task import policy_task


@pytest.fixture(scope="module")
def tiny():
    """Task and zeros of a policy smaller than any that is shipped, for the compiler's sake."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"width": 8, "num_heads": 2}
        patch.setitem(lam_model.VARIANTS, "tiny", {**sizes, "encoder_depth": 1, "decoder_depth": 1})
        patch.setitem(policy_model.VARIANTS, "tiny", {**sizes, "depth": 1, "head_depth": 2})
        data = ["data.resolution=16", "data.offsets_s=(0.2,0.4)"]
        lam = config_lib.load(
            "configs/lam_pretrain.py:tiny", [*data, "model.num_slots=2", "model.num_keypoints=0"]
        )
        own = ["data.cameras=('primary',)", "flow.num_steps=3", "model.unroll=1", "model.text_encoder="]
        config = config_lib.load("configs/policy_finetune.py:tiny", [*data, *own])
        task = policy_task(config, frozen_lam(lam), {BRIDGE_DATASET.name: BRIDGE_DATASET.spec})
        yield task, policy_zeros(config, task)


@pytest.fixture(scope="module")
def measured(tiny):
    lines = []
    return policy_bench.run(*tiny, steps=2, warm_up=1, report=lines.append), lines


def test_the_bench_reports_both_ways_their_calls_and_the_parts(measured):
    found, lines = measured
    assert json.loads(json.dumps(found)) == found
    cached, uncached = found["chunk"]["cached"], found["chunk"]["uncached"]
    for way in (cached, uncached):
        assert 0 < way["p50_ms"] <= way["p95_ms"] and way["compile_s"] > 0
    # Four codes: context, vision, five steps of the plan, actions; against a pass a code, then the groups.
    assert cached["calls"] == {"backbone": 8, "action_head": 3}
    assert uncached["calls"] == {"backbone": 4 + 4, "action_head": 3}
    assert found["difference"] < 1e-4
    parts = ["context", "vision", "plan", "condition", "flow"]
    assert list(found["parts_ms"]) == parts and min(found["parts_ms"].values()) > 0
    assert lines[-5:] == [f"compiling the part {name!r}" for name in parts]
    assert found["tokens"] == {"context": 4 + 1, "vision": 4, "plan": 5, "action": 4}
    assert found["codes"] == 4 and found["samples"] == 1 and found["frozen_params"] > 0


def test_the_random_batch_keeps_the_contract(tiny):
    _, zeros = tiny
    batch = policy_bench.random_batch(zeros)
    sizes = check(batch | {name: batch["dataset"] for name in ("episode", "step")}, values=True)
    assert (sizes["B"], sizes["R"], sizes["P"]) == (1, 1, 1)
    assert batch["history_valid"].all() and batch["history_rgb"].std() > 50


def test_a_policy_without_actions_has_no_chunk_to_time():
    with pytest.raises(
        config_lib.ConfigError, match="'task': 'policy_pretrain' is not one of.*policy_finetune"
    ):
        bench.main(["policy", "--config", "configs/policy_pretrain.py:tiny"])
