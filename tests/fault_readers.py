"""Faults of what reads a finished run: every command that does, failing reads, too little memory; the run stays as it is."""

import pathlib
import resource
import shutil
import signal
import urllib.request

from tests.fault_bench import SMALL, fault, free_port, is_paragraph, tree, waited_for
from xmodal_jax.train.alive import is_there

# Small runs of other systems: what only they offer is tried on them.
OTHERS = {
    "vqa": ["--config=configs/vqa.py:debug", "--config.model.hidden=16", "--config.model.fusion.width=16",
            "--config.evaluators.answering.count=4"],
    "caption": ["--config=configs/caption.py:debug", "--config.examples.length=10", "--config.evaluators.captioning.count=4"],
}  # fmt: skip
FEW = ["--config.total_steps=2", "--config.batch_size=4", "--config.data.count=24"]
NEW = ("evaluations/",)  # what a reader may add


def finished(bench, name):
    """The folder of a finished small run of another system; it is not to be changed."""
    folder = bench.place / name
    if not (folder / "results.json").exists():
        status, text = bench.finish(folder, settings=[*OTHERS[name], *FEW])
        assert status == 0, text[-2000:]
    return folder


def is_kept(folder, before):
    """Whether every file of a run is what it was, and none has come but where a reader writes."""
    return {name: data for name, data in tree(folder).items() if not name.startswith(NEW)} == before


def pictures(bench):
    """A folder of three pictures."""
    from PIL import Image

    place = bench.place / "photos"
    for number in range(3):
        place.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (80 * number, 90, 30)).save(place / f"{number}.png")
    return place


@fault("every command that reads a finished run", "the run is byte for byte what it was")
def readers(bench, tried):
    from xmodal_jax import api

    photos, aside = pictures(bench), bench.folder()
    asked, index = ["--question=what color is it?"], [f"--index={aside}"]
    first = f"--image={photos / '0.png'}"
    commands = [
        ("evaluate", None, []), ("evaluate", None, ["--split=test"]), ("generate", None, [f"--images={photos}"]),
        ("generate", None, [f"--images={photos}", *asked]), ("search", None, ["index", f"--photos={photos}", *index]),
        ("search", None, ["query", "a cat", f"--html={aside}.html", *index]),
        ("demo", None, [f"--photos={photos}", *index]),
        ("search", None, ["classify", f"--photos={photos}", "--labels=cat,dog", *index]),
        ("explain", "vqa", [first, *asked, f"--out={aside}.png"]),
        ("evaluate", "vqa", ["--split=test", f"--submission={aside}.json"]),
        ("generate", "caption", [f"--images={photos}", "--beams=2"]),
        ("export", "caption", ["--tower=decoder", f"--to={aside}-decoder"]),
    ]  # fmt: skip
    copies = {}
    for name, system, arguments in commands:
        if system not in copies:
            copies[system] = (
                bench.copy() if system is None else pathlib.Path(shutil.copytree(finished(bench, system), bench.folder()))
            )
        folder = copies[system]
        before = {name: data for name, data in tree(folder).items() if not name.startswith(NEW)}
        if name == "demo":
            status, text = served(bench, folder, arguments)
        else:
            status, text = bench.finish(folder, *arguments, module=f"xmodal_jax.{name}", settings=[])
        tried.add(status == 0 and is_kept(folder, before), name, text)
    folder = bench.copy()
    before = tree(folder)
    api.load(folder)
    tried.add(is_kept(folder, before), "api.load")


def served(bench, folder, arguments):
    """(0 where its page came and Ctrl-C ended it, what was printed) of the demo."""
    port = free_port()
    process = bench.start(folder, *arguments, f"--port={port}", module="xmodal_jax.demo", settings=[])
    waited_for(lambda: is_there(f"127.0.0.1:{port}"), process)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        right = b"<html" in page.read()
    process.send_signal(signal.SIGINT)
    return 0 if process.wait(60) in (0, -signal.SIGINT) and right else 1, process.log.read_text()


READING = "read,pread64,readv,preadv"
FAILING = {  # which files cannot be read, by which system calls
    "all files": ("*", READING),
    "the checkpoints": ("checkpoints/*/*", READING),
    "their arrays": ("checkpoints/*/state/*d/*", "pread64"),
    "what it learned from": ("model/*", READING),
}


def failing(folder, which):
    """The start of a command of which every read of some files gives EIO."""
    pattern, calls = FAILING[which]
    files = [str(path) for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).match(pattern)]
    places = [word for path in files for word in ("-P", path)]
    return ["strace", "-f", "-qq", "-o", f"{folder}.reads", *places, "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO"]


@fault("a reader or a start whose reads fail with EIO (injected by strace)", "one paragraph; every byte is what it was")
def unreadable(bench, tried):
    for which in FAILING:
        for name in ("evaluate", "main", "generate"):
            failing_read(bench, tried, name, which)


def failing_read(bench, tried, name, which):
    """A command, of a finished run or, `main`, of one that goes on, is told EIO by each read of some of its files."""
    folder, more, settings = opened(bench, name)
    before = tree(folder)
    status, text = bench.finish(folder, *more, module=f"xmodal_jax.{name}", settings=settings, before=failing(folder, which))
    injected = pathlib.Path(f"{folder}.reads").read_text().count("INJECTED")
    told, kept = is_paragraph(status, text, "cannot be|[Ii]nput/output error"), is_unchanged(name, folder, before)
    tried.add(injected and told and kept, f"{name}, {which}", f"{injected=} {told=} {kept=} {status}: {text}")


def opened(bench, name):
    """(folder, arguments, settings) of a command that reads a finished run, or that goes on with one, `main`."""
    if name == "main":
        return bench.cut(), [], SMALL
    return bench.copy(), [f"--images={pictures(bench)}"] if name == "generate" else [], []


def is_unchanged(name, folder, before):
    """Whether nothing of a run changed; of one that goes on, no checkpoint, figure or what it learned from."""
    if name != "main":
        return is_kept(folder, before)
    after, needed = tree(folder), ("checkpoints/", "model/", "metrics")
    return all(after.get(name) == data for name, data in before.items() if name.startswith(needed))


@fault("too little memory (RLIMIT_AS) for a start and for readers", "a paragraph or a native end; nothing of the run changes")
def memory(bench, tried):
    for size in (2.0, 1.2, 0.9):
        for name in ("main", "evaluate", "generate"):
            folder, more, settings = opened(bench, name)
            before, limits = tree(folder), [(resource.RLIMIT_AS, int(size * 2**30))]
            status, text = bench.finish(folder, *more, module=f"xmodal_jax.{name}", settings=settings, limits=limits)
            ending = "a paragraph" if is_paragraph(status, text, "memory|cannot be read now") else f"status {status}"
            tried.add(is_unchanged(name, folder, before), f"{name}, {ending}", text)
