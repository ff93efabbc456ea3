"""BridgeData V2: WidowX 250 in toy kitchens, teleoperated at 5 Hz."""

from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec

BRIDGE_DATASET = DatasetSpec(
    name="bridge_dataset",
    hz=5.0,
    cameras=(
        CameraSpec("primary", rgb_key="observation/image_0"),
        CameraSpec("secondary", rgb_key="observation/image_1"),
    ),
    action=ActionSpec(
        names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
        units=("m", "m", "m", "rad", "rad", "rad", "1"),
        groups=("translation",) * 3 + ("rotation",) * 3 + ("gripper",),
        delta=(True,) * 6 + (False,),
        frame="base",
        rotation="rpy",
        hz=5.0,
        gripper_open=1.0,
        gripper_closed=0.0,
    ),
    action_key="action",
    state_key="observation/state",
    state_names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    language_key="language_instruction",
    source=(
        "Walke et al., 2023 (BridgeData V2, CC BY 4.0); actions are changes of the end-effector pose in the "
        "robot's base frame, as are the differences of the state; gripper 1 = open"
    ),
)
