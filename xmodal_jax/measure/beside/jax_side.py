"""Our side of a comparison: what training and use compile, with a network of transformers' config."""

import jax
import jax.numpy as jnp
import optax

from xmodal_jax.config import load_config
from xmodal_jax.decoding.generation import Generation, generate
from xmodal_jax.interop.pretrained import from_config
from xmodal_jax.measure.beside.cases import BEAMS, DECAY, LEARNING_RATE
from xmodal_jax.models.platform import platform
from xmodal_jax.models.stacks import to_read
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program


def make(case, params=None):
    """-> function of nothing that does the task of a case once, and returns its result.

    params: instead of random ones.
    """
    module, fresh, _ = from_config(case.config())
    params = fresh if params is None else params
    return {"train": train, "forward": forward, "beam": beam}[case.task](case, module, params, jnp.asarray(case.inputs()))


def train(case, module, params, x):
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=DECAY)

    def loss(params):
        encoded = module.apply({"params": params}, x, train=True)
        if case.family != "gpt2":
            return jnp.mean(encoded.x**2)
        return optax.softmax_cross_entropy_with_integer_labels(encoded.logits[:, :-1], x[:, 1:]).mean()

    def update(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    carry = [params, jax.jit(optimizer.init)(params)]
    lowered = jax.jit(update, donate_argnums=(0, 1)).lower(*carry)
    compiled = lowered.compile(compiler_options=program.COMPILER_OPTIONS.get(platform()))

    def step():
        *carry[:], value = compiled(*carry)
        return float(value)

    return step


def forward(case, module, params, x):
    params, apply = to_read(params), jax.jit(lambda params, x: module.apply({"params": params}, x).x)
    return lambda: jax.device_get(apply(params, x))


def beam(case, module, params, x):
    settings = Generation(length=case.written, minimum=case.written, beams=BEAMS)

    @jax.jit
    def search(params, prompt):
        variables = {"params": params}

        def step(ids, cache, index):
            return module.apply(variables, ids, cache, index, method="decode")

        cache = module.apply(variables, len(prompt), prompt.shape[1] + case.written, method="cache")
        return generate(step, cache, prompt, settings).ids[:, 0]

    params = to_read(params)
    return lambda: jax.device_get(search(params, x))


def default_job():
    """-> function of nothing that does a training step of configs/pretrain.py on a held batch."""
    parts = recipe.make(load_config("configs/pretrain.py"))
    mesh = layout.make_mesh(parts.config.mesh)
    with jax.set_mesh(mesh):
        make_state, shapes = program.state_maker(parts, mesh)
        compiled, *_ = program.compile_step(parts, mesh, shapes)
        batch = next(parts.batches.iterate(0, parts.loader))
        batch, carry = jax.device_put(batch), [make_state()]

    def step():
        carry[0], values = compiled(carry[0], batch)
        return float(values["loss"])

    return step
