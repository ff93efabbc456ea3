"""A run that was trained on stored vectors of texts: evaluated by them or not, published with its encoder."""

import json
import shutil

import jax
import numpy as np
import pytest
from tiny_networks import write_network
from tiny_policy_run import write_policy_run
from tiny_text import tiny_text
from tiny_tokenizer import PIECES, write_tokenizer

from data_pipelines.text_features import ABOUT, TextFeatureError
from farsighted_jax.checkpoint.digest import content_digests
from farsighted_jax.checkpoint.manager import FROZEN
from farsighted_jax.cli import text_features
from farsighted_jax.cli.evaluate import evaluate_run
from farsighted_jax.cli.main import main
from farsighted_jax.cli.publish import publish
from farsighted_jax.cli.run import RunError, read_run, stream_for, with_text_encoder
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.policy.inference import LatentPolicy
from farsighted_jax.pretrained import folder as pretrained_folder
from farsighted_jax.serving.policy import load

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with tiny_text(tmp_path_factory.mktemp("stored-text"), width=32) as folder:
        yield folder


@pytest.fixture(scope="module")
def run_folder(place):
    def change(config):
        config.model.image_encoder, config.model.text_encoder = "patch", "t5-tiny"
        config.model.plan = config.model.vision = False
        config.model.depth_input, config.data.cameras, config.data.history_s = "none", ("primary",), ()
        config.model.num_keypoints, config.model.action_context = 0, True
        config.data.text_tokenizer = str(place / "tokenizer.json")
        config.eval.evaluators, config.eval.batch_size = ("action_error",), 2
        text_features.run(config, place / "features", report=lambda line: None)
        config.data.text_features = str(place / "features")

    return write_policy_run(place, change)


@pytest.fixture(scope="module")
def published(run_folder, place):
    assert not (run_folder / FROZEN).exists()
    return publish(run_folder, place / "released")


def test_a_release_runs_the_encoder_whose_vectors_it_was_trained_on(published, place):
    config = published.document("config.json")
    assert config["data"]["text_features"] == "" and config["model"]["text_encoder"] == "t5-tiny"
    run = read_run(published.folder)
    assert run.task.fields.count("text") == 1 and "text_vector" not in run.task.fields
    given = pretrained_folder.load("t5-tiny").params
    assert content_digests(run.params[PRETRAINED]) == content_digests({"t5-tiny": given})
    for path in published.folder.rglob("*"):
        assert not path.is_file() or str(place).encode() not in path.read_bytes()


def test_it_acts_as_the_run_does_on_its_vectors(published, run_folder):
    run, released = read_run(run_folder), read_run(published.folder)
    batch = stream_for(run.config, batch_size=2, train=False, statistics=run.statistics).batch(0)
    assert run.task.pretrained_shapes() == {} and np.abs(batch["text_vector"]).max() > 0.1
    expected, found = (
        np.asarray(LatentPolicy(each.task, each.params).actions(batch, jax.random.key(0)))
        for each in (run, released)
    )
    assert np.isfinite(expected).all() and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_takes_other_texts_and_a_release_of_the_run_with_its_encoder_acts_the_same_bit_for_bit(
    published, run_folder
):
    policy, arrays = load(published.folder, check=True), published.example()
    run = with_text_encoder(read_run(run_folder), run_folder)
    released = read_run(published.folder)
    assert content_digests(run.params) == content_digests(released.params) and run.task == released.task
    observation = {
        "rgb": {"primary": arrays["input/rgb/primary"][0]},
        "state": arrays["input/state"][0],
        "instruction": str(arrays["input/instruction"][0]),
    }
    actions = policy([observation, observation | {"instruction": "move some blocks"}])
    np.testing.assert_array_equal(actions[0], arrays["output/action"][0])
    assert (actions[1] != policy([observation] * 2)[1]).any()


def test_it_is_evaluated_with_its_vectors_or_with_the_encoder(run_folder, place, tmp_path, capsys):
    result = evaluate_run(run_folder, split="train")
    encoded = evaluate_run(run_folder, split="train", text_encoder=True)
    mae, other = (each["action_error"]["tiny"]["normalised"]["mae"]["all"] for each in (result, encoded))
    assert mae == pytest.approx(other, rel=1e-5) and mae > 0
    moved = shutil.copytree(place / "features", tmp_path / "moved")
    again = evaluate_run(run_folder, split="train", text_features=str(moved))
    assert again["action_error"] == result["action_error"]
    about = json.loads((moved / ABOUT).read_text())
    (moved / ABOUT).write_text(json.dumps(about | {"digest": "e" * 64}))
    with pytest.raises(ConfigError, match="'data.text_features': other vectors.*digest: 'eeee.* -> "):
        evaluate_run(run_folder, split="train", text_features=str(moved))
    with pytest.raises(RunError, match="expected one of them"):
        evaluate_run(run_folder, text_features=str(moved), text_encoder=True)
    shutil.rmtree(moved)
    with pytest.raises(TextFeatureError, match="moved.*no text features there"):
        evaluate_run(run_folder, split="train", text_features=str(moved))


def refused(run_folder, out, error, message):
    with pytest.raises(error, match=message):
        publish(run_folder, out)
    assert not out.exists()


def test_it_is_not_published_with_another_encoder(run_folder, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "cache"))
    assert main(["publish", str(run_folder), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "t5-tiny: no converted weights there; run: farsighted convert --model t5-tiny" in said
    write_network("t5-tiny", seed=1)
    digest = json.loads((place / "features" / ABOUT).read_text())["digest"][:16]
    refused(run_folder, tmp_path / "out", RunError, f"t5-tiny: weights of t5-tiny .* expected {digest}")


def test_it_is_not_published_with_another_tokenizer(run_folder, place, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["data"]["text_tokenizer"] = str(write_tokenizer(tmp_path / "tokenizer.json", [*PIECES, "b"]))
    (copy / "config.json").write_text(json.dumps(config))
    refused(copy, tmp_path / "out", RunError, "tokenizer.json: tokenizer with digest")
    (copy / ABOUT).unlink()
    refused(copy, tmp_path / "out", RunError, "text_features.json: does not say which vectors")
