"""How fast a folder of photos is indexed, beside what decoding and encoding take, each alone on all cores."""

import concurrent.futures
import os
import tempfile
import time

from xmodal_jax.errors import UserError
from xmodal_jax.index import photos


def measure(model, folder):
    """{figure: value}: photos; decode_per_s and encode_per_s, each measured alone; index_per_s of a new index; share: of the
    speed that decoding and encoding one after the other would have. Raises UserError for a folder without readable photos.
    """
    root = os.path.realpath(folder)
    paths = [os.path.join(root, key) for key in photos.files_of(folder)]

    def read(path):
        try:
            return model.as_example(path)
        except UserError:
            return None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        start = time.perf_counter()
        examples = [example for example in threads.map(read, paths) if example is not None]
        decoding = time.perf_counter() - start
    if not examples:
        raise UserError(f"--photos={folder}: there is no photo that can be read.")
    batches = [examples[first : first + photos.BATCH] for first in range(0, len(examples), photos.BATCH)]
    for batch in (batches[0], batches[-1]):  # compiles
        model.seen(batch)
    start = time.perf_counter()
    for batch in batches:
        model.seen(batch)
    encoding = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as place:
        _, done = photos.update(place, folder, model, "bench")
    return {
        "photos": done.added, "decode_per_s": len(paths) / decoding, "encode_per_s": len(examples) / encoding,
        "index_per_s": len(paths) / done.seconds, "share": (decoding + encoding) / done.seconds,
    }  # fmt: skip
