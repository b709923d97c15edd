"""One check for every family: a PyTorch model with random weights against what we read of its checkpoint, both ways."""

import copy
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


def check_family(folder, model, theirs, ours, rng, against_float64=False, **settings):
    """Forward, gradients and the way back of one model.

    Args:
      theirs: model -> {name: tensor}. ours: (module, variables) -> {name: array}, called under jit; `variables` also takes
        `mutable="intermediates"`. Their names and shapes must agree, and outputs to 1e-4, gradients as `close_gradients` says.
    Returns:
      the Pretrained.
    """
    first, grads, back = (os.path.join(folder, name) for name in ("first", "grads", "back"))
    model.save_pretrained(first)
    pretrained = load_pretrained(first, **settings)
    module, params, _ = pretrained
    expected = theirs(model)
    weights = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in expected.items()}

    @jax.jit
    def both_ways(p):  # one program: the gradient is that of the weighted sum of all outputs
        found, back = jax.vjp(lambda p: ours(module, {"params": p}), p)
        assert set(found) == set(expected)
        return found, back({name: jnp.asarray(weights[name], value.dtype) for name, value in found.items()})[0]

    found, got = both_ways(params)
    for name, value in expected.items():
        close(found[name], value.detach().numpy(), 1e-4, name)

    def as_ours(gradients):  # through a checkpoint that holds them in place of the parameters
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(gradients[name])
        model.save_pretrained(grads)
        model.load_state_dict(kept)
        shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), params)
        with pytest.MonkeyPatch.context() as patch:  # the same module again: tracing it once more for its shapes takes long
            patch.setattr(checkpoints, "parameter_shapes", lambda *_: shapes)
            return leaves(load_pretrained(grads, **settings).params)

    def scalar(model):
        return sum((value * torch.tensor(weights[name])).sum() for name, value in theirs(model).items())

    got, wanted = leaves(got), as_ours(gradients(model, scalar))
    for name in [name for name in wanted if name.endswith(("/mean", "/variance"))]:
        assert not np.any(got[name])  # fixed statistics; the file holds them where the others have their gradient
        del wanted[name]
    exact = (lambda: as_ours(gradients(in_float64(model), scalar))) if against_float64 else None
    close_gradients(got, wanted, exact)

    save_pretrained(back, module, params, pretrained.settings)
    again = type(model).from_pretrained(back)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), f"{name} is not the same after import and export"
    return pretrained


def gradients(model, scalar):
    """{name: gradient of scalar(model), 0 where there is none} of every parameter."""
    model.zero_grad()
    scalar(model).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def in_float64(model):
    """A copy that computes in float64, whatever it is given."""

    def widen(_, args, kwargs):
        given = jax.tree.map(lambda x: x.double() if torch.is_tensor(x) and x.is_floating_point() else x, (args, kwargs))
        return tuple(given[0]), given[1]

    model = copy.deepcopy(model).double()
    model.register_forward_pre_hook(widen, with_kwargs=True)
    return model


def close_gradients(ours, theirs, exact=None, bound=1e-3):
    """Gradients to 1e-3 of their largest value; with `exact` those that are not, at most twice as far from float64's as theirs.

    Args:
      ours, theirs: {name: array}. exact: function of nothing: the gradients in float64; None: 1e-3 for all.
    """
    floor = 1e-3 * max(float(np.abs(value).max()) for value in theirs.values())
    wide = [name for name in theirs if difference(ours[name], theirs[name], name, floor) > bound]
    if exact is None:
        assert not wide, f"gradients that differ: {', '.join(wide)}"
    elif wide:
        truth = exact()
        found, reference = (max((difference(side[n], truth[n], n, floor), n) for n in wide) for side in (ours, theirs))
        text = "gradient of {1}: {0:.2g} off float64's".format(*found) + "; PyTorch's of {1}: {0:.2g}".format(*reference)
        print(text)
        assert found[0] <= max(bound, 2 * reference[0]), text


def close(ours, theirs, tolerance, name):
    worst = difference(ours, theirs, name)
    assert worst <= tolerance, f"{name}: differs by {worst:.2g} of its largest value"


def difference(ours, theirs, name, floor=0.0):
    """Largest difference of two arrays, as a share of the largest value, or of `floor` where that is more."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, f"{name}: {ours.shape} instead of {theirs.shape}"
    return float(np.abs(ours - theirs).max()) / max(float(np.abs(theirs).max()), floor, 1e-30)


def hidden_states(variables, tower="encoder"):
    """What every block gave, [B, N, D], from the intermediates of `module.apply(..., mutable="intermediates")`."""
    (hidden,) = variables["intermediates"][tower]["layers"]["hidden"]
    return numbered(hidden)


def numbered(states):
    """{"hidden 0": first, ...}."""
    return {f"hidden {number}": state for number, state in enumerate(states)}
