"""`farsighted publish`: a LAM as a release that stands in for its run folder; model cards; tokenizers."""

import json
import re
import shutil

import numpy as np
import pytest
from tiny_tokenizer import write_tokenizer
from tool_cases import VARIANT

from data_pipelines.language.instructions import tokenizer_for
from farsighted_jax.checkpoint import release
from farsighted_jax.checkpoint.manager import CheckpointStore
from farsighted_jax.cli import clips, publish
from farsighted_jax.cli.main import main
from farsighted_jax.cli.model_card import model_card
from farsighted_jax.cli.policy_run import policy_run
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.spec import dataset_spec
from farsighted_jax.lam.inference import LatentActions
from farsighted_jax.lam.model import VARIANTS

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")

STEP = 3


@pytest.fixture(scope="module")
def run_folder(tool_model, tmp_path_factory):
    """The tools' model as training leaves it, with the results of an evaluation."""
    folder, run = tmp_path_factory.mktemp("publish") / "run", tool_model.run
    store = CheckpointStore(folder, keep_last=1, keep_every=0, report=lambda text: None)
    store.save(STEP, {"params": run.params, "model_state": run.model_state}, {"config": run.config.to_dict()})
    store.close()
    (folder / "config.json").write_text(config_lib.to_json(run.config))
    (folder / "statistics.json").write_text(json.dumps(run.statistics))
    (folder / "eval.json").write_text(json.dumps(EVALUATION))
    return folder


EVALUATION = {
    "reconstruction": {"psnr": {"0.2": 21.53, "0.6": None}, "names": ["a"]},
    "run": {"step": STEP, "split": "val", "windows": 12, "datasets": ["tiny"]},
}


@pytest.fixture(scope="module")
def published(run_folder):
    patch = pytest.MonkeyPatch()
    patch.setitem(VARIANTS, "tiny", VARIANT)
    out = run_folder.parent / "released"
    assert main(["publish", str(run_folder), str(out)]) == 0
    yield release.read(out)
    patch.undo()


def test_a_released_lam_gives_the_codes_of_its_run(published, tool_model):
    assert (published.kind, published.step) == ("lam", STEP)
    example = published.example()
    inputs = {name.removeprefix("input/"): x for name, x in example.items() if name.startswith("input/")}
    again = clips.load_model(str(published.folder))
    assert again.run.config.data.dir == tool_model.run.config.data.dir.rpartition("/")[2]
    for model in (again, tool_model):
        actions = LatentActions(model.run.task, model.run.params, model.run.model_state)
        np.testing.assert_array_equal(actions.encode(inputs)["code"], example["output/code"])
    assert len(np.unique(example["output/code"])) > 1


def test_a_policy_takes_a_released_lam(published, run_folder, tool_data):
    config = config_lib.load("configs/policy_pretrain.py:tiny")
    config.lam, config.data.dir, config.data.mixture = str(published.folder), str(tool_data), "tiny"
    config.data.resolution, config.data.offsets_s = 16, (0.2, 0.6)
    found = policy_run(config)
    config.lam = str(run_folder)
    assert found.lam.document["digest"] == policy_run(config).lam.document["digest"]
    assert found.lam.document["step"] == STEP


def test_nothing_points_at_the_machine(published, run_folder, tool_data):
    for path in published.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert str(tool_data).encode() not in content and str(run_folder.parent).encode() not in content, path


def test_the_card_has_what_was_measured(published):
    card = published.text("README.md")
    assert "| reconstruction.psnr.0.2 | 21.53 |" in card and "12 windows of split `val` of tiny" in card
    assert "0.6" not in card.partition("## Measured")[2] and "Not measured" not in card


@pytest.mark.parametrize(
    ("evaluation", "sentence"),
    [(None, "Not measured."), ({"run": {"step": STEP + 1}}, "Not measured at this step; .* of step 4")],
)
def test_the_card_says_what_was_not_measured(published, evaluation, sentence):
    config = config_lib.from_json(published.text("config.json"))
    card = model_card(
        "name", "lam", config=config, specs=[dataset_spec(spec) for spec in published.document("specs.json")],
        statistics=published.document("statistics.json"), step=STEP,
        num_params={"trained": 1, "frozen": 0}, evaluation=evaluation,
    )  # fmt: skip
    assert re.search(sentence, card)


def test_a_release_whose_example_comes_out_otherwise_does_not_stay(run_folder, published, monkeypatch):
    out = run_folder.parent / "other"
    encode, calls = LatentActions.encode, []

    def drifting(self, batch):
        calls.append(batch)
        found = dict(encode(self, batch))
        return found | {"code": np.asarray(found["code"]) + len(calls)}

    monkeypatch.setattr(LatentActions, "encode", drifting)
    assert main(["publish", str(run_folder), str(out)]) == 1
    assert len(calls) == 2 and not out.exists()


def test_a_damaged_run_is_not_published(run_folder, tmp_path, capsys):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    path = max((copy / "checkpoints" / str(STEP)).rglob("d/*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["publish", str(copy), str(tmp_path / "out")]) == 1
    assert path.name in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_tokenizer_comes_along(tmp_path):
    assert publish._tokenizer_files(None) == publish._tokenizer_files(tokenizer_for("bytes")) == {}
    path = write_tokenizer(tmp_path / "tokenizer.json")
    for place in (path, path.parent):
        assert publish._tokenizer_files(tokenizer_for(str(place))) == {"tokenizer.json": path.read_bytes()}
