"""The losses of phrases and boxes against loops in float64; generalised IoU by counting cells."""

import numpy as np
import pytest

from tests.objectives.test_objectives import close
from xmodal_jax.models.locator import Located, centres, iou
from xmodal_jax.objectives import OBJECTIVES

B, K, SIDE = 3, 4, 3
N = SIDE * SIDE


def draw(rng, *shape):
    """Boxes whose corners are in order."""
    corners = np.sort(rng.random((*shape, 2, 2)), axis=-2)
    return corners.reshape(*shape, 4).astype(np.float32)


def by_hand(a, b):
    """(IoU, generalised IoU) of two boxes, by counting on a fine grid of exact coordinates."""
    xs, ys = (np.unique([a[i], a[i + 2], b[i], b[i + 2]]).astype(np.float64) for i in (0, 1))
    cells = [(x0, y0, x1, y1) for x0, x1 in zip(xs, xs[1:], strict=False) for y0, y1 in zip(ys, ys[1:], strict=False)]

    def covers(box, cell):
        return box[0] <= cell[0] and box[1] <= cell[1] and box[2] >= cell[2] and box[3] >= cell[3]

    areas = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in cells])
    ins, of_any = (np.array([kind(covers(box, cell) for box in (a, b)) for cell in cells]) for kind in (all, any))
    union, around = areas @ of_any, areas.sum()
    return areas @ ins / union, areas @ ins / union - (around - union) / around


def test_generalised_iou_by_counting(rng):
    a, b = draw(rng, 40), draw(rng, 40)
    found = np.stack(iou(a, b), -1)
    np.testing.assert_allclose(found, [by_hand(*pair) for pair in zip(a, b, strict=True)], atol=1e-5)
    np.testing.assert_allclose(iou(a, a), 1, rtol=1e-5)
    assert (found[:, 1] < found[:, 0] + 1e-6).all() and found.min() < 0


class Given:
    def __init__(self, located):
        self.located = located

    def encode_image(self, image):
        return image

    def refer(self, image, phrases, lengths):
        return self.located


@pytest.fixture
def case(rng):
    located = Located(rng.normal(size=(B * K, 1 + N)).astype(np.float32), draw(rng, B * K, N), None)
    said = np.array([[1, 0, 1, -1], [1, 1, 0, 0], [-1, 0, 1, 1]], np.int32)
    box = draw(rng, B, K)
    box[0, 0] = 0.01, 0.01, 0.02, 0.02  # holds no cell's middle: the nearest cell, the first, answers for it
    zeros = np.zeros((B, K), np.int32)
    return located, {"image": zeros, "phrase": zeros[..., None], "phrase_length": zeros, "phrase_box": box, "phrase_said": said}


def cells(box):
    x, y = (np.asarray(axis, np.float64) for axis in centres((SIDE, SIDE)))
    inside = np.flatnonzero((x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3]))
    return inside if len(inside) else np.array([((x - (box[0] + box[2]) / 2) ** 2 + (y - (box[1] + box[3]) / 2) ** 2).argmin()])


def test_both_losses_by_hand(case):
    located, batch = case
    logits, said, box = located.logits.astype(np.float64), batch["phrase_said"].ravel(), batch["phrase_box"].reshape(-1, 4)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    owed, sides, right, overlaps = [], [], 0, []
    for k in range(B * K):
        if said[k] == 0:
            owed.append(-logp[k, 0])
            right += logits[k].argmax() == 0
        elif said[k] == 1:
            own = cells(box[k])
            owed.append(-logp[k, 1 + own].mean())
            right += logits[k].argmax() in 1 + own
            pairs = [by_hand(located.boxes[k, n], box[k]) for n in own]
            away = [np.abs(located.boxes[k, n] - box[k]).mean() for n in own]
            sides.append(np.mean([5 * l1 + 2 * (1 - generalised) for l1, (_, generalised) in zip(away, pairs, strict=True)]))
            overlaps.append(by_hand(located.boxes[k, logits[k, 1:].argmax()], box[k])[0])
    assert (cells(box[0]) == [0]).all()
    loss, metrics = OBJECTIVES["referring"](Given(located), batch, None, {})
    close(loss.total, sum(owed))
    close(loss.weight, 10)
    close(metrics["referred"].total, right)
    loss, metrics = OBJECTIVES["boxes"](Given(located), batch, None, {})
    np.testing.assert_allclose(loss.total, sum(sides), rtol=1e-4)
    close(loss.weight, 6)
    np.testing.assert_allclose(metrics["refer_iou"].total, sum(overlaps), rtol=1e-4, atol=1e-5)
