"""Small files that tests of sources write."""

import json

from PIL import Image


def picture(path, colour=0, size=(12, 8)):
    """A picture of one colour, or of one shade of grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour,) * 3 if isinstance(colour, int) else colour).save(path)
    return path


def dump(path, data):
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), "utf-8")


def lines(path, rows):
    """A file of JSON values, or of texts as they are, one a line."""
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
