"""Caption pictures or answer a question about them.

    python -m xmodal_jax.generate --workdir=DIR --images='photos/*.jpg' [--question="what color is the car?"] [--lang=en]

Prints one line per picture as it is done: file, tab, text. A file that is no picture is named and passed over.
"""

import glob

from absl import flags, logging

from xmodal_jax import cli
from xmodal_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
IMAGES = flags.DEFINE_string("images", None, "Picture files, as a pattern in quotes.")
QUESTION = flags.DEFINE_string("question", None, "A question to be answered instead of a caption.")
LANG = flags.DEFINE_string("lang", "en", "Language of the captions.")
BATCH = 16


def main():
    from xmodal_jax import api
    from xmodal_jax.data.examples import caption_prompt

    if WORKDIR.value is None or IMAGES.value is None:
        raise UserError("Give --workdir=DIR (a trained run) and --images='PATTERN' (picture files).")
    files = sorted(glob.glob(IMAGES.value))
    if not files:
        raise UserError(f"--images={IMAGES.value!r}: no file matches.")
    model = api.load(WORKDIR.value)
    prompt = QUESTION.value or caption_prompt(LANG.value)
    for start in range(0, len(files), BATCH):
        batch = []
        for file in files[start : start + BATCH]:
            try:
                batch.append((file, model.as_example(file)))
            except UserError as error:
                logging.warning("passed over: %s", error)
        if batch:
            texts = model.generate_batch([second for _, second in batch], [prompt] * len(batch))
            for (file, _), text in zip(batch, texts, strict=True):
                print(f"{file}\t{text}", flush=True)


if __name__ == "__main__":
    cli.run(main, __doc__)
