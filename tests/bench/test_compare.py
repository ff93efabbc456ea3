"""Tables that compare variants: which cells run, what they show, what is claimed."""

import json
import runpy

import pytest

from farsighted_jax.bench import columns, compare, table_text
from farsighted_jax.core.config import ConfigError
from farsighted_jax.train.gate import CollapsedError
from farsighted_jax.viz.comparison import comparison_figure

FILE = """
from ml_collections import ConfigDict
from farsighted_jax.core.config import change

VARIANTS = {"plain": {}, "wide": {"model.width": 8}}
COLUMNS = {"r2": "mean probe/*/r2", "loss": ("probe/near/r2", "probe/far/r2")}
CURVES = {"by gap": ("probe/*/gap_s", "probe/*/r2")}

def claim(rows):
    '''Wide is
    better.'''
    return rows["wide"]["r2"] > rows["plain"]["r2"]

def get_config(arg=None):
    config = ConfigDict({"seed": 0, "total_steps": 100, "model": {"width": 4}, "eval": {"fit_batches": 2}})
    change(config, VARIANTS[arg or "plain"])
    return config
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "compare_it.py"
    path.write_text(FILE)
    return str(path)


class Runs:
    """Stands in for training and evaluating; remembers in which order cells ran."""

    def __init__(self, cut_at=None, collapses=()):
        self.trained, self.evaluated, self.cut_at, self.collapses = [], [], cut_at, collapses

    def train(self, config, folder):
        place = f"{folder.parent.name}/{folder.name}"
        if place == self.cut_at:
            raise KeyboardInterrupt
        self.trained.append((place, config.seed, config.model.width))
        if place in self.collapses:
            raise CollapsedError("one code for everything")

    def evaluate(self, folder):
        self.evaluated.append(folder.name)
        wide, seed = folder.parent.name == "wide", int(folder.name[-1])
        far = 0.5 if wide else 0.2 + 0.1 * seed
        return {"probe": {"near": {"r2": 0.8, "gap_s": 1.6}, "far": {"r2": far, "gap_s": 12.8}}}

    def fill(self, comparison, out, seeds=(0, 1, 2), known=None):
        return compare.run(comparison, seeds, out, train=self.train, evaluate=self.evaluate, known=known)


def test_all_variants_of_a_seed_come_before_the_next_seed(file, tmp_path):
    runs = Runs()
    table = runs.fill(compare.read(file), tmp_path / "t")
    assert runs.trained == [
        (f"{name}/seed_{seed}", seed, width)
        for seed in range(3)
        for name, width in (("plain", 4), ("wide", 8))
    ]
    assert [(cell["variant"], cell["seed"]) for cell in table["cells"]][:3] == [
        ("plain", 0), ("wide", 0), ("plain", 1)
    ]  # fmt: skip
    assert table["median"]["plain"] == table["median"]["plain"] | {"r2": 0.55, "loss": 0.5}
    assert table["curves"]["by gap"]["wide"]["1"] == [[1.6, 0.8], [12.8, 0.5]]
    assert table["claim"] == {
        "text": "Wide is better.", "seeds": {"0": True, "1": True, "2": True}, "median": True
    }  # fmt: skip
    assert json.loads((tmp_path / "t" / "table.json").read_text()) == table
    assert {"train_minutes", "train_cpu_minutes", "evaluate_minutes"} <= table["cells"][0].keys()
    assert table["hosts"][0]["cores"] >= 1


def test_finished_cells_are_kept_and_a_cut_one_goes_on(file, tmp_path):
    comparison, out = compare.read(file), tmp_path / "t"
    with pytest.raises(KeyboardInterrupt):
        Runs(cut_at="wide/seed_1").fill(comparison, out)
    partial = json.loads((out / "table.json").read_text())
    assert len(partial["cells"]) == 3 and partial["claim"]["seeds"] == {"0": True, "1": None}
    assert "open" in (out / "table.md").read_text()
    again = Runs()
    again.fill(comparison, out)
    assert [place for place, *_ in again.trained] == ["wide/seed_1", "plain/seed_2", "wide/seed_2"]
    last = Runs()
    assert last.fill(comparison, out)["claim"]["median"] is True and not last.trained + last.evaluated


def test_other_columns_need_no_other_runs(file, tmp_path):
    comparison, out, runs = compare.read(file), tmp_path / "t", Runs()
    runs.fill(comparison, out, [0])
    more = compare.Comparison(comparison.variants, {"far": "probe/far/r2"})
    table = runs.fill(more, out, [0])
    assert len(runs.trained) == 2 and table["median"]["wide"]["far"] == 0.5 and "claim" not in table


def test_known_cells_are_taken_as_they_are_unless_their_configuration_changed(file, tmp_path):
    first = Runs(collapses=("wide/seed_1",)).fill(compare.read(file), tmp_path / "first", seeds=(0, 1))
    known, comparison = json.loads(json.dumps(first)), compare.read(file)
    runs = Runs()
    table = runs.fill(comparison, tmp_path / "second", seeds=(0, 1, 2), known=known)
    assert [place for place, *_ in runs.trained] == ["plain/seed_2", "wide/seed_2"]
    assert table["cells"][:4] == known["cells"] and len(table["cells"]) == 6
    assert table["curves"]["by gap"]["plain"].keys() == {"0", "1", "2"}
    assert json.loads((tmp_path / "second" / "table.json").read_text()) == table
    other = compare.read(file, ["total_steps=7"])
    changed = Runs()
    changed.fill(other, tmp_path / "third", seeds=(0,), known=known)
    assert len(changed.trained) == 2
    old = {**known, "cells": [{k: v for k, v in row.items() if k != "digest"} for row in known["cells"]]}
    unnamed = Runs()
    unnamed.fill(comparison, tmp_path / "fourth", seeds=(0,), known=old)
    assert len(unnamed.trained) == 2


def test_a_cell_of_another_configuration_is_not_shown_as_this_one(file, tmp_path):
    Runs().fill(compare.read(file), tmp_path / "t", [0])
    for override, named in (("total_steps=7", "total_steps: 100 -> 7"), ("eval.fit_batches=9", "2 -> 9")):
        with pytest.raises(ConfigError, match=f"plain/seed_0/cell.json.*{named}"):
            Runs().fill(compare.read(file, [override]), tmp_path / "t", [0])


def test_a_collapsed_training_is_a_result_and_the_others_go_on(file, tmp_path):
    runs, out = Runs(collapses=("plain/seed_0",)), tmp_path / "t"
    table = runs.fill(compare.read(file), out, [0, 1])
    assert len(runs.trained) == 4 and len(runs.evaluated) == 3
    assert table["cells"][0]["r2"] is None and "one code" in table["cells"][0]["error"]
    assert table["claim"]["seeds"] == {"0": None, "1": True} and table["median"]["plain"]["r2"] == 0.55
    text = (out / "table.md").read_text()
    assert "plain, seed 0: CollapsedError: one code for everything" in text and "0.55, 1 n/a" in text
    assert comparison_figure(tmp_path / "f.png", table).stat().st_size > 5000


def test_overrides_win_over_variants_and_variants_can_be_chosen(file, tmp_path):
    comparison = compare.read(file, ["model.width=3", "total_steps=5"], ["wide"])
    assert list(comparison.variants) == ["wide"] and comparison.claim is None
    assert (comparison.variants["wide"].model.width, comparison.variants["wide"].total_steps) == (3, 5)


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        (FILE.replace("model.width\"", "model.widht\""), {}, "model.widht.*did you mean 'model.width'"),
        (FILE.replace(": 8}", ": 'x'}"), {}, "model.width.*'x' is not of type int"),
        (FILE.replace("COLUMNS", "COLUMS"), {}, r"no comparison.*\['COLUMNS'\]"),
        (FILE, {"only": ["wid"]}, "did you mean 'wide'"),
        (FILE, {"overrides": ["model.widt=3"]}, "did you mean 'model.width'"),
    ],
)  # fmt: skip
def test_a_wrong_comparison_is_refused_before_anything_runs(tmp_path, text, options, named):
    path = tmp_path / "c.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        compare.read(str(path), **options)
    with pytest.raises(ConfigError, match="no configuration file.*absent.py"):
        compare.read(str(tmp_path / "absent.py"))


RESULT = {"a": {"x": {"0.2": 1.0, "0.4": 3.0}, "y": {"0.2": None, "0.4": None}}, "n": 5}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("n", 5), ("a/x/0.4", 3.0), ("min a/x/*", 1.0), ("max a/x/*", 3.0), ("mean a/x/*", 2.0),
        ("a/y/0.2", None), ("min a/y/*", None), ("min a/*/*", 1.0), (("a/x/0.4", "n"), -2.0),
        (("n", "a/y/0.2"), None),
    ],
)  # fmt: skip
def test_the_value_of_a_column(column, expected):
    assert columns.value(RESULT, column) == expected


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ("a/xx/0.4", "no 'xx'.*did you mean 'x'"), ("a/x", "does not end at a number.*0.2"),
        ("a/x/*", "names 2 values"), ("median a/x/*", "'median' is not one of"), ("n/a", "no 'a'"),
    ],
)  # fmt: skip
def test_a_column_that_leads_nowhere_is_named(column, named):
    with pytest.raises(ConfigError, match=named):
        columns.value(RESULT, column)


def test_markdown_has_a_row_a_variant_with_median_and_range(file, tmp_path):
    table = Runs().fill(compare.read(file), tmp_path / "t")
    lines = table_text.markdown(table).splitlines()
    assert lines[0].startswith("| variant | seeds | r2 | loss | train_minutes |")
    assert lines[1].count("---") == lines[0].count("|") - 1
    assert lines[2].startswith("| plain | 0, 1, 2 | 0.55 (0.5 to 0.6) | 0.5 (0.4 to 0.6) |")
    assert lines[3].startswith("| wide | 0, 1, 2 | 0.65 | 0.3 |")
    claim = next(line for line in lines if line.startswith("Claim"))
    assert claim == "Claim: Wide is better. Medians: holds (seed 0: holds, seed 1: holds, seed 2: holds)."


def test_figures_show_curves_or_columns(file, tmp_path):
    table = Runs().fill(compare.read(file), tmp_path / "t")
    curves = comparison_figure(tmp_path / "curves.png", table)
    dots = comparison_figure(tmp_path / "dots.png", {**table, "curves": {}})
    assert curves.stat().st_size > 5000 and dots.stat().st_size > 5000
    assert curves.read_bytes() != dots.read_bytes()


@pytest.mark.parametrize(
    ("full", "pair", "holds"),
    [
        ((0.8, 0.1), (0.7, 0.3), True), ((0.7, 0.1), (0.7, 0.3), True), ((0.69, 0.1), (0.7, 0.3), False),
        ((0.8, 0.15), (0.7, 0.3), False), ((0.8, 0.3), (0.7, 0.3), False),
    ],
)  # fmt: skip
def test_the_temporal_claim(full, pair, holds):
    claim = runpy.run_path("configs/compare_temporal.py")["claim"]
    rows = {name: {"r2_m1": r2, "loss_m8": loss} for name, (r2, loss) in (("full", full), ("pair", pair))}
    assert claim(rows) is holds


def test_temporal_variants_cost_the_same_and_end_at_the_same_gap():
    comparison = compare.read("configs/compare_temporal.py")
    for name, config in comparison.variants.items():
        assert config.batch_size * len(config.data.offsets_s) == 24, name
        assert config.data.offsets_s[-1] == 1.6, name
        assert config.total_steps == comparison.variants["pair"].total_steps, name
    assert comparison.variants["full"].data.offset_scales == (1.0,)
    assert max(comparison.variants["strong"].data.offset_scales) == max(config.eval.gap_multiples)
