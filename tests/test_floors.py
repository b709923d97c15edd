"""Imports: only downwards between the floors of the library, and no other array library in it."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOREIGN = {"torch", "torchvision", "tensorflow", "tf_keras", "keras"}


def test_imports_only_go_down():
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Floors: imports only go down KEPT" in done.stdout


def imported(file):
    """The names of the packages that a file imports, anywhere in it, by statement or by `import_module`."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")) and node.args:
            yield str(getattr(node.args[0], "value", "")).split(".")[0]


def test_no_other_array_library_is_imported():
    files = [*(ROOT / "xmodal_jax").rglob("*.py"), *(ROOT / "configs").rglob("*.py")]
    assert len(files) > 50
    files.remove(ROOT / "xmodal_jax" / "measure" / "beside" / "pytorch_side.py")  # an extra, that only its own process loads
    assert not {(str(file.relative_to(ROOT)), name) for file in files for name in imported(file) if name in FOREIGN}
