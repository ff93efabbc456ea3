"""`farsighted data validate`: every fault that is put into a clean dataset is found, and nothing else is."""

import json

import cv2
import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.dataset import Place, find_datasets
from data_pipelines.errors import DatasetError
from data_pipelines.validate import validate

NAMES = ("x", "y", "z", "gripper")
NUM, LENGTH, HZ = 12, 40, 10.0


def plain(split, episode, steps):
    """Motion that fits the state, a gripper that follows, pictures and depth that change."""
    rng = np.random.default_rng([ord(split[0]), episode])
    moves = np.cumsum(rng.normal(0, 0.002, (len(steps) + 1, 3)), axis=0).clip(-0.02, 0.02)
    places = np.cumsum(moves, axis=0)
    close_at = int(rng.integers(10, 30))
    for i, step in enumerate(steps):
        step["action"][:] = [*moves[i + 1], float(i < close_at)]
        step["observation"]["state"][:] = [*places[i], 1.0 if i < close_at + 2 else 0.1]
        coarse = rng.integers(40, 216, (3, 4, 3), np.uint8)
        step["observation"]["image"][:] = cv2.resize(coarse, (16, 12), interpolation=cv2.INTER_NEAREST)
        step["observation"]["depth"][:] = rng.integers(500, 1500, (12, 16, 1))


def dataset(root, fault=None, spec=None, lengths=None):
    """Writes the clean dataset with a fault in its steps or its specification, and says what is found."""

    def edit(split, episode, steps):
        plain(split, episode, steps)
        if fault:
            fault(split, episode, steps)

    lengths = lengths or {"train": (LENGTH,) * NUM, "val": (LENGTH,) * 2}
    folder = write_rlds(root, width=4, state_width=4, depth="png", hz=HZ, edit=edit, lengths=lengths)
    path = folder / "dataset_spec.json"
    values = json.loads(path.read_text())
    values["action"]["names"] = values["state_names"] = list(NAMES)
    if spec:
        spec(values)
    path.write_text(json.dumps(values))
    return validate(*find_datasets(root))


def test_a_clean_dataset_has_no_findings(tmp_path):
    report = dataset(tmp_path)
    assert [str(finding) for finding in report.findings] == []
    assert [len(seen.episodes) for seen in report.surveys] == [NUM, 2]


def each(change, episodes=None):
    """A fault in every step of some episodes of the split train, or of all."""

    def fault(split, episode, steps):
        if split == "train" and (episodes is None or episode in episodes):
            for i, step in enumerate(steps):
                change(step, i)

    return fault


def put(key, value, *, at=None, dim=None, episodes=None):
    def change(step, i):
        target = step[key] if key in step else step["observation"][key]
        if at is None or i == at:
            if dim is None:
                target[:] = value
            else:
                target[..., dim] = value

    return each(change, episodes)


def scale(key, dims, factor):
    def change(step, i):
        target = step[key] if key in step else step["observation"][key]
        target[..., dims] *= factor

    return each(change)


def say(text, episodes=None):
    return each(lambda step, i: step.update(language_instruction=text), episodes)


def leap(split, episode, steps):
    if (split, episode) == ("train", 3):
        for step in steps[20:]:
            step["observation"]["state"][1] += 0.9


def wrap(split, episode, steps):
    if (split, episode) == ("train", 3):
        for step in steps[20:]:
            step["observation"]["state"][1] += 2 * np.pi


def twice(split, episode, steps):
    if split == "train" and episode == 7:
        plain("train", 2, steps)


def leaked(split, episode, steps):
    if split == "val" and episode == 1:
        plain("train", 2, steps)


def idle(split, episode, steps):
    for step in steps[:20]:
        step["action"][:3] = 0.0
        step["action"][3] = steps[0]["action"][3]


def follow_state(split, episode, steps):
    for step, after in zip(steps, steps[1:], strict=False):
        step["action"][:3] = after["observation"]["state"][:3]


def frozen(split, episode, steps):
    if (split, episode) == ("train", 0):
        for step in steps:
            step["observation"]["image"] = steps[0]["observation"]["image"]


def setting(path, value):
    def spec(values):
        *parents, last = path
        for key in parents:
            values = values[key]
        values[last] = value

    return spec


def polarity(values):
    values["action"].update(gripper_open=0.0, gripper_closed=1.0)


IN_STEPS = {
    "nan": (put("action", np.nan, at=5, dim=1, episodes=[4]), "error", "NaN", "dimension 1 (y) is nan"),
    "inf": (put("state", np.inf, at=5, dim=0, episodes=[4]), "error", "NaN", "dimension 0 (x) is inf"),
    "broken picture": (
        each(lambda s, i: s["observation"].update(image=b"none"), [4]), "error", "damage", "cannot decode",
    ),
    "constant": (put("action", 0.01, dim=2), "warning", "constant", "'z' is 0.01 in every step"),
    "outlier": (put("action", 0.29, at=7, dim=0, episodes=[4]), "warning", "outlier", "'x' is 0.29"),
    "leap": (leap, "warning", "continuity", "'y' leaps by 0."),
    "wrapped angle": (wrap, "warning", "continuity", "'y' leaps by 6.3"),
    "blank": (put("image", 90), "error", "image", "one colour in all"),
    "one blank episode": (put("image", 90, episodes=[4]), "warning", "image", "one colour in 4 of 48"),
    "dark": (each(lambda s, i: s["observation"].update(image=s["observation"]["image"] // 16), [4]),
             "warning", "image", "nearly black in 4 of 48"),
    "frozen": (frozen, "warning", "image", "the same picture throughout in 1 of 12"),
    "no depth": (put("depth", 0), "error", "depth", "no positive value"),
    "flat depth": (put("depth", 800), "warning", "depth", "0.8 m in every pixel"),
    "no text": (say("", [1, 5]), "warning", "language", "2 of 12 episodes have no instruction, e.g. [1, 5]"),
    "not utf-8": (say(b"\xff\xfe", [1]), "error", "language", "no UTF-8"),
    "long text": (say("a" * 5000, [1]), "warning", "language", "5000 bytes"),
    "duplicate": (twice, "warning", "duplicates", "tiny:train 7"),
    "leak": (leaked, "error", "duplicates", "held-out data are trained on"),
    "idle": (idle, "warning", "idle", "% of the steps command no motion"),
    "absolute": (follow_state, "error", "meaning", "declared a change but follows the state"),
    "mirrored": (scale("action", 1, -1.0), "error", "meaning", "'y' moves the state the other way"),
    "millimetres": (scale("action", slice(0, 3), 1000.0), "warning", "range", "'x' reaches"),
}  # fmt: skip
IN_SPEC = {
    "slow": (setting(["hz"], 0.1), "warning", "fps", "0.1 frames a second"),
    "two rates": (setting(["action", "hz"], 5.0), "error", "fps", "actions at 5 Hz, frames at 10 Hz"),
    "fast": (setting(["hz"], 600.0), "warning", "fps", "half of the episodes last 0.0667 s"),
    "polarity": (polarity, "warning", "gripper", "go opposite ways, correlation -"),
    "other ends": (setting(["action", "gripper_open"], 0.2), "error", "gripper", "0 (closed) to 0.2 (open)"),
    "declared absolute": (setting(["action", "delta"], [False] * 4), "error", "meaning", "declared absolute"),
    "depth unit": (setting(["cameras", 0, "depth_unit_m"], 1.0), "error", "depth", "0% of the pixels"),
    "depth in dm": (setting(["cameras", 0, "depth_unit_m"], 1e-5), "warning", "depth", "0.05 to 30 m"),
    "unknown key": (setting(["action_key"], "act"), "error", "schema", "no feature 'act'"),
    "no language": (setting(["language_key"], ""), "note", "language", "no episode has an instruction"),
}  # fmt: skip
# What a fault brings along besides itself.
COMPANIONS = {
    "absolute": {"range", "fps"},
    "millimetres": {"fps"},
    "two rates": {"fps"},
    "fast": {"fps"},
    "slow": {"fps"},
    "no depth": {"depth"},
    "idle": {"meaning"},
    "declared absolute": {"continuity", "fps"},
    "leap": {"outlier"},
    "wrapped angle": {"outlier"},
}


@pytest.mark.parametrize("name", [*IN_STEPS, *IN_SPEC])
def test_a_fault_is_found_and_nothing_else(tmp_path, name):
    change, severity, check, words = (IN_STEPS | IN_SPEC)[name]
    report = dataset(tmp_path, **({"fault": change} if name in IN_STEPS else {"spec": change}))
    found = [f for f in report.findings if (f.severity, f.check) == (severity, check) and words in f.found]
    assert found, [str(finding) for finding in report.findings]
    assert found[0].mend or severity == "note"
    others = {f.check for f in report.findings if f.severity != "note"}
    others -= {check} | COMPANIONS.get(name, set())
    assert not others, [str(finding) for finding in report.findings]


def test_short_episodes_are_named(tmp_path):
    lengths = {"train": (LENGTH, 0, 1, LENGTH, LENGTH)}
    report = dataset(tmp_path, lengths=lengths)
    found = {f.found for f in report.findings if f.check == "counts"}
    assert found == {
        "1 of 5 episodes without a step, the first is 1; they give no window",
        "1 of 5 episodes of a single step, the first is 2; they give no window",
    }


def test_only_a_part_is_read_where_asked_and_said(tmp_path):
    dataset(tmp_path)
    report = validate(Place(str(tmp_path), "tiny"), ["train"], max_episodes=3)
    assert [episode.number for episode in report.surveys[0].episodes] == [0, 6, 11]
    assert [f.found for f in report.findings] == ["looked at 3 of 12 episodes, evenly spread"]


def test_a_damaged_file_is_a_finding(tmp_path):
    dataset(tmp_path)
    (tmp_path / "tiny" / "1.0.0" / "tiny-train.tfrecord-00001-of-00002").unlink()
    report = validate(Place(str(tmp_path), "tiny"))
    assert "missing file(s)" in report.findings[0].found and report.findings[0].severity == "error"
    (tmp_path / "tiny" / "1.0.0" / "dataset_info.json").write_text("{")
    assert "dataset_info.json" in validate(Place(str(tmp_path), "tiny")).findings[0].found


def test_every_image_finds_what_a_sample_misses(tmp_path):
    fault = each(lambda s, i: s["observation"].update(image=b"none") if i == 17 else None, [4])
    assert not dataset(tmp_path, fault).findings
    report = validate(Place(str(tmp_path), "tiny"), every_image=True)
    assert ["damage"] == [f.check for f in report.findings] and "step 17" in report.findings[0].found


def test_where_datasets_are_looked_for(tmp_path):
    write_rlds(tmp_path, "one")
    write_rlds(tmp_path, "two")
    both = [Place(str(tmp_path), "one"), Place(str(tmp_path), "two")]
    assert find_datasets(tmp_path) == both
    assert find_datasets(tmp_path / "two") == both[1:]
    assert find_datasets(tmp_path / "two" / "1.0.0") == [Place(str(tmp_path), "two", "1.0.0")]
    with pytest.raises(
        DatasetError, match=r"no dataset; expected NAME/VERSION/dataset_info.json.*found \[\]"
    ):
        find_datasets(tmp_path / "three")
