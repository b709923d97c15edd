"""Overlap of boxes by counting pixels; the threshold that parts two sets of scores."""

import numpy as np
import pytest

from xmodal_jax.metrics.boxes import best_threshold, overlap


def test_overlap_by_counting_pixels(rng):
    corners = np.sort(rng.integers(0, 20, (50, 2, 2, 2)), axis=2)  # [cases, two boxes, corners, axes]
    for first, second in corners.reshape(50, 2, 4):
        masks = np.zeros((2, 20, 20), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, (first, second), strict=True):
            mask[y0:y1, x0:x1] = True
        union = (masks[0] | masks[1]).sum()
        expected = (masks[0] & masks[1]).sum() / union if union else 0
        assert overlap(first / 20, second / 20) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("present", "absent", "low", "high"),
    [
        ([0.8, 0.9], [0.1, 0.3], 0.3, 0.8),
        ([0.8, 0.9, 0.2], [0.1, 0.3, 0.4], 0.4, 0.8),
        ([0.9], [], 0, 0.9),
        ([1.0] * 3, [1.0], 0, 9),
    ],
)
def test_the_threshold_is_the_best_of_all(present, absent, low, high):
    found = best_threshold(np.array(present), np.array(absent))

    def value(threshold):
        return np.mean(np.array(present) >= threshold) + np.mean([score < threshold for score in absent] or [0])

    assert value(found) == max(value(threshold) for threshold in np.linspace(-0.1, 1.1, 121))
    assert low <= found <= high or np.isinf(found)
