"""What config.precision is understood as, and what is refused."""

import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.systems.model import parse_precision


@pytest.mark.parametrize(
    ("text", "compute"),
    [
        ("params=float32,compute=bfloat16,output=float32", "bfloat16"),
        ("params=float32,compute=float32,output=float32", "float32"),
        ("compute=bfloat16", "bfloat16"), ("compute=bf16", "bfloat16"), ("params=fp32, compute=BF16", "bfloat16"),
        ("bf16", "bfloat16"), ("bfloat16", "bfloat16"), ("mixed_bfloat16", "bfloat16"), ("bf16-mixed", "bfloat16"),
        ("BF16", "bfloat16"), (" bf16 ", "bfloat16"), ("float32", "float32"), ("fp32", "float32"), ("f32", "float32"),
    ],
)  # fmt: skip
def test_forms_that_mean_the_same(text, compute):
    assert parse_precision(text) == {"params": "float32", "compute": compute, "output": "float32"}


WRONG = """bf61 fp16 float16 half mixed compute compute= compute=float64 =bf16 bf16,output=float32 computes=bf16 params=bf16
output=bfloat16 16 tf32"""


@pytest.mark.parametrize("text", ["", *WRONG.split()])
def test_all_else_is_refused(text):
    with pytest.raises(UserError, match="config.precision="):
        parse_precision(text)
