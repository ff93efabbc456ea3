"""The model card of a release: what it is, reads and gives, and what was measured; nothing that was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farsighted_jax.core.config import flatten
from farsighted_jax.core.spec import DatasetSpec

KINDS = {
    "lam": (
        "latent action model (Farsighted-LAM)",
        "It looks at a frame and the frames that follow and says in a few discrete codes what changed.",
    ),
    "policy": (
        "policy (SSM-VLA)",
        "It looks at camera images and an instruction, predicts the next keyframe and a plan of latent "
        "codes, and gives a chunk of robot actions.",
    ),
    "video policy": (
        "policy (SSM-VLA) that was pretrained on video",
        "It looks at camera images and an instruction and predicts the next keyframe and a plan of latent "
        "codes. It gives no actions: for these it is to be finetuned.",
    ),
}
USE = {
    "lam": """farsighted encode --checkpoint FOLDER --video CLIP --out codes.json
farsighted train --config configs/policy_pretrain.py --config.lam=FOLDER ...""",
    "policy": """from farsighted_jax.serving.policy import load

policy = load("FOLDER")  # or gs://bucket/folder, hf://owner/name
action = policy({observation})  # float32[J, M] in the units below""",
    "video policy": """from farsighted_jax.serving.policy import load

policy = load("FOLDER")  # or gs://bucket/folder, hf://owner/name
observations = [{observation}]
code = policy.plan(observations)  # int32[B, t, Z], codes of the latent action model in it
frame = policy.imagined(observations)  # float32[B, H, W, 3], the next keyframe

farsighted train --config configs/policy_finetune.py --config.init=FOLDER ...  # and actions""",
}


def model_card(
    name: str,
    kind: str,
    *,
    config: Mapping[str, Any],
    specs: Sequence[DatasetSpec],
    statistics: Mapping[str, Mapping[str, Any]],
    step: int,
    num_params: Mapping[str, int],
    evaluation: Mapping[str, Any] | None,
) -> str:
    """The text of README.md.

    Args:
      name: of the release.
      kind: of the release.
      config: the run's configuration.
      specs: of the datasets, in the mixture's order.
      statistics: dataset -> its statistics.
      step: training steps done.
      num_params: "trained" and "frozen" parameters.
      evaluation: what `farsighted evaluate` wrote, or None.
    """
    acts = kind == "policy" and config["model"]["action"]
    kind = "video policy" if kind == "policy" and not acts else kind
    title, sentence = KINDS[kind]
    parts = [
        "---\nlibrary_name: farsighted-jax\npipeline_tag: robotics\n---",
        f"# {name}",
        f"A {title}, variant `{config['model']['variant']}`, after {step} training steps; "
        f"{num_params['trained']:,} trained and {num_params['frozen']:,} frozen parameters. {sentence}",
        "## Use",
        "```\n" + USE[kind].replace("{observation}", _observation(config, specs)) + "\n```",
        "## Data",
        _data(specs, statistics),
        *(["## Actions", *_actions(specs, config)] if acts else []),
        "## Measured",
        _measured(evaluation, step),
        "## Before you share it",
        "Nobody has stated a licence here. It depends on the data and on the frozen networks: state it. "
        "What is not listed above as measured has not been measured; nothing here says that a robot is safe.",
    ]
    return "\n\n".join(parts) + "\n"


def _observation(config, specs):
    spec, data = specs[0], config["data"]
    present = [camera.name for camera in spec.cameras]
    roles = [role for role in data.get("cameras") or () if role in present]
    parts = ['"rgb": {' + ", ".join(f'"{role}": image' for role in roles) + "}"]
    if spec.state_key:
        parts.append('"state": state')
    if data.get("text_tokenizer"):
        parts.append('"instruction": "..."')
    return "{" + ", ".join(parts) + "}"


def _data(specs, statistics):
    rows = [
        (spec.name, statistics[spec.name]["num_episodes"], statistics[spec.name]["num_steps"], f"{spec.hz:g}")
        for spec in specs
    ]
    return _table(("dataset", "episodes", "steps", "Hz"), rows)


def _actions(specs, config):
    horizon = config["data"]["action_horizon"]
    for spec in specs:
        if spec.action is None:
            yield f"`{spec.name}`: action-free video."
            continue
        action = spec.action
        yield (
            f"`{spec.name}`: {horizon} steps at {action.hz:g} Hz, frame `{action.frame}`, rotation "
            f"`{action.rotation}`; gripper: {action.gripper_open:g} open, {action.gripper_closed:g} closed."
        )
        kinds = ("change a step" if delta else "absolute" for delta in action.delta)
        rows = zip(action.names, action.units, action.groups, kinds, strict=True)
        yield _table(("dimension", "unit", "group", "meaning"), rows)


def _measured(evaluation, step):
    if evaluation is None:
        return "Not measured."
    run = evaluation["run"]
    if run["step"] != step:
        return f"Not measured at this step; the evaluation at hand is of step {run['step']}."
    flat = flatten({name: values for name, values in evaluation.items() if name != "run"})
    numbers = {
        key: value for key, value in flat.items() if isinstance(value, int | float) and value is not None
    }
    rows = [(key, f"{value:.4g}") for key, value in numbers.items() if not isinstance(value, bool)]
    where = f"{run['windows']} windows of split `{run['split']}` of {', '.join(run['datasets'])}."
    return f"On {where}\n\n{_table(('metric', 'value'), rows)}"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
