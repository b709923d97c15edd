"""Algorithm 1 in its smallest, long enough to be killed in every phase, for tests that start commands."""

from tests.test_compress_run import small


def get_config():
    config = small()
    config.total_steps, config.checkpoint_every = 40, 3
    config.compress.update(weight_steps=8, structure_steps=8)
    return config
