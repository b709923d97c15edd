"""A folder of 50,000 photos, broken and oddly named ones among them: changes are seen at once, those during a query too."""

import colorsys
import os
import threading

import numpy as np
import pytest

from tests.index.test_photos import Colours
from xmodal_jax.index import photos
from xmodal_jax.index.query import Searcher

COUNT = 50_000
ODD = ['it\'s "quoted".ppm', "ü ö/한국.ppm", os.fsdecode(b"caf\xe9.ppm"), "[1] 100%.ppm", "-x.ppm", "a\nb.ppm"]


def write(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6 4 4 255\n" + bytes(color) * 16)


def hue(share):
    return [round(255 * x) for x in colorsys.hsv_to_rgb(share, 1, 1)]


@pytest.mark.slow
def test_fifty_thousand_photos(tmp_path):
    folder, model = tmp_path / "photos", Colours()
    for number in range(COUNT - len(ODD)):
        write(folder / f"{number % 100:02}" / f"{number}.ppm", hue(0.2 + 0.6 * number / COUNT))  # none is red
    for name in ODD:
        write(folder / name, hue(0.5))
    for number in range(20):
        (folder / f"broken-{number}.ppm").write_bytes(b"P6 4 4 255\nshort")
    store, done = photos.update(tmp_path / "index", folder, model, "w")
    assert (done.added, done.broken, len(store)) == (COUNT, 20, COUNT)
    search = Searcher(store, model, "w")
    assert {os.path.relpath(one.path, folder) for one in search.by_text("0 1 1", top=20_000)} >= set(ODD)

    for number in range(1000):
        write(folder / "new" / f"{number}.ppm", hue(0.9 + number / 20_000))  # added, nearer to red than all others
        write(folder / f"{number % 100:02}" / f"{number}.ppm", [255, number % 7, 0])  # changed: now red
        os.utime(folder / f"{number % 100:02}" / f"{number}.ppm", ns=(number, number))
        os.remove(folder / f"{(COUNT - 100 - number) % 100:02}" / f"{COUNT - 100 - number}.ppm")
    _, done = photos.update(tmp_path / "index", folder, model, "w")
    assert (done.added, done.changed, done.removed) == (1000, 1000, 1000)
    found = [os.path.relpath(one.path, folder) for one in search.by_text("1 0 0", top=2000)]  # a reader that was open all along
    assert sum(name.startswith("new/") for name in found) == 1000
    assert {os.path.basename(name) for name in found[:1000]} == {f"{number}.ppm" for number in range(1000)}

    gone = threading.Thread(target=lambda: [os.remove(path) for path in (folder / "new").iterdir()])
    gone.start()
    while gone.is_alive():
        rows = search.by_text("1 0 0", top=1500)
        assert len(rows) == 1500 and (np.diff([one.score for one in rows]) <= 0).all()
    gone.join()
    assert not any("/new/" in one.path for one in search.by_text("1 0 0", top=1500))
