"""What a run withstands, tried: every fault is injected into small runs on this machine; a table says how often it went right.

    python -m tests.faults [--quick] [--kills=N] [--flips=N] [--seed=N] [--keep=FOLDER] [NAME ...]

NAME: of FAULTS; default: all. --quick: 10 kills, 60 flips (else 100 and 500). It prints the table of docs/reliability.md.
Not a test of the suite: minutes to an hour. What should be exact is compared number by number with a run that nobody disturbed.
"""

import argparse
import itertools
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time

from tests.fault_bench import (
    FAULTS,
    ROOT,
    STEPS,
    Bench,
    Tried,
    fault,
    figures,
    is_paragraph,
    step_of,
    waited_for,
)  # fmt: skip


@fault("SIGKILL at random moments, from start-up to the report", "the next start goes on; all losses and results exact")
def kills(bench, tried):
    bench.whole  # noqa: B018
    while tried.tried < bench.options.kills:
        folder, since, status = bench.folder(), 0, None
        for kind in KILLED:
            process, since_start = bench.start(folder, command=kind in COMMANDED), len(log_of(folder))
            if process_lost(bench, process, kind, folder, since_start):
                since += 1
                tried.notes[kind] += 1
            else:
                status = process.returncode  # it was done before its moment came
                break
        text = ""
        if status is None:
            status, text = bench.finish(folder)
        exact = status == 0 and bench.is_exact(folder)
        for _ in range(since):
            tried.add(exact, "exact" if exact else "not exact", text or log_of(folder))


# One run is killed at each of them in turn: a part of its log or of its folder is awaited, then some seconds at most go by.
KILLED = {
    "starting": (lambda folder, said: True, lambda seconds: seconds / 2),
    "writing a checkpoint": (lambda folder, said: any(folder.glob("checkpoints/*.orbax-checkpoint-tmp*")), lambda _: 0.15),
    "evaluating": (lambda folder, said: "step  5/" in said, lambda _: 1.5),
    "at any moment": (lambda folder, said: True, lambda seconds: seconds),
    "after the last step": (lambda folder, said: "step 12/" in said, lambda seconds: seconds / 5),
}
COMMANDED = ("starting", "at any moment")  # by `xmodal train`, the others by `python -m xmodal_jax.main`


def process_lost(bench, process, kind, folder, skip):
    """Whether a process was killed at a moment of this kind; not where it ended before."""
    is_there, longest = KILLED[kind]
    while not is_there(folder, log_of(folder)[skip:]) and process.poll() is None:
        time.sleep(0.02)
    end = time.monotonic() + bench.draw.uniform(0, longest(bench.seconds))
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    return process.wait() == -signal.SIGKILL


def log_of(folder):
    log = pathlib.Path(f"{folder}.log")
    return log.read_text(errors="replace") if log.exists() else ""


def damaged(bench, tried, change, count):
    """Change one file of the newest checkpoint, restore, compare with what was saved; then undo it."""
    import jax

    from xmodal_jax.errors import UserError
    from xmodal_jax.train import checkpoints
    from xmodal_jax.train import mesh as layout

    run = bench.cut()
    place = jax.sharding.NamedSharding(layout.make_mesh({}), jax.sharding.PartitionSpec())
    newest = run / "checkpoints" / "9"
    held = checkpoints.written(checkpoints.epath.Path(newest / "state"), checkpoints.ocp.PyTreeCheckpointHandler())
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), held)
    saved = {step: jax.device_get(checkpoints.read(run / "checkpoints", target, step)) for step in (6, 9)}
    files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    for number in range(count):
        path = files[number % len(files)] if number < len(files) else bench.draw.choices(files, sizes)[0]
        whole = path.read_bytes()
        path.write_bytes(change(whole, bench.draw))
        step = None if number % FALLEN_BACK == 0 else 9  # of a damaged one that is asked for there is no other to take
        try:
            state, meta = jax.device_get(checkpoints.read(run / "checkpoints", target, step))
            same = jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), state, saved[meta["next_step"]][0]))
            tried.add(same, {9: "harmless", 6: "detected"}[meta["next_step"]] if same else "silent", str(path))
        except UserError as error:
            tried.add("it is damaged" in str(error), "detected" if "it is damaged" in str(error) else "other", str(error))
        path.write_bytes(whole)


FALLEN_BACK = 10  # of so many reads one goes back to the checkpoint before


def flipped(data, draw):
    bit = draw.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@fault("one flipped bit in a file of the newest checkpoint", "detected, or harmless; what is restored is exact")
def flips(bench, tried):
    damaged(bench, tried, flipped, bench.options.flips)


@fault("a file of the newest checkpoint cut short or emptied", "detected, or harmless; what is restored is exact")
def cuts(bench, tried):
    damaged(bench, tried, lambda data, draw: data[: draw.choice((0, draw.randrange(len(data))))], bench.options.flips // 4)


@fault("damage found when a run goes on, twice of the same step", "set aside under a new name, the one before taken, exact")
def damage(bench, tried):
    folder = bench.cut()
    for name in ("broken-9", "broken-9-2"):
        again = bench.cut()
        if name != "broken-9":
            shutil.rmtree(folder / "checkpoints")
            shutil.copytree(again / "checkpoints", folder / "checkpoints")
        largest = max((folder / "checkpoints" / "9").rglob("d/*"), key=lambda path: path.stat().st_size)
        largest.write_bytes(flipped(largest.read_bytes(), bench.draw))
        status, text = bench.finish(folder)
        tried.add(status == 0 and (folder / name).is_dir() and bench.is_exact(folder), "exact", text)


@fault("all checkpoints damaged", "a paragraph; nothing begins anew beside broken-*, however often it is started")
def all_damaged(bench, tried):
    folder = bench.cut()
    for path in (folder / "checkpoints").rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    for _ in range(2):
        before = (folder / "metrics.jsonl").read_bytes()
        status, text = bench.finish(folder)
        told = is_paragraph(status, text, "are damaged; they are kept as broken-.*broken-9. Nothing was begun anew")
        tried.add(told and (folder / "metrics.jsonl").read_bytes() == before, "refused", text)


def signalled(bench, tried, number):
    for word, told in list(MOMENTS.items())[:: 2 if bench.options.quick else 1]:
        folder = bench.folder()
        process = bench.start(folder)
        waited_for(lambda: word in log_of(folder), process)  # noqa: B023
        process.send_signal(number)
        begin, status = time.monotonic(), process.wait(120)
        text, seconds = process.log.read_text(), time.monotonic() - begin
        saved = max((int(name) for name in os.listdir(folder / "checkpoints") if name.isdigit()), default=0)
        right = status == 0 and "Traceback" not in text and (f"stopped at step {saved}" in text or step_of(folder) == STEPS)
        status, more = bench.finish(folder)
        tried.add(right and status == 0 and bench.is_exact(folder), told, text + more)
        tried.notes[f"ended after {seconds:.0f} s at most"] += 0


MOMENTS = {
    "step  4/": "in the loop",
    "total  ": "while compiling",
    "evaluation at step 6": "after an evaluation",
    "step 12/": "late",
}


@fault("SIGTERM while compiling, in the loop, after an evaluation, late", "saved, status 0; goes on exactly")
def sigterm(bench, tried):
    signalled(bench, tried, signal.SIGTERM)


@fault("Ctrl-C at the same moments", "the same")
def ctrl_c(bench, tried):
    signalled(bench, tried, signal.SIGINT)


@fault("a second command on the folder of a living run", "refused by a paragraph that names the first; the first is exact")
def second(bench, tried):
    folder = bench.folder()
    first = bench.start(folder)
    waited_for(lambda: step_of(folder) >= 1, first)
    first.send_signal(signal.SIGSTOP)
    other = pathlib.Path(f"{folder}-link")
    other.symlink_to(folder)
    status, text = bench.finish(other)
    first.send_signal(signal.SIGCONT)
    tried.add(is_paragraph(status, text, rf"is in use: process {first.pid} on"), "refused", text)
    tried.add(first.wait(300) == 0 and bench.is_exact(folder), "the first one")


@fault("workdir a file, below a file, read-only; config.json empty, [], cut short", "one paragraph, status 2")
def folders(bench, tried):
    file = bench.folder()
    file.write_text("")
    for place, words in ((file, "is a file"), (file / "run", "cannot be used"), ("/proc/run", "cannot be used")):
        status, text = at(bench, place)
        tried.add(is_paragraph(status, text, words), words, text)
    for broken in ("", "[]", '{"model": '):
        folder = bench.cut()
        (folder / "config.json").write_text(broken)
        status, text = bench.finish(folder)
        tried.add(is_paragraph(status, text, "config.json is not what a run writes there"), "config.json", text)


def at(bench, place):
    """(status, text) of a start in a place that can hold no log beside it."""
    log = bench.folder()
    process = bench.start(log, f"--workdir={place}")  # the last --workdir counts
    return process.wait(300), process.log.read_text()


@fault("a file may not grow (RLIMIT_FSIZE 64 KiB), as on a full disk", "one paragraph; goes on exactly once it may")
def no_space(bench, tried):
    folder = bench.folder()
    status, text = bench.finish(folder, limits=[(resource.RLIMIT_FSIZE, 64 * 1024)])
    tried.add(is_paragraph(status, text, "No space is left|cannot"), "told", text)
    status, text = bench.finish(folder)
    tried.add(status == 0 and bench.is_exact(folder), "goes on", text)


@fault("metrics.jsonl with bytes that are no text, a line `5`, and missing", "said, kept aside; the run goes on exactly")
def metrics(bench, tried):
    folder = bench.cut()
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'5\n{"step": \xff}\n')
    status, text = bench.finish(folder)
    kept = (folder / "metrics.unreadable").exists() and "cannot be read" in text
    tried.add(status == 0 and kept and bench.is_exact(folder), "bad lines", text)
    folder = bench.cut()
    os.remove(folder / "metrics.jsonl")
    status, text = bench.finish(folder)
    same = figures(folder)[2] == figures(bench.whole)[2]
    tried.add(status == 0 and "metrics.jsonl is missing" in text and same, "missing", text)


@fault("a worker process of the loader killed, and stopped", "a paragraph; the log names the worker")
def loader(bench, tried):
    for number in (signal.SIGKILL, signal.SIGSTOP):
        folder = bench.folder()
        more = ["--config.loader.workers=1", "--config.loader.patience=3", "--config.total_steps=100000"]
        process = bench.start(folder, *more, "--config.eval_every=0", "--config.checkpoint_every=100000")
        waited_for(lambda: step_of(folder) >= 2, process)  # noqa: B023
        worker = worker_of(process.pid)
        os.kill(worker, number)
        if number == signal.SIGKILL:
            status = process.wait(120)
            text = process.log.read_text()
            tried.add(is_paragraph(status, text, "worker process of the loader was lost"), "killed", text)
            continue
        named = f"process {worker}: stopped by a signal"
        try:
            waited_for(lambda: named in log_of(folder), process, 120)  # noqa: B023
            tried.add(True, "stopped")
        except AssertionError as error:
            tried.add(False, "stopped", str(error))
        os.kill(worker, signal.SIGKILL)
        process.kill()
        process.wait()


def worker_of(pid):
    """The child of a process that makes its batches."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    for child in itertools.chain.from_iterable(task.read_text().split() for task in tasks):
        if b"spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError(f"process {pid} has no worker")


@fault("the loss not finite at the first step", "a paragraph: step 1, its examples, and that there is no checkpoint yet")
def not_finite(bench, tried):
    folder = bench.folder()
    status, text = bench.finish(
        folder, "--config.optimizer.learning_rate=1e38", "--config.optimizer.clip=0.0", "--config.optimizer.warmup=0.0"
    )
    words = ("not finite at step [12];", "there is no checkpoint in .* yet", "scenes/train/")
    tried.add(is_paragraph(status, text, *words), "told", text)


def main(argv):
    from tests import fault_processes, fault_readers  # noqa: F401 - they add to FAULTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--flips", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="folder in which the runs are left")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    options.kills = options.kills or (10 if options.quick else 100)
    options.flips = options.flips or (60 if options.quick else 500)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # what is small takes far longer to compile than to run
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as place:
        bench, rows = Bench(options.keep or place, options), []
        bench.place.mkdir(parents=True, exist_ok=True)
        for name in options.names or FAULTS:
            title, expected, function = FAULTS[name]
            tried, begin = Tried(), time.monotonic()
            try:
                function(bench, tried)
            except Exception as error:  # the table is worth having without it
                tried.add(False, f"{type(error).__name__}", str(error))
            bench.close()
            notes = ", ".join(f"{note}: {count}" if count else note for note, count in tried.notes.items())
            rows.append(f"| `{name}` | {title} | {expected} | {tried.right} of {tried.tried} | {notes} |")
            print(f"{rows[-1]} {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    print("| name | fault | what should be | right | |\n| --- | --- | --- | --- | --- |", *rows, sep="\n")
    return all(row.split("|")[4].split()[0] == row.split("|")[4].split()[2] for row in rows)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
