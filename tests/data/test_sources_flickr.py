"""Flickr8k and Flickr30k in the forms in which they are handed out."""

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data.sources.flickr import Flickr
from xmodal_jax.errors import UserError

NAMES = [f"10{i}_a.jpg" for i in range(6)]
FORMS = {
    "Flickr8k.token.txt": "{name}#{n}\tA dog , {n} .",
    "results_20130124.token": "{name}#{n}\tA dog , {n} .",
    "results.csv": "{name}| {n}| A dog , {n} .",
    "captions.txt": '{name},"A dog , {n} ."',
}


def write(folder, form, pictures="Images"):
    (folder / pictures).mkdir()
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(folder / pictures / name)
    header = {"results.csv": ["image_name| comment_number| comment"], "captions.txt": ["image,caption"]}.get(form, [])
    lines = header + [FORMS[form].format(name=name, n=n) for name in NAMES for n in range(2)]
    (folder / form).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("form", FORMS)
def test_captions_come_with_their_pictures(tmp_path, form):
    write(tmp_path, form)
    for split, names in {"train": NAMES[:3], "dev": NAMES[3:4], "test": NAMES[4:]}.items():
        (tmp_path / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names))
    for split, names in {"train": NAMES[:3], "val": NAMES[3:4], "test": NAMES[4:]}.items():
        source = Flickr(path=tmp_path, split=split, size=8)
        assert [source[i]["id"].rsplit("/")[-1] for i in range(len(source))] == names
        assert source[0]["captions"] == ["A dog , 0 .", "A dog , 1 ."]
        assert abs(int(source[0]["image"][0, 0, 0]) - 40 * NAMES.index(names[0])) < 4


def test_without_lists_a_hash_splits(tmp_path):
    write(tmp_path, "results.csv", "flickr30k_images")
    found = [len(Flickr(path=tmp_path, split="train", split_fractions=(1, 0, 0)))]
    assert found == [6]
    with pytest.raises(UserError, match="no example in split 'test'"):
        Flickr(path=tmp_path, split="test", split_fractions=(1, 0, 0))
    (tmp_path / "flickr30k_images" / NAMES[2]).unlink()
    source = Flickr(path=tmp_path, split_fractions=(1, 0, 0))
    assert len(source) == 5 and source.missing == 1


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(UserError, match=r"\.token.*is in this folder"):
        Flickr(path=tmp_path)
    write(tmp_path, "Flickr8k.token.txt")
    (tmp_path / "Flickr8k.token.txt").write_text(f"{NAMES[0]}#0\tA dog\nnonsense\n")
    with pytest.raises(UserError, match="token.txt:2: 'nonsense'"):
        Flickr(path=tmp_path)
    (tmp_path / "Flickr8k.token.txt").write_text("".join(f"gone{i}.jpg#0\tA dog\n" for i in range(4)))
    with pytest.raises(UserError, match=r"gone\d.jpg is not there"):
        Flickr(path=tmp_path, split_fractions=(1, 0, 0))
