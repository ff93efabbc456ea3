import dataclasses
import json

import pytest

from farsighted_jax.core import spec as spec_lib
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec, SpecError

ACTION = ActionSpec(
    names=("x", "y", "yaw", "gripper"),
    units=("m", "m", "rad", "1"),
    groups=("translation", "translation", "rotation", "gripper"),
    delta=(True, True, True, False),
    frame="base",
    rotation="rpy",
    hz=5.0,
)
CAMERAS = (
    CameraSpec("primary", "observation/image_0", depth_key="observation/depth_0", depth_unit_m=0.001),
    CameraSpec("wrist", "observation/image_1", rotate_180=True),
)
DATASET = DatasetSpec(
    name="toy",
    hz=5.0,
    cameras=CAMERAS,
    action=ACTION,
    state_key="observation/state",
    state_names=("x", "y"),
    language_key="language_instruction",
    source="made up",
)


def changed(spec, **values):
    return dataclasses.replace(spec, **values)


def test_width_counts_the_dimensions():
    assert ACTION.width == 4


@pytest.mark.parametrize(
    "spec", [DATASET, changed(DATASET, action=None), changed(DATASET, cameras=CAMERAS[:1])]
)
def test_a_dataset_survives_json(spec):
    text = json.dumps(spec_lib.to_dict(spec))
    again = spec_lib.dataset_spec(json.loads(text))
    assert again == spec
    assert hash(again) == hash(spec)


def test_an_action_survives_json():
    again = spec_lib.action_spec(json.loads(json.dumps(spec_lib.to_dict(ACTION))))
    assert again == ACTION
    assert all(type(getattr(again, field)) is tuple for field in ("names", "units", "groups", "delta"))


def test_dict_form_is_plain_json():
    values = spec_lib.to_dict(DATASET)
    assert json.loads(json.dumps(values)) == values


def test_reading_does_not_change_what_was_read():
    values = spec_lib.to_dict(DATASET)
    before = json.dumps(values)
    spec_lib.dataset_spec(values)
    assert json.dumps(values) == before


@pytest.mark.parametrize(
    ("spec", "values", "words"),
    [
        (ACTION, {"units": ("m",)}, ["ActionSpec.units", "1 entries", "expected 4"]),
        (ACTION, {"groups": ("translation",) * 5}, ["ActionSpec.groups", "5 entries"]),
        (ACTION, {"delta": ()}, ["ActionSpec.delta", "0 entries"]),
        (ACTION, {"groups": ("arm",) * 4}, ["ActionSpec.groups", "'arm'", "translation"]),
        (ACTION, {"frame": "moon"}, ["ActionSpec.frame", "'moon'", "base"]),
        (ACTION, {"rotation": "matrix"}, ["ActionSpec.rotation", "'matrix'", "rot6d"]),
        (ACTION, {"hz": 0.0}, ["ActionSpec.hz", "0.0"]),
        (ACTION, {"hz": float("nan")}, ["ActionSpec.hz", "nan"]),
        (ACTION, {"hz": float("inf")}, ["ActionSpec.hz", "inf"]),
        (ACTION, {"names": ("x", "x", "yaw", "gripper")}, ["ActionSpec.names", "repeated"]),
        (ACTION, {"gripper_closed": 1.0}, ["gripper_open", "gripper_closed"]),
        (CAMERAS[0], {"name": "left"}, ["CameraSpec.name", "'left'", "primary"]),
        (CAMERAS[0], {"depth_unit_m": -1.0}, ["CameraSpec.depth_unit_m", "-1.0"]),
        (CAMERAS[0], {"depth_max_m": 0.0}, ["CameraSpec.depth_max_m"]),
        (DATASET, {"hz": -5.0}, ["DatasetSpec(toy).hz", "-5.0"]),
        (DATASET, {"cameras": ()}, ["DatasetSpec(toy).cameras", "primary"]),
        (DATASET, {"cameras": CAMERAS[1:]}, ["DatasetSpec(toy).cameras", "primary"]),
        (DATASET, {"cameras": CAMERAS + CAMERAS[1:]}, ["DatasetSpec(toy).cameras", "repeated"]),
    ],
)
def test_a_contradiction_is_refused_and_named(spec, values, words):
    with pytest.raises(SpecError) as caught:
        changed(spec, **values)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, ["DatasetSpec", "colour", "known"]),
        ({"name": None}, ["DatasetSpec", "missing", "name"]),
        ({"cameras": None}, ["DatasetSpec", "cameras"]),
        ({"action": {"names": ["x"]}}, ["ActionSpec", "missing", "units"]),
        ({"cameras": [{"name": "primary"}]}, ["CameraSpec", "missing", "rgb_key"]),
        ({"cameras": [{"name": "primary", "rgb_key": "a", "lens": 1}]}, ["CameraSpec", "unknown", "lens"]),
    ],
)
def test_a_wrong_dict_names_the_field(change, words):
    values = spec_lib.to_dict(DATASET)
    for key, value in change.items():
        if value is None:
            del values[key]
        else:
            values[key] = value
    with pytest.raises(SpecError) as caught:
        spec_lib.dataset_spec(values)
    for word in words:
        assert word in str(caught.value)


def test_a_camera_is_found_by_its_role():
    assert DATASET.camera("wrist") is CAMERAS[1]
    with pytest.raises(SpecError, match=r"'toy' has no camera 'secondary'.*primary.*wrist"):
        DATASET.camera("secondary")
