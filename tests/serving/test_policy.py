"""A published policy: made of its folder alone, the same bit for bit, in the units of the robot."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rlds_writer import episode_steps
from tiny_policy_run import SHAPES, STEP, write_policy_run

from farsighted_jax.checkpoint import release
from farsighted_jax.checkpoint.digest import content_digests
from farsighted_jax.checkpoint.manifest import CorruptCheckpointError
from farsighted_jax.checkpoint.release import ReleaseError
from farsighted_jax.cli.main import main
from farsighted_jax.cli.publish import publish
from farsighted_jax.cli.run import read_run
from farsighted_jax.core.normalization import ArrayStatistics, denormalize
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.serving import policy as serving
from farsighted_jax.serving.observation import ObservationError
from farsighted_jax.serving.policy import Executing, load
from farsighted_jax.sharding.mesh import make_mesh

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")

J, M = 4, 7


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    def change(config):
        # More than a release's example has rows.
        config.data.windows_per_episode = 3

    return write_policy_run(tmp_path_factory.mktemp("policy"), change)


@pytest.fixture(scope="module")
def published(run_folder):
    return publish(run_folder, run_folder.parent / "released")


@pytest.fixture(scope="module")
def policy(published):
    return load(published.folder)


@pytest.fixture(scope="module")
def seen(policy):
    """The steps of the episode, each with its history."""
    history = policy.history()
    return [
        history.add(
            {
                "rgb": {"primary": step["observation"]["image"], "wrist": step["observation"]["wrist"]},
                "depth": {"primary": step["observation"]["depth"][..., 0]},
                "state": step["observation"]["state"],
                "instruction": "pick up the cup",
            }
        )
        for step in episode_steps(0, 4, **SHAPES)
    ]


# Always two at once, so that one program serves all tests.
def test_actions_are_a_function_of_observations_and_seed(policy, seen):
    assert policy.keys == ("rgb", "depth", "state", "instruction") and policy.history_steps == (2, 0)
    actions = policy(seen[2:])
    assert actions.shape == (2, J, M) and actions.dtype == np.float32 and np.isfinite(actions).all()
    np.testing.assert_array_equal(policy(seen[2:]), actions)
    assert (policy(seen[2:], seed=1) != actions).any()


def test_an_observation_with_a_seed_of_its_own_has_its_noise_wherever_it_stands(policy, seen):
    actions = policy(seen[2:], seed=[7, 8])
    np.testing.assert_allclose(policy(seen[:1:-1], seed=[8, 7])[::-1], actions, atol=1e-5)
    assert (np.abs(policy(seen[2:], seed=[7, 7]) - actions).max((1, 2)) > 1e-3).tolist() == [False, True]
    with pytest.raises(PolicyError, match="1 seeds for 2 observations"):
        policy(seen[2:], seed=[7])


def test_a_chunk_goes_on_from_the_actions_that_a_robot_executes(policy, seen):
    plain = policy(seen[2:], seed=[7, 8])
    rest = policy(seen[:2])[0][1:]
    out = policy(seen[2:], seed=[7, 8], executing=[Executing(rest, 2), None])
    np.testing.assert_allclose(out[0, :2], rest[:2], rtol=1e-5, atol=1e-6)
    assert np.abs(out[0, 2:] - plain[0, 2:]).max() > 1e-3
    np.testing.assert_allclose(out[1], plain[1], atol=1e-5)
    with pytest.raises(PolicyError, match=r"2 committed of actions of shape \(1, 7\), expected .* 4 of 7"):
        policy(seen[2:], executing=[Executing(rest[:1], 2), None])
    with pytest.raises(PolicyError, match="1 chunks that are executed for 2 observations"):
        policy(seen[2:], executing=[None])


@pytest.mark.slow
def test_without_a_seed_the_flow_starts_from_zero(policy, seen):
    zero = policy(seen[2:], seed=None)
    assert np.isfinite(zero).all() and (zero != policy(seen[2:])).any()


@pytest.mark.slow
def test_one_observation_gives_one_chunk(policy, seen):
    actions = policy(seen[2])
    assert actions.shape == (J, M) and actions.dtype == np.float32
    np.testing.assert_allclose(actions, policy(seen[2:])[0], atol=1e-5)


@pytest.mark.parametrize("key", ["rgb", "depth", "state", "instruction"])
def test_every_part_of_an_observation_counts(policy, seen, key):
    other = {
        "rgb": {role: 255 - images for role, images in seen[3]["rgb"].items()},
        "depth": {"primary": seen[3]["depth"]["primary"] // 3},
        "state": seen[3]["state"] + 1,
        "instruction": "put it down",
    }
    changed = policy([seen[2], seen[3] | {key: other[key]}])
    assert (changed[1] != policy(seen[2:])[1]).any()


def test_actions_are_in_the_robots_units(policy, published):
    ones = np.ones((2, M), np.float32)
    statistics = ArrayStatistics.from_dict(published.document("statistics.json")["tiny"]["action"])
    expected = denormalize(ones, statistics, "q01_q99", [False] * 6 + [True])
    np.testing.assert_array_equal(policy.in_robot_units(ones), expected)
    assert (policy.in_robot_units(ones)[:, 6] == 1).all()


def test_a_release_has_all_there_is_and_no_place_of_the_machine(published, run_folder):
    names = {path.relative_to(published.folder).as_posix() for path in published.folder.iterdir()}
    assert names == {
        "README.md", "config.json", "example.npz", "lam.json", "manifest.json", "model.safetensors", "params",
        "preprocessing.json", "specs.json", "statistics.json",
    }  # fmt: skip
    assert (published.kind, published.step) == ("policy", STEP)
    places = [str(run_folder.parent).encode(), str(sys.prefix).encode(), b"released", b"/" + b"home/"]
    for path in published.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.name == "README.md":
            content = content.replace(b"# released", b"")
        for place in places:
            assert place not in content, (path, place)
    assert published.document("config.json")["data"]["dir"] == run_folder.parent.name


def test_the_card_says_what_was_measured(published, run_folder):
    card = published.text("README.md")
    assert "Not measured." in card and f"after {STEP} training steps" in card
    assert re.search(r"\| gripper \| 1 \| gripper \| absolute \|", card)
    assert 'policy({"rgb": {"primary": image, "wrist": image}, "state": state' in card


def test_a_run_is_read_back_from_its_release(published, run_folder):
    first, again = read_run(run_folder), read_run(published.folder)
    assert again.task == first.task and again.step == first.step
    lam = first.task.inputs.latent_actions
    assert serving._lam(published, ["tiny"]) == lam and lam.depth_constants == ((0.1, 0.5),)
    assert content_digests(again.params) == content_digests(first.params)


def test_an_example_that_comes_out_otherwise_is_refused(published, monkeypatch):
    load(published.folder, check=True)
    arrays = published.example()
    changed = arrays | {"output/action": arrays["output/action"] + 0.01}
    monkeypatch.setattr(release.Release, "example", lambda self: changed)
    with pytest.raises(ReleaseError, match="example's action comes out otherwise: off by .* at most 0.001"):
        load(published.folder, check=True)


@pytest.mark.slow
def test_a_mesh_gives_the_same_actions(published, policy, seen):
    mesh = make_mesh({"data": 2, "fsdp": 1, "tensor": 1}, jax.devices()[:2])
    on_mesh = load("hf://someone/tiny", fetch=lambda *asked: published.folder, mesh=mesh)
    found = on_mesh(seen[1:])
    assert found.shape == (3, J, M)
    np.testing.assert_allclose(found[1:], policy(seen[1:])[1:], atol=1e-4)


def test_an_older_release_loads():
    """As format 1 was written, without the second copy of the weights, which a release may lack."""
    folder = Path(__file__).parents[1] / "golden" / "release_v1"
    assert release.read(folder).body["release"]["format"] == 1
    assert load(folder, check=True).spec.name == "tiny"


def test_what_cannot_be_loaded_is_named(published, tmp_path):
    with pytest.raises(ReleaseError, match=r"'other', expected one of \['tiny'\]"):
        load(published.folder, embodiment="other")
    copy = shutil.copytree(published.folder, tmp_path / "copy")
    (copy / "specs.json").write_text("[]")
    with pytest.raises(CorruptCheckpointError, match=r"specs\.json"):
        load(copy)
    with pytest.raises(ReleaseError, match="no such folder"):
        load(tmp_path / "absent")


def test_what_cannot_be_read_is_named(policy, seen):
    with pytest.raises(ObservationError, match="lacks camera 'wrist'"):
        policy(seen[3] | {"rgb": {"primary": seen[3]["rgb"]["primary"]}})


def test_vectors_of_texts_are_for_runs_that_read_them(run_folder, capsys):
    for flags in (["--text-encoder"], ["--text-features", "elsewhere"]):
        assert main(["evaluate", "--checkpoint", str(run_folder), *flags]) == 1
        assert "was not trained on stored vectors of texts" in capsys.readouterr().err


def test_the_command_refuses_a_folder_that_is_there(published, run_folder, capsys):
    assert main(["publish", str(run_folder), str(published.folder)]) == 1
    assert "released: there already" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_actions_bit_for_bit(published):
    code = (
        "import sys, numpy as np\n"
        "from farsighted_jax.serving.example import SEED, observations_of\n"
        "from farsighted_jax.checkpoint import release\n"
        "from farsighted_jax.serving.policy import Executing, load\n"
        "from pathlib import Path\n"
        "arrays = release.read(Path(sys.argv[1])).example()\n"
        "action = load(sys.argv[1])(observations_of(arrays), seed=SEED)\n"
        "print(action.tobytes().hex())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(published.folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = published.example()["output/action"]
    assert done.stdout.split()[-1] == expected.tobytes().hex()
