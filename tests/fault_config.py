"""System 1 with as little to trace as possible: most of the time of a run that is only there to be disturbed."""

from tests.train.small_config import get_config as small_config


def get_config():
    config = small_config()
    config.model.update({"text_layers": 0, "second_layers": 0, "width": 16})
    config.evaluators = {"retrieval": {"count": 4}}
    return config
