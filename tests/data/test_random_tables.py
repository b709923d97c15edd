"""Random tables through every reader: the pictures and captions that come out are those written, or a UserError says why."""

import csv
import io
import json
import os
import shutil
import tarfile
import unicodedata

import numpy as np
import pytest

from tests.conftest import fresh_seed
from tests.data.written import dump
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.coco import CocoCaptions
from xmodal_jax.data.sources.columns import Parquet
from xmodal_jax.data.sources.flickr import Flickr
from xmodal_jax.data.sources.questions import Questions
from xmodal_jax.data.sources.records import is_nothing
from xmodal_jax.data.sources.webdataset import WebDataset
from xmodal_jax.errors import UserError

SETTINGS = {"split_fractions": (1, 0, 0), "max_bad_fraction": 1.0}
PLAIN = list("abcdeXYZ 0123")
ODD = [*",;|\t#%~!&=+@^$'\"()[]{}<>?*", "\\", "é", "é", "강", "강", "한글", "न", "י", "🎉", "👩‍🚀", "\u3000", "\xa0"]
BREAKS = ["\n", "\r\n", "\u2028", "\x85", "\x0b", '""', '"', '\\"', ", ", "; ", "\t", " | ", "\x00", "\x1b[0m", "\ufeff"]
EMPTY = ["", "  ", "NaN", "null", None]


def text_of(rng, most, odd):
    """A random text; odd: how often a character is none of the plain."""
    pools = [PLAIN, ODD + BREAKS]
    chosen = [pools[int(rng.random() < odd)] for _ in range(int(rng.integers(1, most)))]
    return "".join(pool[int(rng.integers(len(pool)))] for pool in chosen)


def name_of(rng, odd):
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        pool = PLAIN if rng.random() > odd else PLAIN + ODD
        parts.append("".join(pool[int(rng.integers(len(pool)))] for _ in range(int(rng.integers(1, 6)))).strip() or "x")
    return "/".join(parts) + (".png", ".jpg", ".JPG", ".webp")[int(rng.integers(4))]


def table_of(rng, folder):
    """[(name, captions)] of pictures, some of which are not there. Their files hold their names."""
    odd = float(rng.choice([0, 0.1, 0.4]))
    table, taken = [], set()
    for _ in range(int(rng.integers(1, 7))):
        name = name_of(rng, odd)
        keys = {unicodedata.normalize("NFC", name).strip().rpartition(".")[0].casefold()}
        if keys & taken or any(part in (".", "..") for part in name.split("/")):
            continue
        taken |= keys
        try:
            if rng.random() < 0.9:
                on_disk = folder / unicodedata.normalize(str(rng.choice(["NFC", "NFD"])), name)
                on_disk.parent.mkdir(parents=True, exist_ok=True)
                on_disk.write_text(name)
        except OSError:  # a file stands where a folder is wanted
            continue
        captions = [text_of(rng, 20, odd) for _ in range(int(rng.integers(1, 4)))]
        captions = [EMPTY[int(rng.integers(len(EMPTY)))] if rng.random() < 0.1 else text for text in captions]
        table.append((name, captions))
    return table


def wanted(table, folder):
    """{name: captions} of pictures that are there and said something of."""
    there = {unicodedata.normalize("NFC", file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file()}
    found = {}
    for name, captions in table:
        texts = [" ".join(text.split()) for text in captions if not is_nothing(text)]
        if texts and unicodedata.normalize("NFC", name) in there:
            found[name] = texts
    return found


# ---- how a table is written: (rng, folder, table) -> how it is opened


def pairs(table):
    return [(name, text) for name, captions in table for text in captions]


def as_csv(rng, folder, table):
    buffer = io.StringIO()
    separator, end = str(rng.choice(list(",;\t|"))), str(rng.choice(["\n", "\r\n"]))
    quoting = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)[int(rng.integers(3))]
    writer = csv.writer(buffer, delimiter=separator, quoting=quoting, lineterminator=end)
    more = rng.random() < 0.3
    writer.writerow([*(["", "id"] if more else []), *[("image", "caption"), ("File_Name", " Text ")][int(rng.integers(2))]])
    for n, row in enumerate(pairs(table)):
        writer.writerow([*([n, 7] if more else []), *row])
    mark = "\ufeff" if rng.random() < 0.3 else ""
    suffix = "tsv" if separator == "\t" else "csv"
    (folder / f"list.{suffix}").write_bytes((mark + buffer.getvalue()).encode("utf-8"))
    return lambda: Captions(path=folder, **SETTINGS)


def as_plain_tsv(rng, folder, table):
    for _, captions in table:  # a text that is in quotes from end to end may as well be quoted
        captions[:] = ["x" if text is not None and '"' in (text[:1], text[-1:]) else text for text in captions]
    rows = [f"{name}\t{'' if text is None else text}" for name, text in pairs(table)]
    if any(row.count("\t") != 1 or "\n" in row or "\r" in row for row in rows):  # such a file cannot say it
        rows = [f"{name}\tx" for name, _ in pairs(table)]
        table[:] = [(name, ["x"] * len(captions)) for name, captions in table if "\t" not in name]
        rows = [row for row in rows if row.count("\t") == 1]
    (folder / "list.tsv").write_bytes("\n".join(["image\tcaption", *rows]).encode("utf-8"))
    return lambda: Captions(path=folder, **SETTINGS)


def as_jsonl(rng, folder, table):
    ascii_only = rng.random() < 0.5
    lists = rng.random() < 0.5
    entries = [{"image": n, "captions": c} for n, c in table] if lists else [{" Image": n, "TEXT": t} for n, t in pairs(table)]
    lines = [json.dumps(entry, ensure_ascii=ascii_only) for entry in entries]
    (folder / "list.jsonl").write_bytes("\n".join(lines).encode("utf-8"))
    return lambda: Captions(path=folder, **SETTINGS)


def as_json(rng, folder, table):
    entries = [{"image": name, "captions": captions} for name, captions in table]
    form = int(rng.integers(3))
    dump(folder / "list.json", [entries, {"data": entries}, dict(table)][form])
    return lambda: Captions(path=folder, **SETTINGS)


def as_coco(rng, folder, table):
    images = [{"id": n, "file_name": name} for n, (name, _) in enumerate(table)]
    notes = [{"image_id": n, "caption": text} for n, (_, captions) in enumerate(table) for text in captions]
    dump(folder / "list.json", {"images": images, "annotations": notes})
    return lambda: CocoCaptions(annotations=folder / "list.json", images=folder, **SETTINGS)


def as_karpathy(rng, folder, table):
    images = []
    for n, (name, captions) in enumerate(table):
        head, _, tail = name.rpartition("/")
        entry = {"imgid": n, "filename": tail, "split": "train", "sentences": [{"raw": text} for text in captions]}
        images.append(entry | ({"filepath": head} if head else {}))
    dump(folder / "list.json", {"images": images})
    return lambda: CocoCaptions(annotations=folder / "list.json", images=folder, max_bad_fraction=1.0, val_fraction=0)


def as_tokens(rng, folder, table):
    rows = [f"{name}#{n}\t{'' if t is None else t}" for name, captions in table for n, t in enumerate(captions)]
    (folder / "list.token").write_bytes("\n".join(rows).encode("utf-8"))
    if any("\n" in row or "\r" in row for row in rows):  # such a file cannot say it
        (folder / "list.token").write_text("no such line\nnor this", "utf-8")
    return lambda: Flickr(path=folder, **SETTINGS)


def as_texts(rng, folder, table):
    for name, captions in table:
        text = folder / (name.rpartition(".")[0] + ".txt")
        for form in ("NFC", "NFD"):
            file = folder / unicodedata.normalize(form, name)
            text = file.with_suffix(".txt") if file.exists() else text
        text.parent.mkdir(parents=True, exist_ok=True)
        lines = ["x" if t is None or "\n" in t or "\r" in t or t[:1] == "\ufeff" else t for t in captions]
        text.write_bytes("\n".join(lines).encode("utf-8"))
        captions[:] = lines
    return lambda: Captions(path=folder, **SETTINGS)


def as_questions(rng, folder, table):
    entries = [{"image": n, "question": t, "answer": "none"} for n, t in pairs(table) if t is not None and t.strip()]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, entries)), "utf-8")
    for _, captions in table:
        captions[:] = [text for text in captions if text is not None and text.strip()]
    return lambda: Questions(path=folder, **SETTINGS)


def as_tar(rng, folder, table):
    with tarfile.open(folder / "list.tar", "w") as file:
        for n, (name, captions) in enumerate(table):
            for suffix, data in ((".png", name.encode()), (".json", json.dumps({"captions": captions}).encode())):
                info = tarfile.TarInfo(f"{n}{suffix}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return lambda: WebDataset(path=folder / "list.tar", **SETTINGS)


def as_parquet(rng, folder, table):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    made = pa.table({"image": [name.encode() for name, _ in table], "captions": [captions for _, captions in table]})
    pq.write_table(made, folder / "list.parquet", row_group_size=int(rng.integers(1, 4)))
    return lambda: Parquet(path=folder / "list.parquet", **SETTINGS)


WRITERS = (
    as_csv, as_plain_tsv, as_jsonl, as_json, as_coco, as_karpathy, as_tokens, as_texts, as_questions, as_tar, as_parquet,
)  # fmt: skip
WHOLE = (as_tar, as_parquet)  # they hold the pictures


def check(rng, folder, write):
    """Write a random table, read it, compare; returns whether it was read."""
    table = table_of(rng, folder)
    if not table:
        return False
    whole = {n: [" ".join(t.split()) for t in c if not is_nothing(t)] for n, c in table}
    expected = {name: texts for name, texts in whole.items() if texts} if write in WHOLE else None
    opened = write(rng, folder, table)
    if expected is None:
        expected = wanted(table, folder)
    try:
        source = opened()
    except UserError as error:
        assert str(error)
        return False
    found = {}
    for row in source._rows:
        own = source._read(row).decode()  # the name that its file holds
        texts = [q["question"] for q in row.extra["questions"]] if "questions" in row.extra else list(row.captions)
        found.setdefault(own, []).extend(" ".join(text.split()) for text in texts)
    if write is as_questions:  # what says nothing as a caption may be asked
        expected = {n: [" ".join(t.split()) for t in c] for n, c in table if c and (n in expected or n in found)}
    assert found == expected, table
    return True


@pytest.mark.parametrize("write", WRITERS)
def test_random_tables(tmp_path, write):
    many(tmp_path, write, 10)


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS)
def test_a_thousand_random_tables(tmp_path, write):
    many(tmp_path, write, 1000)


def many(tmp_path, write, count):
    seed, read = fresh_seed(), 0
    for number in range(count):
        print(f"XMODAL_TEST_SEED={seed}: table {number}")
        folder = tmp_path / "set"
        folder.mkdir()
        read += check(np.random.default_rng((seed, number)), folder, write)
        shutil.rmtree(folder)
    assert read >= count // 4, f"of {count} only {read} were read"
    assert not os.listdir(tmp_path)
