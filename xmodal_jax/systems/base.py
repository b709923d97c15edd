"""What is to be known of an architecture: its examples, how it is built from a config, how a trained one is used."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class System:
    """One architecture.

    Attributes:
      title: of its reports; examples: the dataclass of config.examples.
      maker: (config, examples, training source, open_scorer) -> what makes batches of examples: a callable with `config`,
        `example_batch`; open_scorer: folder of a run -> a scorer of senses.
      model: (config, maker, dtype) -> (module, {its field: `Tower`} of the towers that it was built from).
      tokens: (module, maker) -> vectors that a row is processed as.
      predictor: (module, params, maker) -> its verbs as plain functions of pictures and strings.
    """

    title: str
    examples: type
    maker: Callable
    model: Callable
    tokens: Callable
    predictor: Callable
