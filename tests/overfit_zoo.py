"""Does every row of the zoo learn 32 real examples by heart? Not a test of the suite: about half a minute a row.

    XMODAL_REAL_DATA=DIR python -m tests.overfit_zoo [ROW ...]

Prints, for each objective, its loss at the start and at the end (the mean of the last ten steps), its floor, and the share of
the excess over the floor that is left; rows with questions learn built-in scenes. The examples stay as they are drawn once,
masks and wrong texts too; targets of a momentum teacher are left out.
"""

import math
import os
import sys
import time

import jax
import numpy as np
import optax

from configs.zoo import ROWS, get_config
from xmodal_jax.systems import recipe
from xmodal_jax.train.step import init_state, make_step

EXAMPLES, STEPS, AT_LEAST, RATE, LEFT = 32, 1500, 100, 2e-3, 0.05
# Without a floor: what is far may always go further, the worst disturbance moves, targets that are drawn or learned anew, names
# of which a picture has several.
WITHOUT = ("alignment", "adversarial", "attention_guided", "dictionary", "naming")


def small(row):
    """A row's config at scale tiny over real pictures with boxes, as far as it asks no questions."""
    asks = "asked" in ROWS[row].get("examples", {})
    real = f",data=captions,path={os.environ['XMODAL_REAL_DATA']}/coco_mini"
    config = get_config(row + real * (not asks))
    config.batch_size, config.ema = EXAMPLES, 0.0
    config.examples.update({"flips": "none", "tokenizer": "words:1"})
    for own in config.objectives.values():
        own.update({name: 0.0 for name in ("distil",) if name in own})
    return config


def floor(name, own):
    """The least value of an objective, or None."""
    if name in WITHOUT:
        return None
    if name == "siamese":
        return -1.0
    if e := own.get("smoothing", 0.0):
        right, wrong = 1 - e + e / EXAMPLES, e / EXAMPLES
        return -right * math.log(right) - (EXAMPLES - 1) * wrong * math.log(wrong)
    return 0.0


def learned(row):
    """[(objective, first loss, last loss, floor, share of the excess left)], steps."""
    config = small(row)
    parts = recipe.make(config)
    batch = parts.batches[0]
    rate = optax.join_schedules([optax.linear_schedule(0.0, RATE, 50), optax.constant_schedule(RATE)], [50])
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    step = jax.jit(make_step(parts.model, parts.objectives, optimizer, rate), donate_argnums=0)
    state = init_state(parts.model, optimizer, parts.example_batch(1), 0, 0.0, objectives=parts.objectives)
    losses = []
    for number in range(STEPS):
        state, report = step(state, batch)
        losses.append([float(report[name]) for name in config.objectives])
        found = told(config, losses)
        if number >= AT_LEAST and all(share is None or share < LEFT for *_, share in found):
            break
    return found, len(losses)


def told(config, losses):
    """What `learned` tells of the losses so far."""
    out = []
    for name, first, most, last in zip(config.objectives, losses[0], np.max(losses, 0), np.mean(losses[-10:], 0), strict=True):
        least = floor(name, config.objectives[name])
        if config.objectives[name].get("negatives") == "queue":  # which is empty at the start: nothing to tell apart
            first = most
        out.append((name, first, last, least, None if least is None else (last - least) / (first - least)))
    return out


def main(rows):
    print(
        "| row | objective | first | last | floor | left, % | steps |\n| --- | --- | --- | --- | --- | --- | --- |", flush=True
    )
    missed = []
    for row in rows or ROWS:
        begin = time.monotonic()
        found, steps = learned(row)
        for name, first, last, least, share in found:
            shown = ("-", "-") if least is None else (f"{least:.3f}", f"{100 * share:.1f}")
            print(f"| {row} | {name} | {first:.3f} | {last:.3f} | {shown[0]} | {shown[1]} | {steps} |", flush=True)
            missed += [f"{row}/{name}"] if share is not None and share >= LEFT else []
        print(f"{row}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    print(f"\n{len(missed)} objectives keep {100 * LEFT:.0f} % or more: {', '.join(missed) or 'none'}.")


if __name__ == "__main__":
    main(sys.argv[1:])
