"""System 1 in its smallest, for tests that start commands: two losses, one of them over all rows of a batch; one evaluator."""

from configs.pretrain import get_config as whole_config


def get_config():
    config = whole_config("debug,image_size=32,lang=en")
    config.log_every, config.data.count, config.model.stem = 1, 40, "patch"
    config.objectives = {"masked_words": {"weight": 1.0}, "contrastive": {"weight": 0.2}}
    config.evaluators = {"masked": {"count": 4}}
    return config
