"""What the README and docs/ name exists: files, links, modules, commands, flags, settings, and the floors as they are drawn."""

import ast
import functools
import inspect
import itertools
import pathlib
import pkgutil
import re
import shlex
import tomllib

import pytest

from configs.zoo import ROWS
from xmodal_jax.config import flat, load_config
from xmodal_jax.data.sources import SOURCES, required_settings, source_settings
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators import EVALUATORS
from xmodal_jax.models.fusion import FUSIONS
from xmodal_jax.systems.recipe import KEYS
from xmodal_jax.tables import TABLES, sizes
from xmodal_jax.tables.zoo import PRETRAINED_ON

ROOT = pathlib.Path(__file__).parents[1]
README, ARCHITECTURE, SETTINGS = ROOT / "README.md", ROOT / "docs/architecture.md", ROOT / "docs/settings.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SECTIONS = "data examples loader model objectives optimizer lora mesh evaluators compress".split()
LAYERS = next(
    contract["layers"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
)
ENTRY_POINTS = next(layer for layer in LAYERS if "xmodal_jax.main" in layer.split()).replace("xmodal_jax.", "").split(" | ")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page):
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def inline(page):
    """What stands between backticks in the prose."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def blocks(page, *languages):
    """The code blocks of a page in these languages."""
    return [text for language, text in FENCE.findall(page.read_text("utf-8")) if language in languages]


def rows(text):
    """The cells of every row of the tables in a text."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]


def commands(page):
    """[words] of every `python -m xmodal_jax.NAME ...` of a page, in code blocks and in prose."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines() + inline(page)
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True) for part in parts if part.startswith("python -m xmodal_jax.")]


@functools.cache
def flags_of(name):
    """The flags of an entry point and those that all have."""
    text = "".join((ROOT / f"xmodal_jax/{module}.py").read_text("utf-8") for module in (name, "cli"))
    return set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text)) | {"help"}


@functools.cache
def config_of(file):
    """The config of FILE:ARGUMENTS as a page writes it: `...` stands for further arguments; what init names is not here."""
    path, _, arguments = file.partition(":")
    given = [part for part in arguments.split(",") if part != "..." and not part.startswith("init=")]
    return load_config(str(ROOT / path), ",".join(given))


@functools.cache
def settings():
    """Every setting of every config file, whatever its arguments, and the sections that they stand in."""
    found = set(KEYS) | {f"data.{name}" for kind in SOURCES for name in source_settings(kind)}
    for name, kind in EVALUATORS.items():
        found |= {f"evaluators.{name}.{key}" for key in inspect.signature(kind).parameters}
    texts = ("lstm", "bert", "roberta", "deberta_v3")
    for file in (
        "pretrain", "pretrain:grounded", "search", "compress", *(f"zoo:{row}" for row in ROWS),
        *(f"caption:{method}" for method in ("vae_cl", "dual_encoder")),
        *(f"vqa:fusion={fusion}" for fusion in FUSIONS), *(f"vqa:text={text}" for text in texts),
    ):  # fmt: skip
        name, _, arguments = file.partition(":")
        found |= set(flat(config_of(f"configs/{name}.py:{arguments}").to_dict()))
    return found | {key.rpartition(".")[0] for key in found} - {""}


def test_the_table_of_the_zoo_is_that_of_its_configs():
    """What each row is made of, in the order of the printed table."""
    printed = {row[0].strip("`"): row[1:] for row in rows((ROOT / "docs/zoo.md").read_text("utf-8")) if len(row) == 9}
    assert set(printed) == {"row", "---", *ROWS}
    for row in ROWS:
        config = config_of(f"configs/zoo.py:{row},scale=base")
        assert printed[row][:4] == [*sizes.described(config.model), ", ".join(sizes.active(config))], row
        assert 0 < float(printed[row][6]) < 15.75 and printed[row][7] == PRETRAINED_ON[row], row


def test_the_readme_fits_on_a_screen_and_a_half():
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\(([^)#]+)", README.read_text("utf-8")))
    assert {str(page.relative_to(ROOT)) for page in PAGES if page != README} <= linked


def anchors(page):
    """The names that headings have in links."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@each_page
def test_files_exist(page):
    named = re.findall(r"(?<![\w~/.])((?:xmodal_jax|configs|launch|tests|colab|docs|\.ci)/[\w./-]*)", page.read_text("utf-8"))
    assert not [path for path in named if not (ROOT / path.rstrip(".")).exists()]


@each_page
def test_modules_and_what_is_imported_from_them_exist(page):
    named = set(re.findall(r"(?<![\w/.])xmodal_jax(?:\.\w+)+", page.read_text("utf-8"))) - {"xmodal_jax.NAME"}
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("xmodal_jax"):
                named |= {f"{node.module}.{alias.name}" for alias in node.names}
    for name in named:
        if name.removeprefix("xmodal_jax.") not in ENTRY_POINTS:  # whose flags exclude each other
            pkgutil.resolve_name(name)
    for name in named & {f"xmodal_jax.{name}" for name in ENTRY_POINTS}:
        assert (ROOT / f"{name.replace('.', '/')}.py").is_file()


@each_page
def test_commands_have_the_flags_configs_and_settings_that_are_given(page):
    for _, _, module, *words in commands(page):
        name = module.removeprefix("xmodal_jax.")
        if name == "NAME":
            continue
        assert name in ENTRY_POINTS, module
        given = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))
        table = TABLES[given["table"]] if "table" in given else None
        file = given.get("config", table.config if table else "")
        if table and ("data" in given or "scale" in given):
            file += ":" + ",".join(f"{key}={given[key]}" for key in ("data", "scale") if key in given)
        config = config_of(file) if file and file != "..." else None
        known = set(flat(config.to_dict())) if config else settings()
        for flag in given:
            if flag.startswith("config."):
                key = flag.removeprefix("config.")
                assert key in known or any(other.startswith(f"{key}.") for other in known), (words, flag)
            else:
                assert flag in flags_of(name), (words, flag)
        if "cells" in given:
            assert set(given["cells"].split(",")) <= set(table.cells(config)), words


@each_page
def test_flags_and_settings_that_are_mentioned_exist(page):
    flags = set().union(*map(flags_of, ENTRY_POINTS))
    for text in inline(page):
        if text.startswith("python"):
            continue
        for name in re.findall(r"--([a-z_]+)", text):
            assert name in flags, text
        for name in re.findall(r"--config\.([\w.]+)", text):
            assert name in settings() or name.isupper() or name.endswith(".NAME"), text
        if re.fullmatch(rf"(?:{'|'.join(SECTIONS)})\.[\w.]+(?:=\S+)?", text):
            assert text.partition("=")[0] in settings(), text


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("pretrain", "crossmodal-bytes"), ("caption", "captioning"), ("search", "search"), ("compress", "compression"),
        ("vqa", "vqa"), ("zoo", "zoo"),
    ],
)  # fmt: skip
def test_every_argument_of_a_config_is_listed(name, page):
    with pytest.raises(UserError) as caught:
        config_of(f"configs/{name}.py:no_such_argument=1")
    known = str(caught.value).partition("Valid: ")[2].rstrip(".").split(", ")
    _, _, section = (ROOT / f"docs/{page}.md").read_text("utf-8").partition(f"## Arguments of configs/{name}.py\n")
    table = rows(section.partition("\n## ")[0])[2:]
    assert sorted(itertools.chain(*(re.findall(r"`(\w+)`", first) for first, *_ in table))) == sorted(known)


def test_every_source_and_every_setting_is_listed():
    sources = rows((ROOT / "docs/data.md").read_text("utf-8"))
    assert {re.findall(r"`(\w+)`", first)[0] for first, *_ in sources if re.match(r"`\w+`$", first)} == set(SOURCES)
    for name in SOURCES:
        (arguments,) = [last for first, _, last in sources if first == f"`{name}`"]
        needed = {{"annotations": "path"}.get(setting, setting) for setting in required_settings(name)}
        assert needed <= set(re.findall(r"`(\w+)`", arguments)), name
    table = "".join(first for first, *_ in rows(SETTINGS.read_text("utf-8")))
    assert not [key for key in KEYS if not re.search(rf"`{key}[`.]", table)]


def test_commands_are_listed_with_their_short_forms():
    listed = re.findall(r"^\| `python -m xmodal_jax\.(\w+).*?` \| `xmodal (\w+)` \|", SETTINGS.read_text("utf-8"), re.M)
    assert {name for name, _ in listed} == set(ENTRY_POINTS)
    assert all(short == {"main": "train"}.get(name, name) for name, short in listed)


def test_environment_variables_are_read_somewhere():
    named = re.findall(r"`([A-Z_]+)`", "".join(first for first, *_ in rows(SETTINGS.read_text("utf-8"))))
    files = [*(ROOT / "xmodal_jax").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    text = "".join(file.read_text("utf-8") for file in files)
    assert named and not [name for name in named if f'"{name}"' not in text]


def test_floors_are_drawn_as_they_are():
    drawing = next(text for text in blocks(ARCHITECTURE, "") if "systems" in text)
    floors = [set(re.split(r" {2,}", line)[0].split(" | ")) for line in drawing.splitlines()]
    assert floors == [set(layer.replace("xmodal_jax.", "").split(" | ")) for layer in LAYERS]


def test_names_stand_in_the_files_that_architecture_tells():
    text = ARCHITECTURE.read_text("utf-8")
    told = [(name, re.findall(r"`([^`]+)`", file)[0]) for _, file, name in rows(text) if "`" in file]
    for names, file in re.findall(r"((?:`\w+`(?:, | or | and |\s))+)(?:of|in)\s`(xmodal_jax/[\w/]+\.py)`", text):
        told += [(name, file) for name in re.findall(r"`\w+`", names)]
    assert len(told) > 40
    for name, file in told:
        name = name.strip("`")
        assert re.search(rf"^(?:def|class) {name}\b|^{name} = ", (ROOT / file).read_text("utf-8"), re.M), (name, file)
