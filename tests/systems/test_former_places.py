"""Programs of before find what has moved."""


def test_the_recipe_is_found_where_it_was():
    from xmodal_jax.systems import recipe
    from xmodal_jax.train import recipe as former

    assert former is recipe
