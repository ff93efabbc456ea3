"""The kept tables are those of the kept figures: no number was written by hand."""

import json
from pathlib import Path

import pytest

from farsighted_jax.bench import stages
from farsighted_jax.bench.compare import read
from farsighted_jax.bench.table_text import markdown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = sorted((ROOT / "configs" / "results").glob("*.json"))
SEEDS = {"closed_loop": (0,)}


def comparison_of(path):
    return read(str(ROOT / "configs" / f"compare_{path.stem}.py"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_table_is_made_of_its_json_and_complete(path):
    table = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == markdown(table)
    variants = set(comparison_of(path).variants)
    found = [(cell["variant"], cell["seed"]) for cell in table["cells"]]
    seeds = SEEDS.get(path.stem, (0, 1, 2))
    assert sorted(found) == sorted((variant, seed) for variant in variants for seed in seeds)


def test_cells_of_the_policies_are_still_known():
    path = ROOT / "configs" / "results" / "policy.json"
    table, comparison = json.loads(path.read_text(encoding="utf-8")), comparison_of(path)
    assert table["cells"]
    for cell in table["cells"]:
        config = comparison.variants[cell["variant"]].copy_and_resolve_references()
        config.seed = cell["seed"]
        config, _ = stages.planned(config, comparison.stages, Path("out"))
        assert cell["digest"] == stages.digest(config, comparison.stages), (cell["variant"], cell["seed"])
