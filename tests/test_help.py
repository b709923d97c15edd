"""What --help prints: commands, arguments of configs and settings, on one screen, with exit status 0."""

import subprocess
import sys

import pytest

from xmodal_jax import COMMANDS, cli, guide
from xmodal_jax.config import config_files, explained, load_config
from xmodal_jax.errors import UserError

LINES = 60


def help_of(*arguments):
    """What a command prints; it must end well."""
    done = subprocess.run([sys.executable, "-m", *arguments, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_configs_are_listed_with_their_arguments():
    told = guide.to_choose()
    for name in config_files():
        known = explained(name, "debug")[1]
        line = told.split(f"{name}: ")[1].split("configs/")[0].split("main settings")[0]
        assert {part.strip() for part in line.split(",")} == set(known), name


def test_the_main_settings_are_settings():
    config = load_config("configs/caption.py", "debug")
    for name in guide.MAIN.replace("(bfloat16, float32)", "").split(","):
        section = config
        for part in name.strip().split("."):
            assert part in section, name
            section = section[part]


@pytest.mark.parametrize("name", sorted(config_files()))
def test_a_config_is_told_with_its_arguments_and_settings(name):
    told = guide.chosen(name, "debug")
    _, known, config = explained(name, "debug")
    assert all(f"{argument}={value}" in told.replace("\n    ", " ") for argument, value in known.items())
    assert "debug=True" in told and f"total_steps={config.total_steps}" in told and "learning_rate=" in told
    assert all(section in told for section in config) and len(told.splitlines()) < LINES - 15
    assert max(map(len, told.splitlines())) <= guide.WIDTH


def test_a_wrong_config_is_told_by_help_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["main", "--config=configs/none.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.run(None, "Use.")
    assert ended.value.code == 2 and "no config file" in capsys.readouterr().err
    with pytest.raises(UserError, match="methd"):
        guide.chosen("configs/caption.py", "methd=vae")


def test_help_of_training_with_a_config():
    told = help_of("xmodal_jax.main", "--config=configs/caption.py:vae,debug")
    assert (
        "method=vae" in told and "--workdir" in told and "train, evaluate, generate" in told and len(told.splitlines()) < LINES
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name):
    told = help_of(f"xmodal_jax.{COMMANDS[name][0]}")
    assert told == help_of("xmodal_jax", name)
    assert "flags:" in told and ", ".join(COMMANDS) in told and "configs/search.py: " in told and "total_steps" in told
    assert len(told.splitlines()) < LINES
