"""The model of the tests of the gradient and the step, as small as one can be."""

from xmodal_jax.models import CrossmodalBytes

MODEL = CrossmodalBytes(
    group=48, grid=4, width=8, heads=1, text_layers=0, second_layers=0, layers=1, decoder_layers=1, slots=2, shared_width=4
)
