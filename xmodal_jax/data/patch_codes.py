"""Patches of pictures as numbers: the nearest of K patches that k-means found among those of the training pictures.

The centroids are patches themselves, so that numbers can be drawn (X-LXMERT, Cho et al., 2020, takes centroids of features;
FLAVA, Singh et al., 2022, and DALL-E the codes of an autoencoder). Letters: N patches of a picture, p pixels of a side.
"""

import math
import warnings

import numpy as np
from scipy.cluster.vq import kmeans2

PICTURES, ROUNDS = 400, 12  # that the centroids are learned from; of k-means
SPREAD = 1024  # centroids at most that begin far from each other (k-means++), which takes the square of their number


def patches(image, patch):
    """uint8 [H, W, 3] -> float32 [N, p p 3] in 0..1, row by row."""
    height, width, _ = image.shape
    cut = image.reshape(height // patch, patch, width // patch, patch, 3).swapaxes(1, 2)
    return cut.reshape(-1, patch * patch * 3).astype(np.float32) / 255


def learn(images, patch, count, seed=0):
    """Centroids float32 [count, p p 3] of the patches of some pictures."""
    rng = np.random.default_rng((seed, 7))
    points = np.concatenate([patches(image, patch) for image in images])
    points = points[rng.permutation(len(points))[: 60 * count]]
    different = np.unique(points, axis=0)
    if len(different) <= count:
        return np.resize(different, (count, different.shape[1]))
    begin = "++" if count <= SPREAD else "points"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # clusters without a point, of which below
        centroids, own = kmeans2(points, count, ROUNDS, minit=begin, seed=rng)
    dead = np.bincount(own, minlength=count) == 0
    worst = np.argsort(-((points - centroids[own]) ** 2).sum(-1))
    centroids[dead] = points[worst[: dead.sum()]]
    return centroids.astype(np.float32)


def nearest(points, centroids):
    """Numbers int32 [n] of the nearest centroids."""
    distances = (centroids**2).sum(-1) - 2 * points @ centroids.T
    return distances.argmin(-1).astype(np.int32)


def drawn(codes, centroids, patch):
    """Numbers int [..., N] -> the square pictures that they stand for, uint8 [..., H, H, 3]; in NumPy or JAX."""
    side = math.isqrt(codes.shape[-1])
    cut = centroids[codes].reshape(*codes.shape[:-1], side, side, patch, patch, 3).swapaxes(-4, -3)
    return (255 * cut.reshape(*codes.shape[:-1], side * patch, side * patch, 3)).round().astype(np.uint8)
