"""What `farsighted evaluate` shows: the figures that matter most as lines, and the pictures."""

from __future__ import annotations

from typing import Any

from farsighted_jax.cli import evaluate_policy

SHEET_ROWS = 8
TRANSFER_ROWS = 4


def summary(result: dict[str, Any]) -> str:
    """The figures that matter most, a line a horizon."""
    lines = [
        f"step {result['run']['step']}, {result['run']['windows']} windows of {result['run']['split']!r}"
    ]
    reconstruction = result.get("reconstruction", {})
    for horizon, psnr in reconstruction.get("psnr", {}).items():
        copy, shuffled = (reconstruction[f"psnr_{name}"][horizon] for name in ("copy", "shuffled"))
        lines.append(
            f"  {horizon} s: PSNR {_shown(psnr)} dB, copy frame 0 {_shown(copy)}, "
            f"shuffled codes {_shown(shuffled)}"
        )
    return "\n".join([*lines, *_motion_lines(result), *evaluate_policy.summary(result)])


def _motion_lines(result):
    lines = []
    for horizon, delta in result.get("controllability", {}).get("delta_psnr", {}).items():
        lines.append(f"  {horizon} s: delta-PSNR {_shown(delta)} dB (inferred against random codes)")
    errors = result.get("composition", {}).get("quantized", {})
    for law in ("additivity", "reversal"):
        for horizon, error in errors.get(f"{law}_centred", {}).items():
            shuffled = errors[f"{law}_shuffled_centred"][horizon]
            lines.append(f"  {horizon} s: {law} error {_shown(error)}, shuffled {_shown(shuffled)}")
    for name, entry in result.get("transfer", {}).items():
        for horizon, agreement in entry["code_agreement"].items():
            own, unmoved = (entry[f"code_agreement_{kind}"][horizon] for kind in ("own", "unmoved"))
            lines.append(
                f"  {horizon} s: transfer on {name}: code agreement {_shown(agreement)}, "
                f"own frame {_shown(own)}, other clip {_shown(unmoved)}"
            )
    for name, entry in result.get("gap_robustness", {}).items():
        for multiple, gap_s in entry["gap_s"].items():
            lines.append(
                f"  gap {gap_s:g} s ({multiple} x) on {name}: delta-PSNR "
                f"{_shown(entry['delta_psnr'][multiple])} dB, {entry['num_score'][multiple]} windows"
            )
    return lines


def _shown(value):
    return "none" if value is None else f"{value:.2f}"


def draw(folder, functions, stream, result):
    """Writes the pictures of an evaluation: predictions, depth, transfer, code usage, gap curves."""
    from farsighted_jax.core import hosts
    from farsighted_jax.evaluators.outputs import model_outputs
    from farsighted_jax.viz.codes import code_usage
    from farsighted_jax.viz.depth import depth_sheet
    from farsighted_jax.viz.frames import prediction_sheet
    from farsighted_jax.viz.gaps import gap_curves

    batch = spread_rows(stream, SHEET_ROWS)
    outputs = model_outputs(functions, batch)
    moved = _moved(functions, batch, outputs) if "transfer" in result else None
    if not hosts.is_first():
        return
    prediction_sheet(folder / "predictions.png", batch, outputs, rows=SHEET_ROWS)
    if "depth" in batch:
        depth_sheet(folder / "depth.png", batch, outputs, rows=SHEET_ROWS)
    if moved:
        _draw_transfer(folder / "transfer.png", batch, outputs, *moved)
    try:
        if "codebook" in result:
            code_usage(folder / "codes.png", result["codebook"])
        for name, entry in result.get("gap_robustness", {}).items():
            gap_curves(folder / f"gaps_{name}.png", name, entry)
    except ImportError as error:
        print(f"no charts drawn: {error}")


def _moved(functions, batch, outputs):
    """B of every row A, for which rows there is one, and B's frame 0 moved by A's codes."""
    import numpy as np

    from farsighted_jax.evaluators.transfer import other_episode

    valid_BT = np.asarray(batch["frame_valid"])
    target_B, possible_B = other_episode(batch, valid_BT[:, 0], np.random.default_rng(0))
    target = {name: np.asarray(array)[target_B] for name, array in batch.items()}
    target["time_s"] = np.asarray(batch["time_s"])
    return target, possible_B, functions.decode(target, outputs["quantized"])["rgb"]


def _draw_transfer(path, batch, outputs, target, possible_B, moved):
    """Sheet of A's frames and of B's frame 0 moved by A's codes, for rows whose frames all exist."""
    import numpy as np

    from farsighted_jax.viz import strips, tiles

    valid_BT, moved = np.asarray(batch["frame_valid"]), strips.shown_rgb(moved)
    drawn = []
    for row in np.flatnonzero(possible_B[:TRANSFER_ROWS]).tolist():
        frames, valid = np.asarray(batch["rgb"])[row], valid_BT[row]
        codes = strips.code_captions(outputs["code"][row])
        drawn.append(strips.Strip(("A", *tiles.row_label(batch, row)), frames, valid, codes))
        frames = np.concatenate([target["rgb"][row, :1], moved[row]])
        label = ("B moved by A", *tiles.row_label(target, row))
        drawn.append(strips.Strip(label, frames, valid, ("",) * len(frames)))
    if drawn:
        titles = ("frame 0", *tiles.horizon_titles(np.asarray(batch["time_s"]), valid_BT))
        footer = ("under A's frames: its codes of frame 0 -> that frame, one a slot.",)
        tiles.write_png(path, strips.strip_sheet(titles, drawn, footer))


def spread_rows(stream, rows: int):
    """Windows spread evenly over a split, as one batch of the stream's batch size."""
    import numpy as np

    batches = list(stream.epoch())
    whole = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    complete = np.flatnonzero(whole["frame_valid"].all(axis=1))
    candidates = complete if len(complete) else np.flatnonzero(whole["frame_valid"].any(axis=1))
    chosen = candidates[np.linspace(0, len(candidates) - 1, rows).astype(int)]
    padded = np.resize(chosen, stream.batch_size)
    return {name: array[padded] for name, array in whole.items()}
