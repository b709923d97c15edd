"""Patches of pictures as numbers: the nearest of K patches that k-means found among those of the training pictures.

The centroids are patches themselves, so that numbers can be drawn (X-LXMERT, Cho et al., 2020, takes centroids of features;
FLAVA, Singh et al., 2022, and DALL-E the codes of an autoencoder). Letters: N patches of a picture, p pixels of a side.
"""

import numpy as np

PICTURES, ROUNDS = 400, 12  # that the centroids are learned from, of k-means


def patches(image, patch):
    """uint8 [H, W, 3] -> float32 [N, p p 3] in 0..1, row by row."""
    height, width, _ = image.shape
    cut = image.reshape(height // patch, patch, width // patch, patch, 3).swapaxes(1, 2)
    return cut.reshape(-1, patch * patch * 3).astype(np.float32) / 255


def learn(images, patch, count, seed=0):
    """Centroids float32 [count, p p 3] of the patches of some pictures; one that lost all of its patches takes a new one."""
    rng = np.random.default_rng((seed, 7))
    points = np.concatenate([patches(image, patch) for image in images])
    points = points[rng.permutation(len(points))[: 60 * count]]
    different = np.unique(points, axis=0)
    centroids = different[rng.choice(len(different), count, replace=len(different) < count)]
    for _ in range(ROUNDS):
        own = nearest(points, centroids)
        sums = np.zeros_like(centroids)
        np.add.at(sums, own, points)
        sizes = np.bincount(own, minlength=count)
        far = points[np.argsort(-((points - centroids[own]) ** 2).sum(-1))[:count]]  # the worst told
        centroids = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], far[np.cumsum(sizes == 0) - 1])
    return centroids.astype(np.float32)


def nearest(points, centroids):
    """Numbers int32 [n] of the nearest centroids."""
    distances = (centroids**2).sum(-1) - 2 * points @ centroids.T
    return distances.argmin(-1).astype(np.int32)


def drawn(codes, centroids, patch):
    """Numbers [N] -> the square picture that they stand for, uint8 [H, H, 3]."""
    side = round(len(codes) ** 0.5)
    cut = centroids[codes].reshape(side, side, patch, patch, 3).swapaxes(1, 2)
    return np.round(255 * cut.reshape(side * patch, side * patch, 3)).astype(np.uint8)
