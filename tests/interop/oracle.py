"""One check for every family: a PyTorch model with random weights against what we read of its checkpoint, both ways."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.interop import pretrained as checkpoints
from xmodal_jax.interop.pretrained import load_pretrained, save_pretrained
from xmodal_jax.interop.trees import leaves

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def randomise(model, rng, scale=0.15):
    """Draw every parameter anew, norms and biases included; matrices so that activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2 and "embed" not in name and "token" not in name:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + scale * noise)
            else:
                parameter.copy_(scale * noise)
    return with_padding_learned(model)


def with_padding_learned(model):
    """In evaluation mode, and with the gradient of the padding's embedding, which PyTorch leaves out."""
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    return model.eval()


def check_family(folder, model, theirs, ours, rng, forward=1e-4, gradient=1e-3, **settings):
    """Forward, gradients and the way back of one model.

    Args:
      theirs: model -> {name: tensor}. ours: (module, variables) -> {name: array}, called under jit; `variables` also takes
        `mutable="intermediates"`. Their names and shapes must agree.
      forward, gradient: largest difference, relative to the largest value of each output or gradient.
    Returns:
      the Pretrained.
    """
    first, grads, back = (os.path.join(folder, name) for name in ("first", "grads", "back"))
    model.save_pretrained(first)
    pretrained = load_pretrained(first, **settings)
    module, params, _ = pretrained
    expected = theirs(model)
    weights = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in expected.items()}
    found = jax.jit(lambda p: ours(module, {"params": p}))(params)
    assert set(found) == set(expected)
    for name, value in expected.items():
        close(found[name], value.detach().numpy(), forward, name)

    model.zero_grad()
    sum((value * torch.tensor(weights[name])).sum() for name, value in expected.items()).backward()
    with torch.no_grad():
        originals = {name: parameter.clone() for name, parameter in model.named_parameters()}
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    model.save_pretrained(grads)
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), params)
    with pytest.MonkeyPatch.context() as patch:  # the same module again: tracing it once more for its shapes takes long
        patch.setattr(checkpoints, "parameter_shapes", lambda *_: shapes)
        wanted = leaves(load_pretrained(grads, **settings).params)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(originals[name])

    def loss(p):
        values = ours(module, {"params": p})
        return sum(jnp.sum(values[name] * weights[name]) for name in values)

    got = leaves(jax.jit(jax.grad(loss))(params))
    largest = max(float(np.abs(value).max()) for value in wanted.values())
    for name, value in wanted.items():
        if name.endswith(("/mean", "/variance")):  # fixed statistics; the file holds them where the others have their gradient
            assert not np.any(got[name])
        else:
            close(got[name], value, gradient, f"gradient of {name}", floor=1e-3 * largest)

    save_pretrained(back, module, params, pretrained.settings)
    again = type(model).from_pretrained(back)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), f"{name} is not the same after import and export"
    return pretrained


def close(ours, theirs, tolerance, name, floor=0.0):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, f"{name}: {ours.shape} instead of {theirs.shape}"
    worst = float(np.abs(ours - theirs).max()) / max(float(np.abs(theirs).max()), floor, 1e-30)
    assert worst <= tolerance, f"{name}: differs by {worst:.2g} of its largest value"


def hidden_states(variables, tower="encoder"):
    """What every block gave, [B, N, D], from the intermediates of `module.apply(..., mutable="intermediates")`."""
    (hidden,) = variables["intermediates"][tower]["layers"]["hidden"]
    return numbered(hidden)


def numbered(states):
    """{"hidden 0": first, ...}."""
    return {f"hidden {number}": state for number, state in enumerate(states)}
