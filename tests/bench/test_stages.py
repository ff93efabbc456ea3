"""Runs that the cells of a table share: trained once a configuration and seed, kept, and failing alone."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from farsighted_jax.bench import compare, stages
from farsighted_jax.core.config import ConfigError, from_json, to_json
from farsighted_jax.train.gate import CollapsedError


def config_of(**changes):
    """A configuration that a stage `base` and, unless it is alone, a stage `start` come before."""
    whole = {"seed": 0, "base": "", "start": "", "depth": True, "vision": True, "fraction": 1.0} | changes
    return from_json(to_json(ConfigDict(whole)))


def base_of(config):
    return ConfigDict({"seed": 0, "stage": "base", "depth": config.depth, "data": {"readers": 2}})


def start_of(config):
    if config.fraction < 0:
        return None
    return ConfigDict({"seed": 0, "stage": "start", "base": config.base, "vision": config.vision})


STAGES = {"base": base_of, "start": start_of}
VARIANTS = {
    "full": {}, "few": {"fraction": 0.1}, "blind": {"vision": False}, "flat": {"depth": False},
    "alone": {"fraction": -1.0},
}  # fmt: skip


def comparison():
    variants = {name: config_of(**changes) for name, changes in VARIANTS.items()}
    return compare.Comparison(variants, {"score": "score"}, stages=STAGES)


class Runs:
    def __init__(self, cut_at="", collapses=""):
        self.trained, self.cut_at, self.collapses = [], cut_at, collapses

    def train(self, config, folder):
        name = config.get("stage") or folder.parent.name
        if name == self.cut_at:
            raise KeyboardInterrupt
        self.trained.append((name, config.seed, str(folder)))
        if name == self.collapses:
            raise CollapsedError("one code for everything")
        if "start" in config and config.start:
            assert Path(config.start).is_dir() and Path(config.base).is_dir()

    def fill(self, out, seeds=(0,)):
        return compare.run(comparison(), seeds, out, train=self.train, evaluate=lambda folder: {"score": 1.0})

    @property
    def names(self):
        return [name for name, *_ in self.trained]


def test_cells_share_the_stages_that_are_the_same(tmp_path):
    runs = Runs()
    table = runs.fill(tmp_path, [0, 1])
    one_seed = ["base", "start", "full", "few", "start", "blind", "base", "start", "flat", "alone"]
    assert runs.names == one_seed * 2
    assert len({folder for _, _, folder in runs.trained}) == len(runs.trained), "a folder a run and seed"
    assert len(list((tmp_path / "stages").iterdir())) == 10
    assert table["cells"][0].keys() >= {"score", "stages_cpu_minutes"}
    assert "| stages_cpu_minutes |" in (tmp_path / "table.md").read_text()


def test_a_cut_table_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Runs(cut_at="blind").fill(tmp_path)
    again = Runs()
    again.fill(tmp_path)
    assert again.names == ["blind", "base", "start", "flat", "alone"]
    last = Runs()
    last.fill(tmp_path)
    assert last.trained == []


def test_a_stage_that_fails_fails_its_cells_alone_and_once(tmp_path):
    runs = Runs(collapses="start")
    table = runs.fill(tmp_path)
    errors = {row["variant"]: row.get("error", "") for row in table["cells"]}
    assert "alone" in runs.names and not errors["alone"] and "full" not in runs.names
    assert errors["full"].startswith("StageError: stage start-") and "one code for" in errors["full"]
    assert runs.names.count("start") == 3, "that of the few labels is that of all of them"


def test_what_decides_no_training_makes_no_new_stage(tmp_path):
    def places(config, folder, **changes):
        def base(config):
            stage = base_of(config)
            stage.update(changes)
            return stage

        return list(stages.planned(config, STAGES | {"base": base}, folder)[1])

    first = places(config_of(), tmp_path / "a")
    assert [place.name for place in places(config_of(), tmp_path / "b")] == [place.name for place in first]
    assert places(config_of(), tmp_path / "a", data={"readers": 7}) == first
    assert places(config_of(fraction=0.5), tmp_path / "a") == first
    assert places(config_of(), tmp_path / "a", flow={"draws": 1}) == first, "as before there was such a key"
    assert places(config_of(), tmp_path / "a", flow={"draws": 2}) != first
    deeper = places(config_of(), tmp_path / "a", layers=3)
    assert deeper[0] != first[0] and deeper[1] != first[1], "what starts from another run is another run"
    assert places(config_of(seed=1), tmp_path / "a") != first


def test_planning_fills_in_the_folders_and_leaves_the_configuration_alone(tmp_path):
    config = config_of()
    filled, runs = stages.planned(config, STAGES, tmp_path)
    assert [filled.base, filled.start] == [str(place) for place in runs] and config.base == ""
    assert runs[Path(filled.start)].base == filled.base
    alone, runs = stages.planned(config_of(fraction=-1.0), STAGES, tmp_path)
    assert alone.start == "" and len(runs) == 1
    with pytest.raises(ConfigError, match="'bases'.*did you mean 'base'"):
        stages.planned(config, {"bases": base_of}, tmp_path)
