"""A machine that has no cluster's commands, for the tests of all launch scripts."""

import re
import shutil
import subprocess

import pytest

TOOLS = "bash cat date dirname env gzip mkdir mktemp rm sed sleep tar touch".split()  # all that the scripts need of a machine
RECORD = 'printf "%s\\0" "$0" "$@" >> "$calls"; printf "\\n" >> "$calls"; '


@pytest.fixture
def machine(tmp_path):
    """A machine without gcloud, kubectl or Slurm: run(script, *arguments, **stubs), where a stub is a command's bash text."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()

    def add(name, script):  # plain files, never links to the machine's own tools: a stub may replace one
        place = tmp_path / "bin" / name
        place.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        place.chmod(0o755)

    for tool in TOOLS:
        add(tool, f'exec {shutil.which(tool)} "$@"')

    def run(*command, text=None, status=0, env=(), **stubs):
        for name, script in stubs.items():
            add(name, f"calls={tmp_path}/calls\n{script}")
        done = subprocess.run(
            [str(part) for part in command], input=text, capture_output=True, text=True, timeout=60, cwd=tmp_path / "home",
            env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), **dict(env)},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    def recorded():
        """What the stubs that begin with `run.record` were called with since the last call; the archive without its folder."""
        calls = run.calls.read_text()
        run.calls.unlink()
        return re.sub(r"[^\s\0]*/(?=xmodal_jax.tar.gz\0)", "", calls)

    run.home, run.calls, run.record, run.recorded = tmp_path / "home", tmp_path / "calls", RECORD, recorded
    return run
