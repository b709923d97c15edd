"""Configurations: arguments of a config file, defaults taken from the parts they configure, unknown keys refused."""

import dataclasses
import difflib
import importlib.util
import json
import os
import pathlib
import re

from ml_collections import ConfigDict

from xmodal_jax.errors import UserError


def fields_of(part):
    """The fields of a dataclass that are settings: of a linen module without those that linen adds."""
    fields = dataclasses.fields(part)
    added = ("parent", "name") if any(field.name == "parent" for field in fields) else ()
    return [field for field in fields if field.init and field.name not in added]


def parse_arg(arg, **known):
    """`"captions,path=DIR,size=base"` -> ConfigDict over `known` defaults; values take the type of their default.

    A bare word sets the boolean of that name, else the first entry of `known` (`configs/pretrain.py:captions`). A comma is part
    of a value in quotes (`path="cats, dogs"`), and of the name of something that is there.
    Raises UserError for an unknown name (with the nearest one) or a value of another type.
    """
    given = dict(known)
    for part in _parts(arg):
        name, has_value, value = part.partition("=")
        if not has_value and name not in known:
            name, value = next(iter(known)), name
        elif not has_value:
            value = "true"
        if name not in known:
            raise UserError(unknown(f"config argument {name!r} (in {arg!r})", name, known))
        given[name] = _typed(name, value, known[name])
    return ConfigDict(given, convert_dict=False)


def _parts(arg):
    """What stands between the commas of an argument, those aside that belong to a value."""
    parts = re.findall(r"""[^,=]*=\s*(?:"[^"]*"|'[^']*')\s*(?=,|$)|[^,]+""", arg)
    while parts:
        ends = range(len(parts), 1, -1) if "=" in parts[0] else ()
        joined = (",".join(parts[:end]).strip() for end in ends)
        whole = next((part for part in joined if os.path.exists(os.path.expanduser(part.partition("=")[2]))), None)
        part = parts[0].strip() if whole is None else whole
        parts = parts[1:] if whole is None else parts[part.count(",") - parts[0].count(",") + 1 :]
        name, has_value, value = part.partition("=")
        if value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1:
            part = name + has_value + value[1:-1]
        if part:
            yield part


def _typed(name, value, default):
    if isinstance(default, bool):
        if value.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise UserError(f"Config argument {name}={value!r}: must be true or false.")
        return value.lower() in ("true", "1", "yes")
    try:
        return type(default)(value)
    except ValueError:
        raise UserError(f"Config argument {name}={value!r}: must be of type {type(default).__name__}.") from None


def unknown(what, name, known):
    """The sentence for an unknown name: what it is, the nearest valid one, all valid ones."""
    known = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), known, 1, 0.5)
    return f"Unknown {what}{f': did you mean {near[0]!r}?' if near else '.'} Valid: {', '.join(known)}."


def defaults(part, **different):
    """A part's own default settings (fields of a dataclass or linen module), with what differs in this config."""
    values = {}
    for field in fields_of(part):
        if field.name != "dtype" and field.default is not dataclasses.MISSING:
            values[field.name] = field.default
    for name in different.keys() - {"name"}:
        if name not in {field.name for field in fields_of(part)}:
            raise UserError(unknown(f"setting {name!r} of {part.__name__}", name, values))
    return ConfigDict(values | different)


def build(part, settings, where):
    """`part(**settings)`, an unknown setting refused with the nearest valid name. `where`: its place in the config."""
    fields = [field.name for field in fields_of(part)]
    for name in settings:
        if name not in fields:
            raise UserError(unknown(f"config key {where}.{name}", name, fields))
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return part(**plain)


def choose(table, name, where):
    """table[name], an unknown name refused with the nearest valid one."""
    if name not in table:
        raise UserError(unknown(f"{where} {name!r}", name, table))
    return table[name]


def find_config(path):
    """`path` where it exists; else, of configs/NAME.py, the file that comes with the library. Neither: UserError."""
    if os.path.exists(path):
        return path
    packaged = config_files()
    name = pathlib.PurePath(path).as_posix()
    if name not in packaged:
        known = ", ".join(sorted(packaged))
        raise UserError(f"There is no config file {path!r} here, nor does it come with the library, as these do: {known}.")
    return packaged[name]


def config_files():
    """{configs/NAME.py: its place} of the config files that come with the library."""
    package = pathlib.Path(__file__).parent
    inside, beside = package / "configs", package.parent / "configs"  # of a wheel; of a checkout
    return {f"configs/{file.name}": str(file) for file in (inside if inside.is_dir() else beside).glob("*.py")}


def load_config(path, arg=""):
    """`get_config(arg)` of a config file, wherever `find_config` finds it."""
    return _module(path).get_config(arg)


def _module(path):
    spec = importlib.util.spec_from_file_location("config_file", find_config(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def explained(path, arg=""):
    """(docstring of a config file, {argument: what it is here}, its config): what there is to choose, for people."""
    module, known = _module(path), {}
    parse = getattr(module, "parse_arg", parse_arg)

    def parsed(given, **defaults):
        found = parse(given, **defaults)
        known.update(found if not known else {})
        return found

    module.parse_arg = parsed
    config = module.get_config(arg)
    return (module.__doc__ or "").strip(), known, config


def to_json(config):
    """The config as canonical JSON text."""
    return json.dumps(json.loads(config.to_json_best_effort()), indent=2, sort_keys=True, ensure_ascii=False)


def flat(tree, prefix=""):
    """Nested dictionaries -> {"a.b": value}."""
    out = {}
    for key, value in tree.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
