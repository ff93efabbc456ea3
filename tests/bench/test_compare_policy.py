"""The comparison of policies: which trainings its cells share, that each can be built, and its claim."""

import runpy
from pathlib import Path

import pytest

from data_pipelines.builders.synthetic import dataset_spec
from farsighted_jax.bench import compare, stages
from farsighted_jax.core.config import from_json, to_json
from farsighted_jax.lam.frozen import frozen_lam
from farsighted_jax.policy.task import policy_task

FILE = "configs/compare_policy.py"
OUT = Path("runs")


@pytest.fixture(scope="module")
def comparison():
    return compare.read(FILE)


@pytest.fixture(scope="module")
def planned(comparison):
    """Variant -> its configuration with stages filled in, and the stages."""
    return {
        name: stages.planned(config, comparison.stages, OUT) for name, config in comparison.variants.items()
    }


def test_cells_share_latent_action_models_and_pretraining(planned):
    named = {name: [place.name for place in runs] for name, (_, runs) in planned.items()}
    assert named["full"] == named["full_10"] == named["full_1"]
    lams = {name: places[0] for name, places in named.items() if len(places) == 2}
    assert lams["full"] == lams["no_vision"]
    assert len(set(lams.values())) == 3 and not {"no_lam", "no_plan"} & lams.keys()
    starts = {name: places[-1] for name, places in named.items()}
    assert len(set(starts.values())) == len(starts) - 2, "the few labels are those of finetuning alone"


def test_every_variant_starts_from_what_it_can_use(planned):
    for name, (config, runs) in planned.items():
        by_key = {place.name.partition("-")[0]: from_json(to_json(stage)) for place, stage in runs.items()}
        lam = frozen_lam(by_key["lam"]) if "lam" in by_key else None
        specs = {"circle_demos_100": dataset_spec("circle", "circle_demos_100")}
        task, before = (policy_task(each, lam, specs) for each in (config, by_key["init"]))
        assert "action" in task.model.layout.groups, name
        assert ("action" in before.model.layout.groups) is name.startswith("no_lam"), name
        groups = [group for group in task.model.layout.groups if group != "action"]
        assert groups == [group for group in before.model.layout.groups if group != "action"], name
        assert (config.init, config.lam) == (str(list(runs)[-1]), str(list(runs)[0]) if lam else "")


def test_variants_cost_the_same_steps(comparison, planned):
    full = comparison.variants["full"]
    for name, (config, runs) in planned.items():
        assert (config.total_steps, config.batch_size) == (full.total_steps, full.batch_size), name
        for place, stage in runs.items():
            if place.name.startswith("lam-"):
                assert stage.batch_size * len(stage.data.offsets_s) == 24, name
            else:
                assert stage.batch_size == full.batch_size, name
    starts = {name: list(runs.values())[-1].total_steps for name, (_, runs) in planned.items()}
    assert len({starts[name] for name in starts if not name.startswith("no_lam")}) == 1


def test_video_is_seen_whole_and_labels_only_in_part(planned):
    for name, (config, runs) in planned.items():
        for place, stage in runs.items():
            labelled = place.name.startswith("init-") and name.startswith("no_lam")
            mixture = config.data.mixture if labelled else "synthetic_circle"
            assert (stage.data.mixture, stage.data.split) == (mixture, "train"), (name, place)
    for name, number in {"full": 100, "full_10": 10, "full_1": 1}.items():
        labelled = planned[name.replace("full", "no_lam")][0].data.mixture
        assert labelled == f"circle_demos_{number}"
        assert planned[name][0].data.mixture == f"{labelled}:0.5,synthetic_circle:0.5"


@pytest.mark.parametrize(
    ("errors", "holds"),
    [((1.0, 2.0, 1.0, 2.0), True), ((2.0, 2.0, 1.0, 2.0), False), ((1.0, 2.0, 3.0, 2.0), False)],
)
def test_the_claim_is_about_few_labels(errors, holds):
    claim = runpy.run_path(FILE)["claim"]
    names = ("full_1", "no_lam_1", "full_10", "no_lam_10")
    assert claim({name: {"error_px": error} for name, error in zip(names, errors, strict=True)}) is holds


def test_the_steps_of_the_stages_can_be_set_from_outside():
    config = compare.read(FILE, ["stages.lam_steps=7", "data.dir=elsewhere"], ["full"]).variants["full"]
    cell, runs = stages.planned(config, compare.read(FILE).stages, OUT)
    # They are no part of what the cell itself is: another length of a stage that it does not use leaves it.
    assert "stages" not in cell and config.stages.lam_steps == 7
    lam, pretrain = runs.values()
    assert lam.total_steps == 7 and lam.data.dir == pretrain.data.dir == "elsewhere"
