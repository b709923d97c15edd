"""A user's mistake ends in one paragraph that says what is wrong, where, and what would be right."""

import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from PIL import Image

from xmodal_jax import cli
from xmodal_jax.__main__ import COMMANDS
from xmodal_jax.__main__ import main as one_command
from xmodal_jax.config import load_config
from xmodal_jax.errors import UserError
from xmodal_jax.files import replace_text
from xmodal_jax.systems import recipe
from xmodal_jax.train.workdir import run_config, write_config

ROOT = pathlib.Path(__file__).parents[1]
PRETRAIN = ROOT / "configs" / "pretrain.py"


def command(*arguments, module="xmodal_jax.main", timeout=300):
    """(exit status, stderr) of a real run of the command."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, done.stderr


def explained(config, *overrides):
    """What the command line would print for the mistakes that show while the parts of a run are made."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", lock_config=True, flag_values=values)
    with pytest.raises(Exception) as caught:  # whatever it is, it must be explained
        arguments = ["test", f"--config={config}", *(f"--config.{override}" for override in overrides)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", arguments)  # where ml_collections looks for overrides
            values(arguments)
        recipe.make(values.config)
    paragraph = cli.explain(caught.value)
    assert paragraph is not None, f"not explained: {caught.value!r}"
    assert "\n" not in paragraph and "Traceback" not in paragraph
    return paragraph


@pytest.fixture
def folder(tmp_path):
    """Three pictures with captions."""
    rows = [{"image": f"{i}.png", "captions": ["a dog"], "split": split} for i, split in enumerate(("train", "train", "val"))]
    for row in rows:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / row["image"])
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_an_unknown_config_key_is_told_with_the_nearest():
    for override, nearest in (
        ("optimizer.lerning_rate=0.1", "learning_rate"),
        ("modle.width=8", "model"),
        ("total_step=8", "total_steps"),
    ):
        paragraph = explained(f"{PRETRAIN}:debug", override)
        assert "Unknown config key" in paragraph and f'Did you mean "{nearest}"' in paragraph


def test_an_unknown_config_key_like_no_other_is_told():
    assert "zebra" in explained(f"{PRETRAIN}:debug", "zebra=8")
    assert "zebra" in explained(f"{PRETRAIN}:debug", "data.zebra=8")


def test_an_unknown_config_argument_or_choice_is_told_with_the_nearest():
    assert "did you mean 'variant'?" in explained(f"{PRETRAIN}:varant=none")
    assert "did you mean 'third'?" in explained(f"{PRETRAIN}:variant=thrid")
    assert "did you mean 'captions'?" in explained(f"{PRETRAIN}:data=caption")
    assert "must be of type int" in explained(f"{PRETRAIN}:image_size=large")


def test_a_missing_config_file_is_named(tmp_path):
    assert "missing.py" in explained(tmp_path / "missing.py")


def test_missing_and_empty_folders_are_named(tmp_path):
    assert f"{tmp_path}/none: there is no such folder" in explained(f"{PRETRAIN}:captions,path={tmp_path}/none")
    paragraph = explained(f"{PRETRAIN}:captions,path={tmp_path}")
    assert f"{tmp_path}: the folder is empty" in paragraph and "captions" in paragraph
    assert "needs path" in explained(f"{PRETRAIN}:captions")


def test_a_line_that_is_no_json_is_named_with_file_and_line(folder):
    with open(folder / "captions.jsonl", "a", encoding="utf-8") as file:
        file.write('{"image": "3.png", captions: }\n')
    paragraph = explained(f"{PRETRAIN}:captions,path={folder}")
    assert f"{folder}/captions.jsonl:4: this line is not JSON" in paragraph and '"captions": ["a dog runs"]' in paragraph


def test_too_many_missing_or_undecodable_pictures_are_named(folder):
    rows = [json.dumps({"image": f"x{i}.png", "captions": ["a cat"], "split": "train"}) + "\n" for i in range(4)]
    with open(folder / "captions.jsonl", "a", encoding="utf-8") as file:
        file.writelines(rows)
    paragraph = explained(f"{PRETRAIN}:captions,path={folder}")
    assert "4 of 6 examples" in paragraph and "x0.png" in paragraph and "max_bad_fraction" in paragraph
    for i in range(4):
        (folder / f"x{i}.png").write_bytes(b"\x89PNG but no more")
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    values(["test", f"--config={PRETRAIN}:captions,debug,path={folder}"])
    batches = recipe.make(values.config).batches
    with pytest.raises(UserError, match="cannot be decoded") as caught:
        for step in range(10):
            batches[step]
    assert str(folder / "x") in cli.explain(caught.value)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        run_config(str(tmp_path))


def test_a_full_disk_is_explained_and_what_it_leaves():
    for error in (
        OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ValueError("RESOURCE_EXHAUSTED: writing to runs/x: No space left on device [more]\nstack"),
    ):
        paragraph = cli.explain(error)
        assert paragraph.startswith("No space is left on the disk") and "--workdir" in paragraph and "\n" not in paragraph


def test_ctrl_c_before_a_run_begins_is_no_traceback(monkeypatch, capsys):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    ended = []
    monkeypatch.setattr(cli.app, "run", interrupted)
    monkeypatch.setattr(cli.malloc, "restart", lambda: None)
    monkeypatch.setattr(cli.stopping, "end_by", ended.append)
    monkeypatch.setattr("sys.argv", ["main"])
    cli.run(lambda: None, "usage")
    assert ended == [signal.SIGINT] and capsys.readouterr().err == "\nStopped by Ctrl-C.\n"


def test_our_own_errors_are_not_explained_away():
    for error in (ValueError("no"), KeyError("name"), AttributeError("x"), OSError(errno.EACCES, "no")):
        assert cli.explain(error) is None


def test_places_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "below.txt", tmp_path / ("long" * 99)):
        with pytest.raises(OSError) as found:
            replace_text(place, "text")
        assert re.match(rf"{re.escape(str(tmp_path))}.*: this place cannot be used \(.+\)\.$", cli.explain(found.value))


def test_a_config_that_is_no_program_is_told_with_its_line(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return )\n")
    with pytest.raises(SyntaxError) as found:
        load_config(str(tmp_path / "mine.py"), "")
    assert cli.explain(found.value) == "The config file cannot be loaded: unmatched ')' (mine.py, line 2)."


def test_names_of_settings_with_odd_characters():
    with pytest.raises(UserError, match="--config.batch-size=2: the names of settings are of letters"):
        cli.parse(["main", "--config.batch-size=2"])


def test_what_a_signal_broke_off_does_not_outlast_the_process(monkeypatch):
    """A command that was stopped ends with status 0, whatever its threads and processes are at; not so one that is done."""
    code = (
        "import atexit, multiprocessing, time; from xmodal_jax import stopping; atexit.register(print, 'at exit'); "
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,)); child.start(); print(child.pid); "
        "stopping.leave()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(done.stdout), 0)
            time.sleep(0.05)

    left = []
    monkeypatch.setattr(cli.app, "run", lambda start, **settings: start(["main"]))
    monkeypatch.setattr(cli.malloc, "restart", lambda: None)
    monkeypatch.setattr(cli.stopping, "leave", lambda: left.append("left"))
    for name in ("join_processes", "leave_others"):
        monkeypatch.setattr(cli, name, lambda *_: None)
    monkeypatch.setattr("sys.argv", ["main"])
    cli.run(lambda: None, "usage")
    assert left == []
    cli.run(lambda: cli.stopping.BROKEN_OFF, "usage")
    assert left == ["left"]


def test_of_a_failed_write_the_error_alone_is_told():
    seen = []
    for message in ("Event loop is closed", "anything else"):
        cli.unraisable(seen.append, types.SimpleNamespace(exc_value=RuntimeError(message)))
    assert [str(one.exc_value) for one in seen] == ["anything else"]


def told(status, stderr):
    """The paragraph of a command that ended as a user's mistake should, unwrapped."""
    assert status not in (0, None), stderr
    assert "Traceback" not in stderr, stderr
    at = stderr.index("Error: ")
    assert at == 0 or stderr[at - 1] == "\n"
    paragraph = stderr[at:].strip()
    assert "\n\n" not in paragraph and max(map(len, paragraph.splitlines())) < 400
    return " ".join(paragraph.split())


def test_no_config_at_all():
    assert "--config=configs/pretrain.py" in told(*command("train", module="xmodal_jax"))


def test_an_argument_that_is_no_setting():
    paragraph = told(*command(f"--config={PRETRAIN}:debug", "total_steps=3"))
    assert "Unknown argument 'total_steps=3'" in paragraph and "--config.NAME=VALUE" in paragraph


def test_the_folder_of_another_config(tmp_path):
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    values(["test", f"--config={PRETRAIN}:debug"])
    write_config(values.config, str(tmp_path))
    paragraph = told(*command(f"--config={PRETRAIN}:debug", f"--workdir={tmp_path}", "--config.seed=7"))
    assert "holds a run of another config (" in paragraph and "seed: 0 there, 7 now)" in paragraph


@pytest.mark.parametrize("form", [lambda file: [f"--config={file}"], lambda file: ["--config", file]])
def test_a_config_file_that_is_not_here_is_the_one_of_the_library(form, tmp_path, monkeypatch):
    ours, more = str(PRETRAIN), ["--config.seed=3"]
    monkeypatch.chdir(tmp_path)
    for file, found in (("configs/pretrain.py", ours), ("./configs/pretrain.py:debug,lang=ko", f"{ours}:debug,lang=ko")):
        assert cli.with_config(["x", *form(file), *more]) == ["x", *form(found), *more]
    for file in ("pretrain.py", "configs/none.py:debug", "other/configs/pretrain.py", ""):
        with pytest.raises(
            UserError, match="configs/caption.py, configs/compress.py, configs/pretrain.py, configs/search.py, configs/vqa.py"
        ):
            cli.with_config(["x", *form(file), *more])


def test_a_config_file_that_is_here_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "pretrain.py").write_text('def get_config(arg=""):\n    return "mine" + arg\n')
    found = cli.with_config(["x", "--config=configs/pretrain.py:debug", "--config=configs/vqa.py"])
    assert found == ["x", "--config=configs/pretrain.py:debug", f"--config={ROOT / 'configs' / 'vqa.py'}"]
    assert load_config("configs/pretrain.py", "!") == "mine!"
    assert load_config("configs/vqa.py", "debug").seed == 0


def test_a_default_config_is_taken_where_none_is_given():
    more = ["--config.seed=3", "--configs=x"]
    assert cli.with_config(["x", *more], str(PRETRAIN)) == ["x", f"--config={PRETRAIN}", *more]
    assert cli.with_config(["x", *more]) == ["x", *more]
    given = ["x", *more, "--config", str(PRETRAIN)]
    assert cli.with_config(given, "none.py") == given


def test_one_command_offers_all_entry_points(capsys, monkeypatch):
    entries = {file.stem for file in (ROOT / "xmodal_jax").glob("*.py") if "    cli.run(main" in file.read_text("utf-8")}
    assert entries == {module for module, _ in COMMANDS.values()} and "main" in entries
    code = "import sys; from xmodal_jax.__main__ import main; main(); assert not {'jax', 'absl'} & set(sys.modules)"
    without, asked = (
        subprocess.run([sys.executable, "-c", code, *more], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for more in ([], ["--help"])
    )
    assert without == asked
    for name, (_, line) in COMMANDS.items():
        assert f"\n  {name:10} {line}\n" in asked

    monkeypatch.setattr(sys, "argv", ["xmodal", "evalute", "--help"])
    with pytest.raises(SystemExit) as ended:
        one_command()
    assert "Unknown command 'evalute': did you mean 'evaluate'?" in told(ended.value.code, capsys.readouterr().err)


def test_the_one_command_is_the_entry_point():
    ours, entry = (
        subprocess.run([sys.executable, "-m", *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
        for words in (["xmodal_jax", "evaluate"], ["xmodal_jax.evaluate"])
    )
    assert (ours.stdout, ours.returncode) == (entry.stdout, entry.returncode) and entry.returncode == 0
    assert "Evaluate a checkpoint" in ours.stdout and "--submission" in ours.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--config=configs/none.py"], "configs/none.py"),
        (["--config=configs/pretrain.py:varant=none"], "did you mean 'variant'?"),
        (["--config=configs/pretrain.py:debug", "--config.modle.width=8"], "model"),
        (["--config=configs/pretrain.py:debug", "--confg.seed=8"], "config"),
        (["--config=configs/pretrain.py:debug", "--config.seed=many"], "seed"),
    ],
)
def test_mistakes_in_the_flags_themselves(arguments, part):
    assert part in told(*command(*arguments))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte, where one may make such."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_run(small_disk):
    paragraph = told(*command(f"--config={PRETRAIN}:debug", f"--workdir={small_disk}/run"))
    assert "No space is left on the disk" in paragraph and "What was saved before is kept" in paragraph


def test_home_in_the_values_of_flags(monkeypatch):
    own = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=own)
    flags.DEFINE_string("question", None, "", flag_values=own)
    flags.DEFINE_list("beside", [], "", flag_values=own)
    own(["x", "--workdir=~/runs/a b", "--question=~ what?", "--beside=~/a,b~"])
    monkeypatch.setattr(cli.flags, "FLAGS", own)
    monkeypatch.setenv("HOME", "/h")
    cli.expand_home()
    assert (own.workdir, own.question, own.beside) == ("/h/runs/a b", "~ what?", ["/h/a", "b~"])


@pytest.mark.parametrize(
    ("given", "key", "told"),
    [
        ([f"--config={PRETRAIN}:debug", "--config.optimizer.lerning_rate=1"], "optimizer.lerning_rate", "learning_rate"),
        (["--config", f"{PRETRAIN}:debug", "--config.optimizer.lr=1"], "optimizer.lr", "Valid: .*weight_decay"),
        ([f"--config={PRETRAIN}:debug", "--config.seed=1", "--config.data.coun=1"], "data.coun", "count"),
        (["--config=configs/caption.py:debug", "-config.objectives.kl.wieght", "3"], "objectives.kl.wieght", "weight"),
        (["--config=configs/caption.py:debug", "--config.evaluators.captioning.cout=1"], "evaluators.captioning.cout", "count"),
    ],
)
def test_an_unknown_key_is_told_with_its_section(given, key, told, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main", *given])
    assert re.search(f"^Unknown config key '{re.escape(key)}'.*{told}", cli.unknown_key())


def test_no_key_is_told_where_all_are_known(monkeypatch):
    for given in (["--workdir=x"], [f"--config={PRETRAIN}:debug", "--config.seed=1", "--config.optimizer.learning_rate=1"]):
        monkeypatch.setattr(sys, "argv", ["main", *given])
        assert cli.unknown_key() is None
