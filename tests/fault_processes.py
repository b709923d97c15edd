"""Faults of one of several processes: it is killed, stopped or fails, at restore, in the loop or while it saves."""

import itertools
import pathlib
import shutil
import subprocess
import sys
import time

from tests.fault_bench import BOUND, fault, figures, free_port, is_paragraph, waited_for

MOMENTS, HOWS = ("restore", "loop", "save"), ("killed", "stopped", "failing")
LIMIT = 4 * BOUND  # seconds after which one that hangs is ended


def start_together(bench, count, folder, victim=None, moment="", how=""):
    """[Popen] of the processes of a run; `victim` is lost, and `FOLDER.lost` is there from then on."""
    address = f"127.0.0.1:{free_port()}"
    started = []
    for index in range(count):
        env = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(index)}
        module = "xmodal_jax.main"
        if index == victim:
            module, env["XMODAL_FAULT"] = "tests.fault_member", f"{moment} {how} {folder}.lost"
        started.append(bench.start(f"{folder}-{index}", f"--workdir={folder}", module=module, env=env))
    return started


def undisturbed(bench, count):
    """The folder of a run of `count` processes that nobody disturbs."""
    folder = bench.place / f"whole-{count}"
    if not (folder / "results.json").exists():
        running = start_together(bench, count, folder)
        codes = [process.wait(1200) for process in running]
        assert not any(codes), f"{codes}: {running[0].log.read_text()[-2000:]}"
    return folder


def begun(bench, count):
    """A copy of a run of `count` processes as it was at step 6."""
    place = bench.place / f"begun-{count}"
    if not place.exists():
        running = start_together(bench, count, place)
        waited_for(lambda: (place / "checkpoints" / "6").is_dir(), running[0])
        for process in running:
            process.kill()
            process.wait()
        shutil.rmtree(place / "checkpoints" / "9", ignore_errors=True)
    return pathlib.Path(shutil.copytree(place, bench.folder()))


def lost(bench, tried, count, victim, moment, how):
    """The others end by a paragraph that names the lost one, within BOUND; the same command goes on exactly."""
    whole = undisturbed(bench, count)
    folder = begun(bench, count) if moment == "restore" else bench.folder()
    running = start_together(bench, count, folder, victim, moment, how)
    waited_for(pathlib.Path(f"{folder}.lost").exists, running[victim])
    begin, ended = time.monotonic(), {}
    for index, process in enumerate(running):
        if index == victim and how == "stopped":
            continue
        try:
            status = process.wait(max(1, begin + LIMIT - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = None
            process.kill()
        ended[index] = status, process.log.read_text(errors="replace")
    seconds = time.monotonic() - begin
    running[victim].kill()
    running[victim].wait()
    words = {"failing": f"[Pp]rocess {victim}( of {count} of this run ended by an error)?:.*Input/output error"}
    named = words.get(how, rf"Process {victim} of {count} of this run(, which the others meet at,)? was lost")
    told = all(is_paragraph(status, text, named) for index, (status, text) in ended.items() if index != victim)
    if how == "failing":
        told = told and is_paragraph(*ended[victim], "Input/output error")
    codes = [process.wait(1200) for process in start_together(bench, count, folder)]
    exact = not any(codes) and figures(folder) == figures(whole)
    seen = "\n".join(f"--- {index}: {status}: {text[-1500:]}" for index, (status, text) in ended.items())
    what = f"{count} processes, {victim} {how}, {moment}: the others ended after {seconds:.1f} s, {told=}, {codes}, {exact=}"
    print(what, file=sys.stderr, flush=True)
    tried.add(told and seconds <= BOUND and exact, f"{how} ({moment})", f"{what}\n{seen}")
    tried.longest = max(getattr(tried, "longest", 0), seconds)


TITLE = "one of {} processes killed, stopped or failing, at restore, in the loop, while saving"
EXPECTED = f"the others end by a paragraph that names it, within {BOUND} s; the same command goes on exactly"


@fault(TITLE.format(2), EXPECTED)
def processes(bench, tried):
    every(bench, tried, 2)


@fault(TITLE.format(4), EXPECTED)
def processes4(bench, tried):
    every(bench, tried, 4)


def every(bench, tried, count):
    """Of two processes either is lost, of more the first and the last by turns; with --quick of two too."""
    for number, (turn, place) in enumerate(itertools.product(range(3), range(3))):
        moment, how = MOMENTS[place], HOWS[(place + turn) % 3]  # the first three are already of every kind
        by_turns = count > 2 or bench.options.quick
        for victim in ((number % 2) * (count - 1),) if by_turns else (0, count - 1):
            lost(bench, tried, count, victim, moment, how)
    tried.notes[f"the longest {tried.longest:.0f} s"] += 0
