"""The share of attention that crosses between modalities, by hand."""

import jax
import numpy as np
import pytest

from tests.conftest import random_params
from tests.test_zoo_run import small
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.flow import FlowEvaluator
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.systems import recipe


def test_flow():
    config = small("vilt,debug,image_size=32")
    config.model.interaction.layers = 2
    parts = recipe.make(config)
    judge = FlowEvaluator(parts, count=6, rows=3)
    model = parts.predictor(random_params(parts.model, parts.example_batch(1)))
    results, _ = judge.run(model)
    sums, counts, even = np.zeros((2, 2)), np.zeros(2), np.zeros(2)

    @jax.jit
    def watched(params, image, *caption):
        verbs = Verbs(model.model, params)
        return verbs.watched("fuse", verbs.encode_text(*caption), verbs.encode_image(image), "both")

    for batch in judge.batches:
        for row in range(3):
            one = {name: value[row : row + 1] for name, value in batch.items()}
            layers = watched(model.params, one["image"], one["caption"], one["caption_length"])
            layers = layers["interaction"]["encoder"]["layers"]
            layers = layers["attention"]["weights"][-1] if "attention" in layers else np.stack(
                [layers[str(i)]["attention"]["weights"][-1] for i in range(2)]
            )  # fmt: skip
            words, T = int(one["caption_length"][0]) + 1, one["caption"].shape[1]
            places = layers.shape[-1] - T
            for layer in range(2):
                mean = np.asarray(layers[layer][0], np.float64).mean(0)
                sums[0, layer] += sum(mean[i, T:].sum() for i in range(words))
                sums[1, layer] += sum(mean[T + i, :words].sum() for i in range(places))
            counts += words, places
            even += words * places / (words + places)
    for name, total, count in zip(("words_to_image", "image_to_words"), sums, counts, strict=True):
        for layer in range(2):
            assert results[f"flow/{name}/{layer + 1}"] == pytest.approx(total[layer] / count, rel=1e-4)
    assert results["flow/between"] == pytest.approx((sums / counts[:, None]).mean(), rel=1e-4)
    assert results["flow/even"] == pytest.approx((even / counts).mean(), rel=1e-5)


def test_models_without_one_stream_are_refused():
    with pytest.raises(UserError, match="in one stream"):
        FlowEvaluator(recipe.make(small("clip,debug,image_size=32")))
