"""Run by test_generate.py in a process that simulates four devices: one batch on one of them and split over all, as JSON."""

import json
import re

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from xmodal_jax.decoding.generation import Generation, generate
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.train.mesh import make_mesh

SETTINGS = {"beams": {"beams": 3, "returned": 3}, "samples": {"sample": True, "returned": 2, "top_p": 0.9}}
ROWS, LENGTH = 8, 6


def main():
    model, rng = GPT2(30, LENGTH + 2, 16, 2, 1, cross=True), np.random.default_rng(0)
    context = rng.normal(size=(ROWS, 5, 16)).astype(np.float32)
    prompt = rng.integers(0, 30, (ROWS, 2)).astype(np.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), prompt, None, context))["params"]
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    mesh, out = make_mesh({"data": 4}, jax.devices()), {}
    split, everywhere = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())

    for name, settings in SETTINGS.items():

        def run(params, context, prompt, settings=settings):
            seen = model.apply({"params": params}, context, method="project_context")

            def step(ids, cache, index):
                return model.apply({"params": params}, ids, cache, index, seen, method="decode")

            wanted = Generation(length=LENGTH, end=3, pad=3, **settings)
            return generate(step, model.cache(ROWS, LENGTH + 2), prompt, wanted, jax.random.key(7))

        alone = jax.jit(run)(params, context, prompt)
        together = jax.jit(run, in_shardings=(everywhere, split, split), out_shardings=split)
        arguments = jax.device_put(params, everywhere), *(jax.device_put(value, split) for value in (context, prompt))
        with jax.set_mesh(mesh):
            compiled = together.lower(*arguments).compile()
        found = compiled(*arguments)
        moved = re.findall(r"= \S+ (all-gather|all-to-all|collective-permute)\S*\(", compiled.as_text())
        same = np.array_equal(alone.ids, found.ids) and np.allclose(alone.scores, found.scores, atol=1e-4)
        out[name] = {"same": same, "devices": len(found.ids.sharding.device_set), "moved": moved}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
