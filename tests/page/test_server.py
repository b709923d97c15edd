"""The page's routes: what they answer, and what they refuse, on a folder of painted photos and a model that sees colours."""

import concurrent.futures
import io
import os
import threading

import numpy as np
import pytest
from PIL import Image

from tests.index.test_photos import Colours, paint
from xmodal_jax.page.desk import Desk, Served

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from xmodal_jax.page import server

COLORS = {"red.png": (255, 0, 0), 'sub/green <b>&".png': (0, 255, 0), "blau ö.png": (0, 0, 255), "한국.png": (200, 200, 0)}


class Model(Colours):
    """What sees colours, with parameters that can be replaced."""

    params = {"w": np.zeros(3, np.float32)}


@pytest.fixture
def desk(tmp_path):
    for name, color in COLORS.items():
        paint(tmp_path / "photos", name, color)
    return Desk(tmp_path / "photos", tmp_path / "index", [Served("full model", Model())])


@pytest.fixture
def client(desk):
    with TestClient(server.make(desk), base_url="http://localhost") as client:
        client.headers["x-token"] = client.get("/about").json()["token"]
        yield client


def found(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["found"]


def test_a_query_an_upload_and_photos_like_one(client, tmp_path):
    about = client.get("/about").json()
    assert about["photos"] == 4 and about["models"] == [{"name": "full model", "bytes": 12}] and not about["captions"]
    first = found(client.post("/search", json={"text": "0 1 0", "top": 2}))
    assert [one["title"] for one in first] == ['green <b>&".png', "한국.png"] and first[0]["score"] == pytest.approx(
        1, abs=1e-3
    )
    like = found(client.post("/search", json={"like": first[0]["name"], "top": 1}))
    assert like[0]["name"] == first[0]["name"] and "/" not in like[0]["name"]
    data = io.BytesIO()
    Image.new("RGB", (9, 9), (0, 0, 250)).save(data, "JPEG")
    assert found(client.post("/upload", content=data.getvalue()))[0]["title"] == "blau ö.png"
    for kind, most in (("photo", 1024), ("thumbnail", 320)):
        picture = Image.open(io.BytesIO(client.get(f"/{kind}/{first[0]['name']}").content))
        assert picture.format == "JPEG" and max(picture.size) <= most
    page = client.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"] and "http" not in page.text.replace(
        "https://", "http"
    )
    for path in ("/page.js", "/page.css"):
        assert client.get(path).status_code == 200 and "//" not in client.get(path).text.replace("// ", "")


WRONG = [
    ("/search", b'{"text": "  "}', "empty"),
    ("/search", b"nonsense", "cannot be read"),
    ("/search", b"[1]", "object"),
    ("/search", b'{"text": 5}', "cannot be read"),
    ("/search", b'{"text": "' + b"a" * 10_000 + b'"}', "10000 characters"),
    ("/search", b" " * 200_000, "too large"),
    ("/search", b'{"like": "../../etc/passwd"}', "not there"),
    ("/search", b'{"text": "1 0 0", "model": "none"}', "no model"),
    ("/upload", b"no picture", "not an image"),
    ("/upload", b"x" * 20_000_001, "too large"),
    ("/do/open", b"{}", "no 'open'"),
    ("/do/undo", b"{}", "no correction"),
    ("/do/look", b'{"name": "x", "text": "cat"}', "not there"),
    ("/do/tell", b'{"name": "x"}', "not there"),
    ("/do/learn", b'{"text": "1 0 0", "right": [], "wrong": []}', "Mark"),
]


@pytest.mark.parametrize(("path", "content", "told"), WRONG, ids=[f"{path}-{told}" for path, _, told in WRONG])
def test_what_cannot_be_done_is_told_in_a_sentence(client, path, content, told):
    answer = client.post(path, content=content)
    assert answer.status_code == 400 and told in answer.json()["error"], answer.text


def test_nothing_is_done_for_a_foreign_page(client):
    assert client.post("/search", json={"text": "1 0 0"}, headers={"x-token": "guess"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    for path in ("/photo/..%2f..%2fetc%2fpasswd", "/photo/none", "/thumbnail/%2e%2e", "/photo/../page.py", "/other/x/y"):
        assert client.get(path).status_code in (400, 404), path


def test_photos_that_left_the_folder_are_not_served(client, desk, tmp_path):
    (one, *_) = found(client.post("/search", json={"text": "1 0 0", "top": 1}))
    path = tmp_path / "photos/red.png"
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    os.remove(path)
    os.symlink(secret, path)
    assert client.get(f"/photo/{one['name']}").status_code == 400
    os.remove(path)
    assert found(client.post("/search", json={"text": "1 0 0", "top": 1}))[0]["title"] != "red.png"


def test_two_users_share_one_model_and_a_flood_is_turned_away(client, desk, monkeypatch):
    model, free, most = desk.one().model, threading.Event(), [0, 0]

    def slow(text, embed=model.embed_texts):
        most[0] += 1
        most[1] = max(most)
        free.wait(5)
        most[0] -= 1
        return embed(text)

    monkeypatch.setattr(model, "embed_texts", slow)
    monkeypatch.setattr(server, "WAITING", 3)
    with concurrent.futures.ThreadPoolExecutor(8) as users:
        answers = [users.submit(client.post, "/search", json={"text": "1 0 0"}) for _ in range(8)]
        while sum(answer.done() for answer in answers) < 5:
            pass
        free.set()
    codes = sorted(answer.result().status_code for answer in answers)
    assert codes == [200] * 3 + [503] * 5 and most[1] == 1
