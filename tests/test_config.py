"""Config arguments, defaults taken from the parts, unknown names refused with the nearest valid one."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from xmodal_jax.config import build, choose, defaults, flat, parse_arg, to_json
from xmodal_jax.data.byte_examples import ByteExamples
from xmodal_jax.errors import UserError
from xmodal_jax.models import CrossmodalBytes


@dataclasses.dataclass(frozen=True)
class Part:
    path: str  # no default
    size: int = 3
    shares: tuple = (1, 2)
    dtype: str = "float32"
    hidden: int = dataclasses.field(init=False, default=7)


KNOWN = {"data": "scenes", "path": "", "size": 64, "rate": 0.5, "debug": False}


def test_arguments_take_the_type_of_their_defaults():
    args = parse_arg("captions, path=a/b=c,size=128,rate=1e-3,debug", **KNOWN)
    assert args.to_dict() == {"data": "captions", "path": "a/b=c", "size": 128, "rate": 1e-3, "debug": True}
    assert parse_arg("", **KNOWN).to_dict() == KNOWN
    assert parse_arg("debug=no,data=emoji", **KNOWN).to_dict() == KNOWN | {"data": "emoji"}
    assert [parse_arg(f"debug={word}", **KNOWN).debug for word in ("true", "1", "Yes", "FALSE", "0")] == [True] * 3 + [
        False
    ] * 2


def test_a_comma_may_belong_to_a_value(tmp_path, monkeypatch):
    for quoted in ('path="cats, dogs"', "path='cats, dogs'", ' path="cats, dogs" '):
        args = parse_arg(f"captions,{quoted},size=3,debug", **KNOWN)
        assert args.to_dict() == KNOWN | {"data": "captions", "path": "cats, dogs", "size": 3, "debug": True}
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("cats, dogs", "a,b=c,debug", "plain", "it's"):
        (tmp_path / name).mkdir()
        for written in (f"{tmp_path}/{name}", f"~/{name}"):
            args = parse_arg(f"data=captions,path={written},size=3,debug", **KNOWN)
            assert args.to_dict() == KNOWN | {"data": "captions", "path": written, "size": 3, "debug": True}
    assert parse_arg(f"path={tmp_path}/plain,debug", **KNOWN).debug and parse_arg("path=,debug", **KNOWN).path == ""


@pytest.mark.parametrize(
    ("arg", "told"),
    [("szie=3", "'szie'.*did you mean 'size'.*data, debug"), ("size=big", "size='big': must be of type int"),
     ("debug=maybe", "debug='maybe': must be true or false"), ("rate=fast", "must be of type float"),
     ("zzzz=1", "Valid:")],
)  # fmt: skip
def test_wrong_arguments_are_refused(arg, told):
    with pytest.raises(UserError, match=told):
        parse_arg(arg, **KNOWN)


def test_defaults_are_the_parts_own_and_differences_are_checked():
    assert defaults(Part).to_dict() == {"size": 3, "shares": (1, 2)}
    assert defaults(Part, path="x", size=4).to_dict() == {"path": "x", "size": 4, "shares": (1, 2)}
    model = defaults(CrossmodalBytes, name="crossmodal_bytes", width=8)
    assert model.width == 8 and model.slots == CrossmodalBytes().slots
    assert not {"parent", "dtype"} & set(model) and model.name == "crossmodal_bytes"
    with pytest.raises(UserError, match="setting 'sizes' of Part: did you mean 'size'"):
        defaults(Part, sizes=1)


def test_build_makes_the_part_and_names_the_place_of_an_unknown_key():
    settings = defaults(Part, path="x")
    settings.shares = [3, 4]
    assert build(Part, settings, "part") == Part("x", 3, (3, 4))
    assert build(ByteExamples, defaults(ByteExamples), "examples") == ByteExamples()
    with pytest.raises(UserError, match=r"config key examples.third_share: did you mean"):
        build(ByteExamples, ConfigDict({"third_share": 0.1}), "examples")
    with pytest.raises(UserError, match="model.witdh: did you mean 'width'"):
        build(CrossmodalBytes, {"witdh": 8}, "model")
    with pytest.raises(UserError, match="Valid"):  # linen's own fields are no settings
        build(CrossmodalBytes, {"parent": None}, "model")


def test_choose_names_the_nearest_entry():
    assert choose({"adam": 1, "sgd": 2}, "sgd", "config.optimizer.name") == 2
    with pytest.raises(UserError, match="config.optimizer.name 'adma': did you mean 'adam'. Valid: adam, sgd"):
        choose({"adam": 1, "sgd": 2}, "adma", "config.optimizer.name")


def test_json_is_canonical_and_flat_joins_names():
    config = ConfigDict({"b": {"y": 1, "x": (1, 2)}, "a": "배"})
    text = to_json(config)
    assert (
        json.loads(text) == {"a": "배", "b": {"x": [1, 2], "y": 1}} and text.index('"a"') < text.index('"b"') and "배" in text
    )
    assert text == to_json(ConfigDict({"a": "배", "b": {"x": (1, 2), "y": 1}}))
    assert flat(json.loads(text)) == {"a": "배", "b.x": [1, 2], "b.y": 1}
