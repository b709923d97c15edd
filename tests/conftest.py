"""Shared by all tests: fresh random numbers with a printed seed, tiny models with random parameters, compiled verbs."""

import atexit
import functools
import gc
import importlib
import os
import shutil
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The tiny programs of the tests take far longer to compile than to run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # of this test run alone: what one test compiled, others and commands load
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="xmodal-test-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # small programs are the most, and loaded faster too

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from xmodal_jax import cli  # noqa: F401 - the flags that all commands have
from xmodal_jax.models import CrossmodalBytes

if jax.__version_info__ < (0, 11):  # half of the compile time; XLA refuses flags that it does not know
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}"

T, S, C, SIZE, PATCH = 20, 10, 12, 16, 4  # bytes of text, target and caption; pixels of a picture and of a patch
TINY = {
    "group": 48,
    "grid": 4,
    "width": 16,
    "heads": 2,
    "second_layers": 1,
    "layers": 1,
    "decoder_layers": 2,
    "slots": 3,
    "shared_width": 8,
}


def pytest_collection_finish(session):
    """What is imported by now stays: while JAX traces, the garbage collector need not look through it over and over."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def fresh_seed():
    """A seed that differs from run to run; XMODAL_TEST_SEED repeats a run."""
    return int(os.environ.get("XMODAL_TEST_SEED") or int.from_bytes(os.urandom(3), "little"))


@pytest.fixture
def rng():
    """Fresh random numbers; the seed is printed with a failure."""
    seed = fresh_seed()
    print(f"XMODAL_TEST_SEED={seed}")
    return np.random.default_rng(seed)


def random_params(model, *args, **kwargs):
    """Parameters drawn at random, biases and norms included, so that none is at a value that hides it."""
    rng = np.random.default_rng(fresh_seed())
    args = [jnp.asarray(value) if isinstance(value, np.ndarray) else value for value in args]
    shapes = jax.eval_shape(lambda: model.init(jax.random.PRNGKey(0), *args, **kwargs)).get("params", {})

    def draw(path, shape):
        name, noise = path[-1].key, rng.normal(size=shape.shape).astype(np.float32)
        if name == "kernel":
            inputs = shape.shape[-4 if path[-2].key in ("qkv", "kv", "q") else -2 :][:1] if len(shape.shape) > 1 else (1,)
            return noise / np.sqrt(max(1, *inputs)).astype(np.float32)  # else attention is all but a choice of one, and chaotic
        return {"scale": 1 + 0.2 * noise, "embedding": 0.5 * noise, "log_scale": 1 + 0 * noise}.get(name, 0.3 * noise)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture
def gpu():
    """The NVIDIA GPU that tests marked `gpu` need."""
    if jax.default_backend() != "gpu":
        pytest.skip("there is no GPU, or JAX is told not to use it (JAX_PLATFORMS=cuda,cpu)")
    return jax.local_devices()[0]


@pytest.fixture(scope="session")
def make_params():
    return random_params


def random_batch(rows, length, seed=None):
    """A batch of random arrays as `ExampleMaker` shapes them; row 0 fills masked words, row 1 writes, ..."""
    rng = np.random.default_rng(fresh_seed() if seed is None else seed)

    def texts(longest, first=()):
        out = np.zeros((rows, longest), np.int32)
        for row in out:
            size = int(rng.integers(4, longest + 1))
            row[:size] = rng.integers(35, 128, size)
            row[: len(first)], row[size - 1] = first, 1
        return out

    target = texts(S, first=(259,))
    return {
        "text": texts(T, first=(259,)),
        "segments": np.zeros((rows, T), np.int32),
        "inputs": np.concatenate([np.zeros((rows, 1), np.int32), target[:, :-1]], axis=1),
        "target": target,
        "task": (np.arange(rows) % 3).astype(np.int32),
        "text_names": np.where(rng.random((rows, T)) < 0.3, rng.integers(0, 40, (rows, T)), -1).astype(np.int32),
        "caption": texts(C),
        "caption_names": np.where(rng.random((rows, C)) < 0.3, rng.integers(0, 40, (rows, C)), -1).astype(np.int32),
        "names": rng.integers(-1, 40, (rows, 6)).astype(np.int32),
        "second": rng.integers(0, 256, (rows, length)).astype(np.uint8),
        "second_length": np.full(rows, length, np.int32),
    }


@pytest.fixture(scope="session")
def make_batch():
    return random_batch


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """trained(config) -> (folder, results, programs compiled before each step) of a run that all processes share."""
    from tests import runs

    root = tmp_path_factory.getbasetemp()
    return functools.partial(runs.trained, root.parent if "PYTEST_XDIST_WORKER" in os.environ else root)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def applied(model, method, words, params, arrays):
    for place, word in words:
        arrays.insert(place, word)
    return model.apply({"params": params}, *arrays, method=method)


def apply(model, method, params, *args):
    """A module's method, compiled once per module, shapes and words (texts and booleans) among the arguments."""
    words = tuple((place, arg) for place, arg in enumerate(args) if isinstance(arg, str | bool))
    return applied(model, method, words, params, [arg for arg in args if not isinstance(arg, str | bool)])


@pytest.fixture(scope="session")
def call():
    """call(module, "method", params, *args)."""
    return apply


def is_of_an_entry_point(flag):
    module = flags.FLAGS.find_module_defining_flag(flag) or ""
    return module.startswith("xmodal_jax.") and module != "xmodal_jax.cli"


@pytest.fixture
def command(monkeypatch):
    """command("explain", "--workdir=DIR"): its main() in this process, on a command line; its flags are gone afterwards."""

    def run(name, *arguments):
        others = {flag: flags.FLAGS[flag] for flag in flags.FLAGS if is_of_an_entry_point(flag)}  # imported by another test
        for flag in others:
            delattr(flags.FLAGS, flag)
        known = set(flags.FLAGS)
        monkeypatch.delitem(sys.modules, f"xmodal_jax.{name}", raising=False)
        monkeypatch.setattr(sys, "argv", [name, *arguments])  # where ml_collections looks for overrides
        try:
            module = importlib.import_module(f"xmodal_jax.{name}")
            flags.FLAGS.set_gnu_getopt()
            _, *words = flags.FLAGS(sys.argv)
            module.main(*words)
        finally:
            for flag in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, flag)
            for flag, value in others.items():
                flags.FLAGS[flag] = value

    return run


@pytest.fixture(scope="session")
def tiny():
    """(model, params, batch of 4 rows) of a crossmodal byte model on 16 x 16 pictures."""
    model, batch = CrossmodalBytes(**TINY), random_batch(4, SIZE * SIZE * 3)
    return model, random_params(model, batch), batch


# What trains is imported where it is needed: most tests need a second less without it.


@pytest.fixture(scope="module")
def run(request, trained):
    """(folder, results) of a finished run of the config that the test file's `small()` gives."""
    return trained(request.module.small())[:2]


@pytest.fixture(scope="module")
def model(run):
    """What the folder of the run offers."""
    from xmodal_jax import api

    return api.load(run[0])


@pytest.fixture(scope="module")
def held_out(request):
    """The held-out source of the run."""
    from xmodal_jax.systems import recipe

    return recipe.make(request.module.small()).held_out
