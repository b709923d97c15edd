"""What is to be known of an architecture: its examples, how it is built from a config, how a trained one is used."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class System:
    """One architecture.

    Attributes:
      title: of its reports; examples: the dataclass of config.examples.
      maker: (config, examples, training source or None, kept, open_scorer) -> what makes batches of examples: a callable with
        `config`, `example_batch`. kept: folder that `keep` wrote, or None: what is to be learned is learned from the source;
        without a source no training examples can be made. open_scorer: folder of a run -> a scorer of senses.
      keep: (maker, folder) -> writes there what the maker has learned or looked up.
      model: (config, maker, dtype, kept) -> (module, {its field: `Tower`} of the towers that it was built from).
      tokens: (module, maker) -> vectors that a row is processed as.
      predictor: (module, params, maker, aligned=, title=, store=) -> a `decoding.predictor.Predictor`.
    """

    title: str
    examples: type
    maker: Callable
    keep: Callable
    model: Callable
    tokens: Callable
    predictor: Callable
