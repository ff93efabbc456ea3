"""Requests of openpi's clients as observations."""

import numpy as np
import pytest
from acting_policy import ActingPolicy

from farsighted_jax.serving.errors import RequestError
from farsighted_jax.serving.key_layouts import LAYOUTS, layout_for, observation

ROLES = ("primary", "secondary", "wrist", "left_wrist")
IMAGES = {role: np.full((4, 5, 3), 10 * place, np.uint8) for place, role in enumerate(ROLES, start=1)}
IMAGES["primary"][0, 0] = 99


def acting(cameras=ROLES[:3], **options):
    return ActingPolicy(cameras=cameras, keys=("rgb", "state", "instruction"), **options)


# As openpi's examples and RoboArena's test build them.
REQUESTS = {
    "libero": {
        "observation/image": IMAGES["primary"],
        "observation/wrist_image": IMAGES["wrist"],
        "observation/state": np.arange(8.0),
    },
    "droid": {
        "observation/exterior_image_1_left": IMAGES["primary"],
        "observation/wrist_image_left": IMAGES["wrist"],
        "observation/joint_position": np.arange(7.0),
        "observation/gripper_position": np.array([7.0]),
    },
    "roboarena": {
        "observation/exterior_image_0_left": IMAGES["primary"],
        "observation/wrist_image_left": IMAGES["wrist"],
        "observation/wrist_image_right": IMAGES["wrist"],
        "observation/joint_position": np.arange(7, dtype=np.float32),
        "observation/cartesian_position": np.zeros(6, np.float32),
        "observation/gripper_position": np.float32(7),
    },
    "aloha": {
        "images": {
            "cam_high": IMAGES["primary"].transpose(2, 0, 1),
            "cam_low": IMAGES["secondary"].transpose(2, 0, 1),
            "cam_right_wrist": IMAGES["wrist"].transpose(2, 0, 1),
            "cam_left_wrist": IMAGES["left_wrist"].transpose(2, 0, 1),
        },
        "state": list(range(8)),
    },
}


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        *((name, ("primary", "wrist")) for name in LAYOUTS),
        ("aloha", ROLES),
        ("aloha", ("primary", *ROLES[2:])),
    ],
)
def test_each_layout_is_read(name, roles):
    policy = acting(roles)
    layout = layout_for(name, policy, {}, ())
    found = observation(layout, policy, REQUESTS[name] | {"prompt": "pick"})
    assert found["rgb"].keys() == set(roles)
    for role in roles:
        np.testing.assert_array_equal(found["rgb"][role], IMAGES[role])
    np.testing.assert_array_equal(found["state"], np.arange(8))
    assert found["instruction"] == "pick" and set(found) == {"rgb", "state", "instruction"}


def test_keys_can_be_others():
    policy = acting()
    layout = layout_for("libero", policy, {"secondary": "images/side"}, ("joints", "observation/state"))
    request = REQUESTS["libero"] | {
        "images": {"side": IMAGES["secondary"]},
        "joints": [5, 6],
        "prompt": b"go",
    }
    found = observation(layout, policy, request)
    np.testing.assert_array_equal(found["rgb"]["secondary"], IMAGES["secondary"])
    assert found["state"].tolist() == [5, 6, *range(8)] and found["instruction"] == "go"
    with pytest.raises(RequestError, match="layout 'libero' has no key for camera 'secondary'"):
        layout_for("libero", policy, {}, ())
    with pytest.raises(RequestError, match="a key for camera 'left', expected those that the policy sees"):
        layout_for("libero", policy, {"left": "x"}, ())


def test_images_are_turned_the_way_the_dataset_stores_them_and_may_be_float_or_several():
    policy = acting(("primary",), rotate_180=True)
    layout = layout_for("libero", policy, {}, ())
    several = np.stack([IMAGES["secondary"], IMAGES["primary"]])
    for image in (several, several.transpose(0, 3, 1, 2), several / np.float32(255)):
        request = REQUESTS["libero"] | {"observation/image": image, "prompt": ""}
        found = observation(layout, policy, request)["rgb"]["primary"]
        assert found.shape == several.shape and found.dtype == np.uint8
        np.testing.assert_allclose(found.astype(int), several[:, ::-1, ::-1], atol=1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"observation/image": None}, "'observation/image' is of type NoneType, expected an image uint8"),
        ({"observation/image": IMAGES["primary"].astype(int)}, r"is int64\[4, 5, 3\], expected an image"),
        ({"observation/image": np.zeros((4, 5), np.uint8)}, r"is uint8\[4, 5\], expected"),
        ({"observation/image": np.zeros((4, 5, 4), np.uint8)}, r"is uint8\[4, 5, 4\], expected"),
        ({"observation/image": np.zeros((0, 5, 3), np.uint8)}, r"is uint8\[0, 5, 3\], expected"),
        ({"observation/image": np.zeros((1, 9000, 3), np.uint8)}, "at most 8192 pixels a side"),
        ({"observation/image": np.full((4, 5, 3), 255.0)}, "is from 255.0 to 255.0, expected"),
        ({"observation/image": np.full((4, 5, 3), np.nan)}, "is from nan to nan, expected"),
        ({"observation/image": np.zeros((4, 5, 3), np.uint16)}, r"is uint16\[4, 5, 3\], expected"),
        ({"observation/state": np.array([0.0] * 3 + [np.nan])}, "'observation/state': number 3 is nan"),
        ({"observation/state": "12"}, "'observation/state' is '12', expected a list of numbers"),
        ({"observation/state": [[1], [2, 3]]}, "of type list, expected a list of numbers"),
        ({"observation/state": [None]}, "of type list, expected a list of numbers"),
        ({"observation/state": {}}, "of type dict, expected a list of numbers"),
        ({"observation/state": np.zeros((2, 4))}, r"float64\[2, 4\], expected a list of numbers"),
        ({"prompt": 5}, "'prompt' is of type int, expected a text"),
        ({"prompt": b"\xff"}, "'prompt' is of type bytes, expected a text"),
    ],
)
def test_f8_what_is_wrong_is_named(change, told):
    policy = acting(("primary", "wrist"))
    layout = layout_for("libero", policy, {}, ())
    with pytest.raises(RequestError, match=told):
        observation(layout, policy, REQUESTS["libero"] | {"prompt": "x"} | change)
    for key in (*REQUESTS["libero"], "prompt"):
        request = {
            name: value for name, value in (REQUESTS["libero"] | {"prompt": ""}).items() if name != key
        }
        with pytest.raises(RequestError, match=f"'{key}' is missing; the request has"):
            observation(layout, policy, request)
