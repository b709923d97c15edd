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
import hashlib
import json
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

    choose(COMMANDS, command, "command")(*words)


def no_more(words):
    """Raise a UserError for words that nothing is done with."""
    if words:
        raise UserError(f"Unknown argument {words[0]!r} (see --help).")


def model_and_weights():
    """The predictor, and the fingerprint of its parameters."""
    from xmodal_jax import api
    from xmodal_jax.index import photos

    if (WORKDIR.value is None) == (MODEL.value is None):
        raise UserError("Give --workdir=DIR, the folder of a trained run, or --model=FOLDER, a whole model.")
    model = api.load(WORKDIR.value or MODEL.value)
    model.need("embed_images")
    return model, photos.fingerprint(model.params)


def index_folder():
    """Where the index of the photos lies; without --photos, of those indexed last."""
    if INDEX.value is not None:
        return INDEX.value
    own = WORKDIR.value or os.path.join("runs", f"search-{os.path.basename(os.path.normpath(MODEL.value or ''))}")
    place = os.path.join(own, "index")
    if PHOTOS.value is not None:
        real = os.path.realpath(PHOTOS.value)
        return os.path.join(place, f"{os.path.basename(real)}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}")
    made = [entry.path for entry in os.scandir(place) if entry.is_dir()] if os.path.isdir(place) else []
    if not made:
        raise UserError(f"{place}: nothing was indexed yet: python -m xmodal_jax.search index --workdir=... --photos=FOLDER")
    return max(made, key=os.path.getmtime)


def index(*words):
    """Bring the index in step with the folder."""
    from xmodal_jax.index import photos

    no_more(words)
    if PHOTOS.value is None:
        raise UserError("Give --photos=FOLDER, what to index.")
    photos.files_of(PHOTOS.value)  # a wrong folder is told before a model is loaded
    model, weights = model_and_weights()
    store, done = photos.update(index_folder(), PHOTOS.value, model, weights)
    if JSON.value:
        print(json.dumps({**vars(done), "photos": len(store), "index": store.folder}))
    else:
        print(f"{len(store)} photos in {store.folder}: {done}")


def query(*words):
    """Print the photos found."""
    from xmodal_jax.index.query import Searcher
    from xmodal_jax.index.store import Store

    text = " ".join(words)
    if bool(text.strip()) == bool(PICTURE.value):
        raise UserError('Give what to search for: a text in quotes ("a dog on a beach"), or --picture=FILE.')
    limits = {"top": TOP.value, "percent": PERCENT.value, "threshold": THRESHOLD.value}
    if IMAGE.value:
        found = in_image(IMAGE.value, text)
    else:
        store = Store(index_folder())
        searcher = Searcher(store, *model_and_weights(), least())
        found = searcher.by_picture(PICTURE.value, **limits) if PICTURE.value else searcher.by_text(text, **limits)
    if HTML.value:
        from xmodal_jax.draw.gallery import write_gallery

        photos = [(os.path.basename(one.path), one.score, functools.partial(drawn, one)) for one in found]
        write_gallery(HTML.value, text or PICTURE.value, photos)
    if JSON.value:
        print(json.dumps([vars(one) for one in found]))
        return
    for one in found:
        print(f"{one.score:.4f}\t{printable(one.path)}" + (f"\t{' '.join(map(str, one.box))}" if one.box else ""))


def in_image(path, phrase):
    """[Found] of the object that a phrase means in one picture."""
    from xmodal_jax.index.query import Found, locate

    model, _ = model_and_weights()
    model.as_example(path)  # a broken one is told
    ((score, box),) = locate(model, [path], phrase, least())
    return [Found(path, score, box)]


def least():
    """The score from which an object counts as found: what the run's last evaluation chose, else the usual."""
    from xmodal_jax.index.query import LEAST
    from xmodal_jax.interop.processing import read_json

    return read_json(WORKDIR.value or "", "results.json").get("refer/threshold", LEAST)


def drawn(one):
    """A photo that was found, with its box."""
    from xmodal_jax.data.images import decode_image
    from xmodal_jax.draw.boxed import boxed

    picture = decode_image(one.path)
    if one.box is None:
        return picture
    height, width, _ = picture.shape
    shares = [x / side for x, side in zip(one.box, (width, height) * 2, strict=True)]
    return boxed(picture, [(shares, None)], longest=384)


def printable(path):
    """A path as a terminal takes it: what is no text of its encoding is escaped."""
    return path.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(sys.stdout.encoding or "utf-8")


def classify(*words):
    """Print the likeliest label of every photo."""
    from absl import logging

    from xmodal_jax.index import photos

    no_more(words)
    if PHOTOS.value is None or not LABELS.value:
        raise UserError("Give --photos=FOLDER and --labels=NAME,NAME,...")
    names = list(photos.files_of(PHOTOS.value))
    model, _ = model_and_weights()
    for first in range(0, len(names), photos.BATCH):
        examples = {}
        for name in names[first : first + photos.BATCH]:
            try:
                examples[name] = model.as_example(os.path.join(PHOTOS.value, name))
            except UserError as error:
                logging.warning("passed over: %s", error)
        ranked = model.classify(list(examples.values()), LABELS.value, PROMPTS.value) if examples else []
        for name, labels in zip(examples, ranked, strict=True):
            path = os.path.join(PHOTOS.value, name)
            if JSON.value:
                print(json.dumps({"path": path, "labels": dict(labels)}), flush=True)
            else:
                print(f"{printable(path)}\t{labels[0][0]}\t{labels[0][1]:.3f}", flush=True)


def bench(*words):
    """Print what an index of many vectors costs, or with --photos how fast these are indexed."""
    from xmodal_jax.measure import indexing, vectors

    no_more(words)
    if PHOTOS.value is None:
        found = vectors.measure(VECTORS.value, WIDTH.value)
    else:
        found = indexing.measure(model_and_weights()[0], PHOTOS.value)
    print(json.dumps(found) if JSON.value else "\n".join(f"{name:14} {value:,.4g}" for name, value in found.items()))


COMMANDS = {"index": index, "query": query, "classify": classify, "bench": bench}

if __name__ == "__main__":
    cli.run(main, __doc__, words=True)
