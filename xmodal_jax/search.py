"""Search a folder of photos by words.

    python -m xmodal_jax.search index --workdir=DIR --photos=FOLDER
        encode the photos; again: only what was added, changed or removed since
    python -m xmodal_jax.search query --workdir=DIR "a squirrel is eating an acorn" [--top=4] [--percent=10] [--threshold=0.3]
        the photos that the words mean, best first; limits that are given all count; also --picture=FILE instead of words
    python -m xmodal_jax.search query --workdir=DIR "the big cat" --image=FILE
        the object that the words mean in one picture (runs with refer=True): its score and box in pixels
    python -m xmodal_jax.search classify --workdir=DIR --photos=FOLDER --labels=airport,beach [--prompts='a photo of {}.']
        which label each photo is likeliest to show, zero-shot
    python -m xmodal_jax.search bench --vectors=1000000 [--width=256]
        build an index of clustered vectors, change a thousand, and measure its answers; with --workdir=DIR --photos=FOLDER
        instead: how fast these are indexed, beside decoding and encoding alone

--workdir is a trained run whose texts and pictures have vectors of one space; --model instead a whole model: a folder that
`save_pretrained` wrote or a CLIP, or its name on the hub. --json prints results for programs, --html=FILE writes a page of
them. --index=DIR is where the index lies, by default in the folder of the run (of --model: below runs/), one for each folder of
photos.
"""

import functools
import json
import math
import os
import sys

from absl import flags

from xmodal_jax import cli
from xmodal_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
MODEL = flags.DEFINE_string("model", None, "Folder or name of a whole model, instead of a run.")
PHOTOS = flags.DEFINE_string("photos", None, "Folder of photos. query: by default those that were indexed last.")
INDEX = flags.DEFINE_string("index", None, "Folder of the index. Default: one in the run's folder for each folder of photos.")
TOP = flags.DEFINE_integer("top", None, "query: the best so many photos (4 where no limit is given).", lower_bound=1)
PERCENT = flags.DEFINE_float("percent", None, "query: the best so many percent of all.", lower_bound=0, upper_bound=100)
THRESHOLD = flags.DEFINE_float("threshold", None, "query: those with at least this score (a cosine, -1 to 1).")
flags.register_validator("threshold", lambda value: value is None or not math.isnan(value), "must be a number")
PICTURE = flags.DEFINE_string("picture", None, "query: a picture to find others like it.")
IMAGE = flags.DEFINE_string("image", None, "query: one picture in which to find the object that the words mean.")
LABELS = flags.DEFINE_list("labels", [], "classify: names, with commas.")
PROMPTS = flags.DEFINE_multi_string("prompts", ["{}"], "classify: text with {} for the label; several are averaged.")
JSON = flags.DEFINE_bool("json", False, "Print results as JSON.")
HTML = flags.DEFINE_string("html", None, "query: write a page of the photos found.")
VECTORS = flags.DEFINE_integer("vectors", 1_000_000, "bench: how many.", lower_bound=1000)
WIDTH = flags.DEFINE_integer("width", 256, "bench: numbers of each.", lower_bound=2)


def main(command="", *words):
    from xmodal_jax.config import choose

    run = choose(COMMANDS, command, "command")
    if words and command != "query":
        raise UserError(f"Unknown argument {words[0]!r} (see --help).")
    run(*words)


def finder():
    """The `Finder` that the flags ask for."""
    from xmodal_jax.finding import Finder, indexes_of, place_of

    if (WORKDIR.value is None) == (MODEL.value is None):
        raise UserError("Give --workdir=DIR, the folder of a trained run, or --model=FOLDER, a whole model.")
    place = WORKDIR.value or MODEL.value
    needs_index = not (PHOTOS.value or INDEX.value or IMAGE.value)
    # What is missing is told before a model is loaded.
    index = place_of(indexes_of(place)) if needs_index else INDEX.value
    return Finder(place, index=index)


def folder():
    """--photos, which has to be there."""
    from xmodal_jax.index.photos import files_of

    if PHOTOS.value is None:
        raise UserError("Give --photos=FOLDER.")
    files_of(PHOTOS.value)
    return PHOTOS.value


def index():
    """Bring the index in step with the folder."""
    place = folder()
    store, done = finder().index(place)
    told = {**vars(done), "photos": len(store), "index": store.folder}
    print(json.dumps(told) if JSON.value else f"{len(store)} photos in {store.folder}: {done}")


def query(*words):
    """Print the photos found."""
    text = " ".join(words)
    if bool(text.strip()) == bool(PICTURE.value):
        raise UserError('Give what to search for: a text in quotes ("a dog on a beach"), or --picture=FILE.')
    if IMAGE.value:
        found = [finder().in_picture(IMAGE.value, text)]
    else:
        limits = {"top": TOP.value, "percent": PERCENT.value, "threshold": THRESHOLD.value}
        found = finder().query(text, PICTURE.value, PHOTOS.value, **limits)
    if HTML.value:
        from xmodal_jax.draw.gallery import write_gallery

        photos = [(os.path.basename(one.path), one.score, functools.partial(picture, one)) for one in found]
        write_gallery(HTML.value, text or PICTURE.value, photos)
    if JSON.value:
        print(json.dumps([vars(one) for one in found]))
        return
    for one in found:
        print(f"{one.score:.4f}\t{printable(one.path)}" + (f"\t{' '.join(map(str, one.box))}" if one.box else ""))


def picture(one):
    """A photo that was found, with its box."""
    from xmodal_jax.data.images import decode_image, size_of
    from xmodal_jax.draw.boxed import boxed

    pixels = decode_image(one.path)
    if not one.box:
        return pixels
    sides = size_of(one.path) * 2  # the pixels of a very large photo are fewer
    return boxed(pixels, [([x / side for x, side in zip(one.box, sides, strict=True)], None)], 384)


def printable(path):
    """A path as a terminal takes it: what is no text of its encoding is escaped."""
    return path.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(sys.stdout.encoding or "utf-8")


def classify():
    """Print the likeliest label of every photo."""
    named = [label for label in LABELS.value if label.strip()]
    if not named:
        raise UserError("Give --labels=NAME,NAME,...")
    for path, labels in finder().classify(folder(), named, PROMPTS.value):
        line = json.dumps({"path": path, "labels": dict(labels)})
        print(line if JSON.value else f"{printable(path)}\t{labels[0][0]}\t{labels[0][1]:.3f}", flush=True)


def bench():
    """Print what an index of many vectors costs, or with --photos how fast these are indexed."""
    from xmodal_jax.measure import indexing, vectors

    if PHOTOS.value is None:
        found = vectors.measure(VECTORS.value, WIDTH.value)
    else:
        found = indexing.measure(finder().model, folder())
    print(json.dumps(found) if JSON.value else "\n".join(f"{name:16} {value:,.4g}" for name, value in found.items()))


COMMANDS = {"index": index, "query": query, "classify": classify, "bench": bench}

if __name__ == "__main__":
    cli.run(main, __doc__, words=True)
