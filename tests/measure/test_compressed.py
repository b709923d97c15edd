"""The benchmark of a compressed model: its rows, and what it needs."""

import pytest

from tests.test_compress_run import small
from xmodal_jax.errors import UserError
from xmodal_jax.measure import compressed, figures


@pytest.mark.slow
def test_a_compressed_model_beside_the_full_one():
    found, tables = compressed.measure(small(",method=magnitude"))
    assert found["kept"] == pytest.approx(0.7, rel=0.03) and found["masked_difference"] <= 1e-5
    assert found["parameters"] < found["parameters_before"] and found["latency_ratio/text/loaded/8"] > 0
    lines = figures.console(tables).splitlines()
    assert [sum(line.startswith(name) for line in lines) for name in ("full", "compressed")] == [1, 2]


def test_what_must_be_learned_is_refused():
    with pytest.raises(UserError, match="magnitude, random, layers"):
        compressed.measure(small())
