"""The wheel, installed: its contents, and a run from a folder that knows nothing of the checkout."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def done(*command, **more):
    """The finished process of a command, which must succeed, without a PYTHONPATH to the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False, **more)
    assert process.returncode == 0, process.stdout + process.stderr
    return process


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that the source distribution of a clean copy of the checkout gives."""
    pytest.importorskip("setuptools", minversion="77")
    place = tmp_path_factory.mktemp("wheel")
    for name in ("xmodal_jax", "configs", "tests", "launch", "colab"):
        shutil.copytree(ROOT / name, place / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "checkout")
    done(sys.executable, "-c", f"from setuptools.build_meta import *; build_sdist({str(place)!r})", cwd=place / "checkout")
    (archive,) = place.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    done(*pip, f"--wheel-dir={place}", str(archive), cwd=place)
    (file,) = place.glob("*.whl")
    return file


def test_the_wheel_holds_all_modules_the_configs_and_the_licence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "xmodal_jax").rglob("*.py")}
    configs = {f"xmodal_jax/configs/{file.name}" for file in (ROOT / "configs").glob("*.py")}
    assert len(configs) >= 3
    assert {name for name in names if ".dist-info/" not in name} == modules | configs
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The folder of the programs of a fresh environment with the wheel, beside the packages that are installed here."""
    folder = tmp_path_factory.mktemp("environment")
    done(sys.executable, "-m", "venv", "--without-pip", str(folder))
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    done(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--no-compile", str(wheel))
    (site,) = folder.rglob("site-packages")
    others = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(others))  # behind the wheel; an editable install in them is not seen
    return programs


@pytest.mark.slow
@pytest.mark.gate
def test_an_installed_library_works_in_any_folder(environment, tmp_path):
    code = "import importlib.util, xmodal_jax as x; print(x.__file__); assert not importlib.util.find_spec('configs')"
    found = done(str(environment / "python"), "-c", code, cwd=tmp_path).stdout.strip()
    assert pathlib.Path(found).is_relative_to(environment.parent)

    xmodal = str(environment / "xmodal")
    assert "  reproduce " in done(xmodal, "--help", cwd=tmp_path).stdout
    settings = {  # a step that test_configs.py compiles too
        "total_steps": 2, "log_every": 1, "checkpoint_every": 2, "batch_size": 2, "evaluators": {},
        "examples.text_length": 40, "examples.target_length": 24, "examples.caption_length": 24,
    }  # fmt: skip
    given = [f"--config.{name}={value}" for name, value in settings.items()]
    trained = done(
        xmodal, "train", "--config", "configs/pretrain.py:debug,image_size=32", "--workdir=run", *given, cwd=tmp_path
    )
    packaged = pathlib.Path(found).parent / "configs" / "pretrain.py"
    assert f"config: {packaged}:debug" in trained.stderr and "before flag parsing" not in trained.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["total_steps"] == 2
    assert "step 2/2" in trained.stderr
