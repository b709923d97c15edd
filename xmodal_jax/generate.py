"""Caption pictures or answer a question about them.

    python -m xmodal_jax.generate --workdir=DIR --images='photos/*.jpg' [--question="what color is the car?"] [--lang=en]
    python -m xmodal_jax.generate --workdir=DIR --images='photos/*.jpg' --beams=4 [--length_penalty=1] [--returned=3]
    python -m xmodal_jax.generate --workdir=DIR --images='photos/*.jpg' --sample --top_p=0.9 [--temperature=0.8] [--seed=1]

--images may be a pattern, a file of just this name, or a folder: the pictures in it and below. Prints one line per text as it
is done: file, tab, text. A file that is no picture is named and passed over. Questions and languages are for models of bytes,
searches and sampling for captioners; one that the model does not have is refused.
"""

import time

from absl import flags, logging

from xmodal_jax import cli
from xmodal_jax.errors import UserError, printable

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
IMAGES = flags.DEFINE_string("images", None, "Picture files: a pattern in quotes, a file, or a folder.")
QUESTION = flags.DEFINE_string("question", None, "A question to be answered instead of a caption.")
LANG = flags.DEFINE_string("lang", None, "Language of the captions.")
SEED = flags.DEFINE_integer("seed", 0, "Of sampling: a text follows from it and the picture alone.")
BATCH = flags.DEFINE_integer("batch", 16, "Pictures at a time.", lower_bound=1)
SEARCH = (
    flags.DEFINE_integer("beams", None, "Width of a beam search; 1 is greedy.", lower_bound=1),
    flags.DEFINE_integer("returned", None, "Texts per picture: the n best, or with --sample so many.", lower_bound=1),
    flags.DEFINE_integer("length", None, "Most words of a text.", lower_bound=1),
    flags.DEFINE_integer("minimum", None, "Fewest words of a text.", lower_bound=0),
    flags.DEFINE_float("length_penalty", None, "Above 0 favours long texts: score = sum of log p / length ** penalty."),
    flags.DEFINE_bool("early_stopping", None, "End a beam search as soon as --beams texts are complete."),
    flags.DEFINE_bool("sample", None, "Draw words instead of searching."),
    flags.DEFINE_float("temperature", None, "Of sampling: below 1 is more careful."),
    flags.DEFINE_integer("top_k", None, "Sample among so many words.", lower_bound=0),
    flags.DEFINE_float("top_p", None, "Sample among the fewest words with this probability together."),
    flags.DEFINE_float("repetition_penalty", None, "Above 1 avoids words that were written before."),
    flags.DEFINE_integer("no_repeat_ngram", None, "No n words of a text stand in it twice.", lower_bound=0),
)


def main():
    from xmodal_jax import api
    from xmodal_jax.data.images import size_of
    from xmodal_jax.data.sources.places import pictures_of

    if WORKDIR.value is None or IMAGES.value is None:
        raise UserError("Give --workdir=DIR (a trained run) and --images='PATTERN' (picture files).")
    if QUESTION.value and LANG.value:
        raise UserError(f"--lang={LANG.value} is of captions: a question is answered in its own language.")
    files = pictures_of(IMAGES.value)
    settings = {flag.name: flag.value for flag in SEARCH if flag.value is not None}
    model, done, start = api.load(WORKDIR.value), 0, time.monotonic()
    for first in range(0, len(files), BATCH.value):
        batch = []
        for file in files[first : first + BATCH.value]:
            try:
                size_of(file)  # a model of bytes would read a file that is no picture too
                batch.append((file, model.as_example(file)))
            except UserError as error:
                logging.warning("passed over: %s", printable(error))
        if batch:
            pictures = [example for _, example in batch]
            if QUESTION.value:
                written = model.answer(pictures, QUESTION.value, **settings)
            else:
                written = model.caption(pictures, LANG.value, seed=SEED.value, **settings)
            for (file, _), texts in zip(batch, written, strict=True):
                for text in [texts] if isinstance(texts, str) else texts:
                    print(f"{printable(file)}\t{printable(text)}", flush=True)
        done = min(first + BATCH.value, len(files))
        rate = done / (time.monotonic() - start)
        logging.info("%d of %d pictures, %.1f a second, %.0f s left", done, len(files), rate, (len(files) - done) / rate)


if __name__ == "__main__":
    cli.run(main, __doc__)
