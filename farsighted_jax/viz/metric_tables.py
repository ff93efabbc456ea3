"""Tables for `page` from the results of the evaluators: every number beside its baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farsighted_jax.viz.page import Table

NONE = "n/a"


def reconstruction_table(result: Mapping[str, Any], subset: str = "") -> Table:
    """PSNR and margins for each horizon; `subset` is "" or "_moving" (windows in which something moves)."""
    columns = (
        ("PSNR, dB", "psnr"),
        ("copy frame 0", "psnr_copy"),
        ("shuffled codes", "psnr_shuffled"),
        ("over copy", "psnr_over_copy"),
        ("over shuffled", "psnr_over_shuffled"),
    )
    named = [(title, f"{name}{subset}", 2) for title, name in columns]
    if not subset:
        named += [("SSIM", "ssim", 3), ("SSIM copy", "ssim_copy", 3), ("SSIM shuffled", "ssim_shuffled", 3)]
        named += [("LPIPS", "lpips", 3), ("LPIPS copy", "lpips_copy", 3)]
        named += [("LPIPS shuffled", "lpips_shuffled", 3)]
    which = "windows in which something moves" if subset else "all windows"
    return _by_horizon(f"Predicted frames, {which}", result, f"num_samples{subset}", named)


def depth_table(result: Mapping[str, Any]) -> Table | None:
    """Depth errors for each horizon, or None if no depth was evaluated."""
    if "num_depth" not in result:
        return None
    named = [
        ("AbsRel", "depth_abs_rel", 3),
        ("where frame 0 has depth", "depth_abs_rel_common", 3),
        ("copy frame 0", "depth_abs_rel_copy", 3),
        ("shuffled codes", "depth_abs_rel_shuffled", 3),
        ("RMSE, m", "depth_rmse", 3),
        ("delta < 1.25", "depth_delta", 3),
    ]
    return _by_horizon("Predicted depth", result, "num_depth", named)


def codebook_table(result: Mapping[str, Any]) -> Table:
    """Usage and perplexity for each horizon."""
    named = [
        ("usage", "usage", 2),
        ("perplexity", "perplexity", 1),
        ("distinct tuples", "distinct_tuples", 0),
    ]
    return _by_horizon("Codebook", result, "num_samples", named)


def probe_tables(result: Mapping[str, Any]) -> list[Table]:
    """One table a dataset: R2 with its 95 % interval, a row for each feature set and horizon."""
    tables = []
    for dataset, entry in result.items():
        if "r2" not in entry:
            continue
        first = next(iter(next(iter(entry["r2"].values())).values()))
        rows = [
            (feature, _seconds(horizon), *[_r2(entry, feature, horizon, group) for group in first])
            for feature, by_horizon in entry["r2"].items()
            for horizon in by_horizon
        ]
        counts = ", ".join(
            f"{entry['num_score'][h]} windows of {entry['num_score_episodes'][h]} episodes at {_seconds(h)}"
            for h in entry["num_score"]
        )
        caption = f"Linear probe to actions, {dataset}: R2 [95 % interval]; {entry['protocol']}; {counts}"
        tables.append(Table(caption, ("features", "horizon", *first), rows))
    return tables


def motion_tables(result: Mapping[str, Any]) -> list[Table]:
    """Controllability, composition and transfer, as far as a whole result holds them."""
    tables = []
    if "controllability" in result:
        named = [
            ("delta-PSNR, dB", "delta_psnr", 2),
            ("inferred codes, dB", "psnr", 2),
            ("random codes, dB", "psnr_random", 2),
        ]
        caption = "Controllability: inferred codes against random ones"
        tables.append(_by_horizon(caption, result["controllability"], "num_samples", named))
    if "composition" in result:
        errors = result["composition"].get("encoded", {}) | {
            f"num_{law}": counts for law, counts in result["composition"]["num_samples"].items()
        }
        for law, other, title in (
            ("additivity", "first_alone", "z(0,k) against z(0,1) + z(1,k)"),
            ("reversal", "unreversed", "z(0,k) against -z(k,0)"),
        ):
            named = [
                ("error", f"{law}_centred", 2),
                ("shuffled", f"{law}_shuffled_centred", 2),
                (other.replace("_", " "), f"{other}_centred", 2),
            ]
            caption = f"Composition: {title}, before quantisation, centred, relative to the spread of z"
            tables.append(_by_horizon(caption, errors, f"num_{law}", named))
    for dataset, entry in result.get("transfer", {}).items():
        named = [
            ("codes that agree", "code_agreement", 2),
            ("on A's own frame", "code_agreement_own", 2),
            ("codes of B", "code_agreement_unmoved", 2),
            ("vector error", "vector_error", 2),
            ("on A's own frame", "vector_error_own", 2),
            ("vectors of B", "vector_error_unmoved", 2),
        ]
        caption = f"Transfer of A's codes to frame 0 of B, {dataset}: the prediction is encoded again"
        tables.append(_by_horizon(caption, entry, "num_samples", named))
    return tables


def _by_horizon(caption, result, count, named):
    named = [(title, name, digits) for title, name, digits in named if name in result]
    rows = [
        (_seconds(h), str(num), *[_number(result[name].get(h), digits) for _, name, digits in named])
        for h, num in result.get(count, {}).items()
    ]
    return Table(caption, ("horizon", "samples", *[title for title, _, _ in named]), rows)


def _r2(entry, feature, horizon, group):
    interval = entry["r2_interval"][feature][horizon][group]
    bounds = "" if interval is None else " [" + ", ".join(_number(bound, 2) for bound in interval) + "]"
    return _number(entry["r2"][feature][horizon][group], 2) + bounds


def _number(value, digits):
    return NONE if value is None else f"{value:.{digits}f}"


def _seconds(horizon):
    return horizon if horizon == "all" else f"{horizon} s"
