"""Several ways to say a task, samples that are told nothing, and goals in hindsight."""

import collections
import dataclasses
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from lerobot_writer import frame, write_film
from rlds_writer import tiny_spec, write_rlds

from data_pipelines.builders import episodes as episodes_lib
from data_pipelines.dataset import open_split
from data_pipelines.errors import DatasetError
from data_pipelines.goal import goal_step
from data_pipelines.language.byte_tokenizer import ByteTokenizer
from data_pipelines.language.paraphrases import chosen, ways_to_say
from data_pipelines.oxe.droid import DROID
from data_pipelines.stream import open_stream
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.spec import dataset_spec, to_dict

LENGTH = 6
WAYS = ("open it", "pull it open", "please open it")


def episode(number, length=LENGTH):
    rng = np.random.default_rng(number)
    return {
        "rgb/primary": rng.integers(0, 256, (length, 8, 8, 3), np.uint8),
        "action": rng.normal(size=(length, 7)),
        "state": rng.normal(size=(length, 5)),
        "instruction": WAYS[0] if number != 2 else "",
        "metadata": {"instructions": list(WAYS) if number == 0 else ["", WAYS[0]][number == 1 :]},
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Episode 0 of "said" has three ways to say it, 1 has one and 2 none; films have lines of text."""
    root = tmp_path_factory.mktemp("language")
    metadata = {"instructions": tfds.features.Sequence(tfds.features.Text())}
    spec = dataclasses.replace(tiny_spec("said"), paraphrases="instructions")
    said = {"train": lambda: map(episode, range(3))}
    episodes_lib.write_dataset(root, spec, said, metadata=metadata)
    write_film(root / "films" / "a.mp4", [frame(0, step) for step in range(8)], fps=5)
    (root / "films" / "a.txt").write_text("pour\n\n  fill the cup \n")
    return root


def opened(root, mixture="said", train=True, **changes):
    data = {
        "dir": str(root), "mixture": mixture, "split": "train", "resolution": 8, "offsets_s": (0.2,),
        "text_tokenizer": "bytes", "text_length": 24,
    }  # fmt: skip
    return open_stream(data | changes, batch_size=30, seed=1, train=train)


def texts(batch):
    rows = zip(batch["text"], batch["text_valid"], strict=True)
    return [ByteTokenizer().text(row[valid]).decode() for row, valid in rows]


def test_ways_to_say_it_come_from_the_episode_and_each_counts_once(root):
    split = open_split(root, "said", "train")
    found = [tuple(map(bytes.decode, ways_to_say(e, split.spec))) for e in split.episodes()]
    assert found == [WAYS, WAYS[:1], WAYS[:1]]
    film = open_split(root, "films", "train").episode(0)
    assert film.instruction == b"pour" and film.instructions == (b"pour", b"fill the cup")
    assert [chosen((b"a", b"b", b"c"), share) for share in (0, 0.34, 0.99)] == [b"a", b"b", b"c"]
    assert chosen((), 0.5) == b""


def test_further_step_features_of_a_registered_dataset_say_it_too():
    rows = {key: [text] for key, text in zip(DROID.recipe.language, (b"", b"lift", b"raise"), strict=True)}
    assert dataclasses.replace(DROID.recipe, action=(), state=()).standard(rows, 1).instructions == (
        b"lift", b"raise",
    )  # fmt: skip


def test_a_training_sample_draws_one_and_evaluation_takes_the_first(root):
    stream = opened(root, text_choice="any")
    said = collections.defaultdict(collections.Counter)
    for step in range(12):
        batch = stream.batch(step)
        for number, text in zip(batch["episode"].tolist(), texts(batch), strict=True):
            said[number][text] += 1
    # Episode 2 has no usual instruction, and what else says it takes its place.
    assert set(said[0]) == set(WAYS) and set(said[1]) == set(WAYS[:1]) and set(said[2]) == set(WAYS[:1])
    share = np.array(list(said[0].values())) / sum(said[0].values())
    assert (np.abs(share - 1 / 3) < 0.15).all()
    again = opened(root, text_choice="any")
    np.testing.assert_array_equal(again.batch(7)["text"], stream.batch(7)["text"])
    evaluated = opened(root, train=False, text_choice="any").batch(0)
    np.testing.assert_array_equal(evaluated["text"], opened(root).batch(0)["text"])


def test_some_are_told_nothing_and_nothing_else_changes(root):
    plain, dropped = (opened(root, text_dropout=share, augment=True, shift=0.2) for share in (0.0, 0.4))
    told = []
    for step in range(8):
        first, second = plain.batch(step), dropped.batch(step)
        rows = second["text_valid"].any(axis=1)
        told.extend(rows[first["text_valid"].any(axis=1)])
        for name in set(first) - {"text", "text_valid"}:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        np.testing.assert_array_equal(second["text"][rows], first["text"][rows])
        assert not second["text"][~rows].any()
    assert abs(np.mean(told) - 0.6) < 0.12
    assert opened(root, train=False, text_dropout=1.0).batch(0)["text_valid"].any()


@pytest.mark.parametrize("within_s", [0.0, 0.4])
@pytest.mark.parametrize("goal", ["last", "uniform"])
def test_a_goal_is_a_later_frame_of_the_episode(root, goal, within_s):
    stream = opened(root, goal=goal, goal_within_s=within_s)
    steps = collections.Counter()
    for number in range(6):
        batch = stream.batch(number)
        check(batch, values=True)
        assert batch["goal_valid"].all()
        for row in range(30):
            start = int(batch["step"][row])
            step = start + round(float(batch["goal_time_s"][row]) * 5)
            steps[step - start, LENGTH - 1 - start] += 1
            stored = episode(int(batch["episode"][row]))["rgb/primary"]
            np.testing.assert_array_equal(batch["goal_rgb"][row], stored[step])
    # Steps to the last frame that may be the goal, by how many the episode still has: 0.4 s are 2.
    last = {after: min(after, 2) if within_s else after for after in range(1, LENGTH)}
    assert set(steps) == {
        (k, after) for after, most in last.items() for k in range(most if goal == "last" else 1, most + 1)
    }
    assert "goal_rgb" not in opened(root).batch(0)
    evaluated = opened(root, goal=goal, goal_within_s=within_s, train=False).batch(0)
    expected = [last[LENGTH - 1 - start] for start in evaluated["step"].tolist()]
    np.testing.assert_allclose(evaluated["goal_time_s"] * 5, expected, rtol=1e-6)


def test_the_step_of_a_goal():
    assert [goal_step(2, 6, share) for share in (0.0, 0.3, 0.34, 0.999, 1.0)] == [3, 3, 4, 5, 5]
    assert goal_step(4, 6, 0.0) == goal_step(4, 6, 1.0) == 5
    assert [goal_step(2, 9, 1.0, most) for most in (0.2, 1.4, 1.6, 4.0, 99.0)] == [3, 3, 4, 6, 8]


def test_an_unread_goal_is_masked_and_counted(tmp_path):
    def edit(split, number, steps):
        steps[-1]["observation"]["image"] = b"nothing"

    write_rlds(tmp_path, "bad", lengths={"train": (5,)}, shards=1, edit=edit, size=(8, 8))
    stream = opened(tmp_path, "bad", goal="last", on_corrupt="skip")
    batch = stream.batch(0)
    assert not batch["goal_valid"].any() and not batch["goal_rgb"].any()
    assert stream.counts["bad"]["unread_frames_for"]["damaged"] >= 30


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"text_choice": "all"}, "'data.text_choice': 'all' is not one of"),
        ({"text_dropout": 1.5}, "'data.text_dropout'"),
        ({"goal": "first"}, "'data.goal': 'first'"),
        ({"goal_within_s": 2.0}, "'data.goal_within_s' is 2, but 'data.goal' is empty"),
    ],
)
def test_wrong_options_are_named(root, changes, match):
    with pytest.raises(ConfigError, match=match):
        opened(root, **changes)


def test_paraphrases_that_are_not_there_are_named(root, tmp_path):
    write_rlds(tmp_path, "tiny")
    spec = dataclasses.replace(tiny_spec(), paraphrases="ways")
    assert dataset_spec(json.loads(json.dumps(to_dict(spec)))) == spec
    assert "paraphrases" not in to_dict(tiny_spec())
    with pytest.raises(DatasetError, match=r"no feature 'ways' of an episode; it has \['episode_id'\]"):
        open_split(tmp_path, "tiny", "train", spec=spec)
    with pytest.raises(DatasetError, match="'episode_id': expected a text or a list of texts"):
        wrong = dataclasses.replace(spec, paraphrases="episode_id")
        open_split(tmp_path, "tiny", "train", spec=wrong)
