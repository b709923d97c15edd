"""A web page on which to search a folder of photos.

    python -m xmodal_jax.demo --workdir=DIR --photos=FOLDER [--compressed=DIR] [--caption=DIR] [--ask=DIR]

Type what you look for, drop a picture in, open a photo and find an object in it, mark results as right or wrong and let the
model learn from that. --workdir is a run of configs/search.py or another model that `search` takes; --compressed a smaller one
to switch to; --caption and --ask runs that write captions and answer questions. The page is for this machine alone;
--host=0.0.0.0 opens it to the network, --allow=NAME names the host as others call it. Needs the extra `demo` (starlette,
uvicorn).
"""

import os

from absl import flags, logging

from xmodal_jax import cli
from xmodal_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, or of a whole model.")
PHOTOS = flags.DEFINE_string("photos", None, "Folder of photos.")
COMPRESSED = flags.DEFINE_string("compressed", None, "Folder of a smaller model, to switch to.")
CAPTION = flags.DEFINE_string("caption", None, "Folder of a run that writes captions.")
ASK = flags.DEFINE_string("ask", None, "Folder of a run that answers questions.")
INDEX = flags.DEFINE_string("index", None, "Folder of the indexes. Default: one in the run's folder.")
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
PORT = flags.DEFINE_integer("port", 8321, "Port to listen on.", lower_bound=0, upper_bound=65535)
ALLOW = flags.DEFINE_list("allow", [], "Names of this host by which others may open the page, with commas.")


def main():
    try:
        import uvicorn

        from xmodal_jax.page import server
    except ImportError as error:
        raise UserError(f"The page needs {error.name}: pip install 'xmodal_jax[demo]'.") from None
    if WORKDIR.value is None or PHOTOS.value is None:
        raise UserError("Give --workdir=DIR (a trained run) and --photos=FOLDER.")
    desk = make_desk()
    desk.searcher()
    desk.query("photo")  # what it compiles is ready for the first user
    logging.info("open http://%s:%d", HOST.value, PORT.value)
    uvicorn.run(
        server.make(desk, (*server.LOCAL, HOST.value, *ALLOW.value)), host=HOST.value, port=PORT.value, log_level="warning"
    )


def make_desk():
    """The `Desk` that the flags ask for."""
    from xmodal_jax import api, finding
    from xmodal_jax.index import photos
    from xmodal_jax.page.desk import Desk, Served

    photos.files_of(PHOTOS.value)  # a wrong folder is told before models are loaded

    def open_model(place, name):
        model = api.load(place)
        model.need("embed_images")
        return Served(name, model, finding.least_of(place))

    served = [open_model(WORKDIR.value, "full model")]
    if COMPRESSED.value:
        served.append(open_model(COMPRESSED.value, "compressed"))
    others = [api.load(place) if place else None for place in (CAPTION.value, ASK.value)]
    return Desk(PHOTOS.value, INDEX.value or os.path.join(WORKDIR.value, "index-demo"), served, *others)


if __name__ == "__main__":
    cli.run(main, __doc__)
