"""Checks of sampled images and depth maps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from data_pipelines.checks.finding import ERROR, WARNING, Finding
from data_pipelines.checks.survey import Survey

# Of 255: below, a picture shows one colour.
FLAT = 2.0
DARK, BRIGHT = 10.0, 245.0
# Tables and rooms, in m.
USUAL_DEPTH_M = (0.05, 30.0)
LITTLE = 0.02


def check_images(survey: Survey) -> Iterator[Finding]:
    """Blank, dark, glaring or frozen cameras, and sizes that change."""
    for camera in survey.spec.cameras:
        seen = [image for image in survey.images if image.camera == camera.name]
        if not seen:
            continue
        key, count = f"camera {camera.name!r} ({camera.rgb_key})", len(seen)
        flat = [image for image in seen if image.spread < FLAT]
        if len(flat) == count:
            found = f"{key} shows one colour in all {count} sampled images"
            yield survey.finding(ERROR, "image", found, "take the camera out of the specification")
            continue
        if flat:
            found = f"{key} shows one colour in {len(flat)} of {count} sampled images"
            yield survey.finding(WARNING, "image", found, "drop those episodes", flat[0].episode)
        for odd, text in (
            ([image for image in seen if image.mean < DARK and image.spread >= FLAT], "nearly black"),
            ([image for image in seen if image.mean > BRIGHT and image.spread >= FLAT], "nearly white"),
        ):
            if odd:
                found = f"{key} is {text} in {len(odd)} of {count} sampled images"
                yield survey.finding(WARNING, "image", found, "check exposure and range", odd[0].episode)
        sizes = Counter(f"{image.height}x{image.width}" for image in seen)
        if len(sizes) > 1:
            found = f"{key} has several sizes, images sampled of each: {dict(sizes)}"
            yield survey.finding(WARNING, "image", found, "write one size; all are resized to a square")
        yield from _check_frozen(survey, key, seen)


def check_depth(survey: Survey) -> Iterator[Finding]:
    """Whether depth is there, in metres, and not the same everywhere."""
    for camera in survey.spec.cameras:
        seen = [depth for depth in survey.depths if depth.camera == camera.name]
        if not seen:
            continue
        key, unit = f"depth of camera {camera.name!r} ({camera.depth_key})", camera.depth_unit_m
        measured, beyond = (
            float(np.mean([getattr(d, name) for d in seen])) for name in ("measured", "beyond")
        )
        mend = f"correct depth_unit_m ({unit:g}) or depth_max_m ({camera.depth_max_m:g})"
        if measured + beyond == 0:
            found = f"{key} holds no positive value in {len(seen)} sampled maps"
            yield survey.finding(ERROR, "depth", found, "take depth_key out of the specification")
            continue
        low, median, high = (
            float(np.median([getattr(d, name) for d in seen if d.high_m]))
            for name in ("low_m", "median_m", "high_m")
        )
        values = f"{key} is {low:.3g}, {median:.3g}, {high:.3g} m at 1, 50, 99 %"
        if measured < LITTLE or beyond > 0.5:
            found = f"{values}; {measured:.0%} of the pixels are measured, {beyond:.0%} lie beyond the limit"
            yield survey.finding(ERROR if measured < LITTLE else WARNING, "depth", found, mend)
        elif not USUAL_DEPTH_M[0] <= median <= USUAL_DEPTH_M[1]:
            found = f"{values}, expected {USUAL_DEPTH_M[0]:g} to {USUAL_DEPTH_M[1]:g} m"
            yield survey.finding(WARNING, "depth", found, mend)
        elif low == high:
            found = f"{key} is {low:.3g} m in every pixel"
            yield survey.finding(WARNING, "depth", found, "take depth_key out of the specification")


def _check_frozen(survey, key, seen):
    by_episode = defaultdict(list)
    for image in seen:
        by_episode[image.episode].append(image.digest)
    several = {episode: digests for episode, digests in by_episode.items() if len(digests) > 1}
    frozen = [episode for episode, digests in several.items() if len(set(digests)) == 1]
    if frozen:
        found = f"{key} shows the same picture throughout in {len(frozen)} of {len(several)} sampled episodes"
        mend = "drop those episodes: a still camera differs by noise at least"
        yield survey.finding(WARNING, "image", found, mend, frozen[0])
