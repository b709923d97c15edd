"""Train, compress and use vision-language models in JAX."""

__version__ = "0.1.0"

COMMANDS = {  # name: (module, what it does)
    "train": ("main", "Train a config, or go on with a run."),
    "evaluate": ("evaluate", "Evaluate a checkpoint of a run."),
    "generate": ("generate", "Caption pictures or answer a question about them."),
    "explain": ("explain", "Draw what an answer rests on, over the picture."),
    "export": ("export", "Write one tower of a run as a folder that PyTorch loads."),
    "search": ("search", "Index a folder of photos, and search it by words."),
    "demo": ("demo", "A web page on which to search a folder of photos."),
    "reproduce": ("reproduce", "Train and compare all cells of a table, beside the published figures."),
    "plan": ("plan", "What a config's training step needs on TPUs that are not here."),
    "bench": ("bench", "Measure a config's speed and memory on what is here."),
}
