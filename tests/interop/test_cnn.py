"""VGG and ResNet against the originals in PyTorch."""

import json

import jax
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.interop.oracle import (
    check_family,
    close,
    close_gradients,
    gradients,
    in_float64,
    randomise,
    torch,
    transformers,
)
from tests.interop.test_vit import channels_first
from xmodal_jax.interop.cnn import VGGConfig
from xmodal_jax.interop.pretrained import load_pretrained, save_pretrained
from xmodal_jax.interop.trees import leaves

nn = torch.nn


def with_statistics(model, rng):
    """Running means and variances drawn anew as well."""
    for name, buffer in model.named_buffers():
        if "running" in name:
            value = rng.normal(size=buffer.shape) * 0.2
            buffer.copy_(torch.tensor(np.exp(value) if name.endswith("var") else value))
    return model


@pytest.mark.parametrize("kind", ["bottleneck", "basic"])
@pytest.mark.parametrize("halves", [False, True])
def test_resnet_equals_the_original(tmp_path, rng, kind, halves):
    config = transformers.ResNetConfig(
        embedding_size=6, hidden_sizes=[8, 12, 16], depths=[2, 1, 2], layer_type=kind, downsample_in_first_stage=halves,
        downsample_in_bottleneck=halves, num_labels=5,
    )  # fmt: skip
    model = with_statistics(randomise(transformers.ResNetForImageClassification(config), rng), rng)
    x = rng.normal(size=(2, 45, 64, 3)).astype(np.float32)

    def theirs(model):
        features = model.resnet(channels_first(x))
        grid, pooled = features.last_hidden_state, features.pooler_output
        return {
            "grid": grid.flatten(2).transpose(1, 2), "pooled": pooled.flatten(1), "logits": model(channels_first(x)).logits
        }  # fmt: skip

    def ours(module, variables):
        out = module.apply(variables, x)
        return {"grid": out.x, "pooled": out.pooled, "logits": out.logits}

    check_family(tmp_path, model, theirs, ours, rng)


class TorchVGG(nn.Module):
    """VGG with torchvision's names."""

    def __init__(self, config):
        super().__init__()
        layers, width = [], 3
        for channels in config.channels:
            if channels:
                layers += [nn.Conv2d(width, channels, 3, padding=1)]
                layers += [nn.BatchNorm2d(channels)] if config.batch_norm else []
                layers += [nn.ReLU()]
                width = channels
            else:
                layers += [nn.MaxPool2d(2)]
        self.features, self.avgpool, h = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(7), config.hidden_size
        self.classifier = nn.Sequential(
            nn.Linear(width * 49, h), nn.ReLU(), nn.Dropout(), nn.Linear(h, h), nn.ReLU(), nn.Dropout(),
            nn.Linear(h, config.num_labels),
        )  # fmt: skip

    def forward(self, x):
        features = self.features(x)
        return features, self.classifier(self.avgpool(features).flatten(1))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_equals_the_original(tmp_path, rng, batch_norm):
    check_vgg(tmp_path, rng, VGGConfig(channels=(6, 0, 8, 8, 0), batch_norm=batch_norm, hidden_size=12, num_labels=4), (33, 20))


def check_vgg(tmp_path, rng, config, size, against_float64=False):
    """Forward, two gradients and the way back, of pictures of `size`."""
    model = with_statistics(randomise(TorchVGG(config), rng), rng)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "vgg"
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("tracked")}  # a counter
    module, params, settings = load_pretrained(tmp_path)
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    features, logits = model(channels_first(x))
    grid = features.flatten(2).transpose(1, 2)
    weights = rng.normal(size=logits.shape).astype(np.float32)

    def two_gradients(model):
        def scalar(model):
            features, logits = model(channels_first(x))
            return (logits * torch.tensor(weights)).sum() + (features**2).sum()

        found = gradients(model, scalar)
        first = found["features.0.weight"].numpy().transpose(2, 3, 1, 0)
        return {"first kernel": first, "head": found["classifier.0.weight"].numpy().T}

    def run(params):
        out = module.apply({"params": params}, x)
        return (out.logits * weights).sum() + (out.x**2).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    close(out.x, grid.detach(), 1e-4, "grid")
    close(out.logits, logits.detach(), 1e-4, "logits")
    ours = {"first kernel": grads["conv_0"]["kernel"], "head": grads["hidden_0"]["kernel"]}
    close_gradients(ours, two_gradients(model), (lambda: two_gradients(in_float64(model))) if against_float64 else None)
    assert not any(np.any(value) for path, value in leaves(grads).items() if path.endswith(("mean", "variance")))

    save_pretrained(tmp_path / "back", module, params, settings)
    again = load_file(tmp_path / "back" / "model.safetensors")
    assert set(again) == set(state) and all(torch.equal(again[name], state[name]) for name in state)
