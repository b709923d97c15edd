"""Train, compress and use vision-language models in JAX."""

__version__ = "0.1.0"
