"""Patches as numbers: the nearest of centroids that are learned, which can be drawn again."""

import numpy as np

from xmodal_jax.data import patch_codes


def test_patches_of_a_few_kinds_are_told_apart_and_drawn_again(rng):
    """Six kinds of patches, a little noisy: each gets a number of its own, and the drawing is near the picture."""
    kinds = rng.integers(0, 256, (6, 4, 4, 3))
    chosen = rng.integers(0, 6, (30, 3, 3))
    chosen[0].flat[:6] = range(6)
    pictures = kinds[chosen].swapaxes(2, 3).reshape(30, 12, 12, 3)
    noisy = np.clip(pictures + rng.normal(0, 2, pictures.shape), 0, 255).astype(np.uint8)
    centroids = patch_codes.learn(noisy, 4, 6)
    found = np.stack([patch_codes.nearest(patch_codes.patches(image, 4), centroids) for image in noisy]).reshape(30, 3, 3)
    assert len({(int(a), int(b)) for a, b in zip(chosen.ravel(), found.ravel(), strict=True)}) == 6
    drawn = patch_codes.drawn(found[0].ravel(), centroids, 4)
    assert drawn.dtype == np.uint8 and np.abs(drawn.astype(int) - pictures[0]).max() < 8
    np.testing.assert_array_equal(patch_codes.learn(noisy, 4, 6), centroids)


def test_nearest_by_loops_and_more_numbers_than_patches(rng):
    points, centroids = rng.random((20, 12)).astype(np.float32), rng.random((5, 12)).astype(np.float32)
    expected = [np.argmin([((p - c) ** 2).sum() for c in np.float64(centroids)]) for p in np.float64(points)]
    np.testing.assert_array_equal(patch_codes.nearest(points, centroids), expected)
    learned = patch_codes.learn([np.zeros((4, 4, 3), np.uint8)], 2, 7)
    assert learned.shape == (7, 12) and np.isfinite(learned).all()
