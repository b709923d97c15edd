"""The page as a user sees it, in headless Chromium (Debian's chromium and chromium-driver), on a model that sees colours."""

import contextlib
import shutil
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from tests.index.test_photos import Colours, paint
from xmodal_jax.page import learning
from xmodal_jax.page.desk import Desk, Served

selenium = pytest.importorskip("selenium")
uvicorn = pytest.importorskip("uvicorn")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from xmodal_jax.page import server  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gate,
    pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="Debian's chromium is not here"),
]
COLORS = {"red.png": (255, 0, 0), "<b>green.png": (0, 255, 0), "blau ö.png": (0, 0, 255), "한국.png": (200, 200, 0)}
BOX = [0.25, 0.5, 0.75, 1.0]


class Model(Colours):
    """Sees colours, reads "1 0 0", and finds what is named with an object in the same place of every photo."""

    refers = True

    def __init__(self):
        super().__init__()
        self.params = {"lean": np.zeros(3, np.float32)}

    def embed_texts(self, text):
        numbers = [float(word) for word in text.split() if word.replace(".", "").isdigit()]
        return super().embed_texts(" ".join(map(str, numbers or [1, 1, 1]))) + self.params["lean"]

    def located(self, pictures, phrases):
        there = np.array([0.9 if "box" in phrase else 0.1 for phrase in phrases])
        return there, np.array([BOX] * len(pictures)), np.zeros((len(pictures), 1, 4))

    def word_maps(self, picture, text):
        return [(word, np.eye(4)[: i + 1].sum(0)[None] * np.ones((4, 1))) for i, word in enumerate(text.split()[:3])]


@pytest.fixture
def address(tmp_path, monkeypatch):
    for name, color in COLORS.items():
        paint(tmp_path / "photos", name, color)
    monkeypatch.setattr(learning, "corrected", lambda *_: {"lean": np.array([0, 0, 9], np.float32)})
    desk = Desk(tmp_path / "photos", tmp_path / "index", [Served("full model", Model()), Served("compressed", Model())])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = uvicorn.Server(uvicorn.Config(server.make(desk, ("127.0.0.1",)), port=port, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    running.should_exit = True
    thread.join()


@contextlib.contextmanager
def browser(address):
    options = selenium.webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.webdriver.Chrome(options, selenium.webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        driver.get(address)
        wait(driver, lambda: "4 photos" in at(driver, "about").text)
        yield driver
    finally:
        driver.quit()


def at(driver, name):
    return driver.find_element(By.ID, name)


def wait(driver, reached, seconds=30):
    WebDriverWait(driver, seconds, 0.1).until(lambda _: reached())


def said(driver):
    wait(driver, lambda: at(driver, "said").text not in ("", "Working ..."))
    return at(driver, "said").text


def titles(driver):
    return driver.execute_script("return [...document.querySelectorAll('#found bdi')].map((one) => one.textContent)")


def ask(driver, text):
    driver.execute_script("document.getElementById('said').textContent = ''")
    field = at(driver, "text")
    field.clear()
    driver.execute_script("arguments[0].value = arguments[1]", field, text)  # the driver cannot type emoji
    field.send_keys(Keys.ENTER)
    return said(driver)


def test_queries_objects_words_uploads_and_corrections(address, tmp_path):
    with browser(address) as driver:
        assert "4 of 4 photos" in ask(driver, "0 1 0")
        assert titles(driver)[0] == "<b>green.png" and not driver.find_elements(By.CSS_SELECTOR, "#found b:not(strong)")
        order = titles(driver)
        wait(
            driver, lambda: all(one.get_property("naturalWidth") for one in driver.find_elements(By.CSS_SELECTOR, "#found img"))
        )
        for text in ("빨간 차 1 0 0", "🐿️ 1 0 0", "כלב אדום 1 0 0", "قطة حمراء 1 0 0"):
            assert "4 of 4" in ask(driver, text) and titles(driver)[0] == "red.png"
        assert "empty" in ask(driver, "") and "10000 characters" in ask(driver, "a" * 10_000)

        ask(driver, "0 1 0 box")  # every photo has a box
        frames = [one.rect for one in driver.find_elements(By.CSS_SELECTOR, "#found .frame")]
        for frame, box in zip(frames, (one.rect for one in driver.find_elements(By.CSS_SELECTOR, "#found .box")), strict=True):
            found = [(box["x"] - frame["x"]) / frame["width"], (box["y"] - frame["y"]) / frame["height"]]
            found += [found[0] + box["width"] / frame["width"], found[1] + box["height"] / frame["height"]]
            assert np.abs(np.array(found) - BOX).max() < 0.03

        driver.find_element(By.CSS_SELECTOR, "#found img").click()
        at(driver, "phrase").clear()
        at(driver, "phrase").send_keys("the red box", Keys.ENTER)
        wait(driver, lambda: "Found (0.90)" in at(driver, "told").text)
        assert at(driver, "box").is_displayed() and not at(driver, "question").is_displayed()
        words = driver.find_elements(By.CSS_SELECTOR, "#words button")
        assert [word.text for word in words] == ["the", "red", "box"]
        maps = []
        for word in words:
            word.click()
            maps.append(at(driver, "map").get_attribute("src"))
        assert len(set(maps)) == 3 and at(driver, "map").is_displayed()
        at(driver, "phrase").clear()
        at(driver, "phrase").send_keys("nothing", Keys.ENTER)
        wait(driver, lambda: "Not in this photo" in at(driver, "told").text)
        assert not at(driver, "box").is_displayed()
        at(driver, "like").click()
        wait(driver, lambda: titles(driver)[:1] == ["<b>green.png"])

        Image.new("RGB", (40, 40), (0, 0, 255)).save(tmp_path / "good.jpg")
        (tmp_path / "broken.jpg").write_bytes(b"no picture")
        (tmp_path / "huge.jpg").write_bytes(b"x" * 21_000_000)
        for name, told in (("broken", "not an image"), ("huge", "too large"), ("good", "4 of 4")):
            driver.execute_script("document.getElementById('said').textContent = ''")
            at(driver, "file").send_keys(str(tmp_path / f"{name}.jpg"))
            wait(driver, lambda told=told: told in at(driver, "said").text)
        assert titles(driver)[0] == "blau ö.png"

        ask(driver, "0 1 0")
        driver.find_elements(By.CSS_SELECTOR, "#found .marks button")[1].click()  # the first is wrong
        at(driver, "learn").click()
        wait(driver, lambda: "Learned." in at(driver, "said").text)
        assert titles(driver)[0] == "blau ö.png"  # the stand-in for a correction leans to blue
        at(driver, "undo").click()
        wait(driver, lambda: "As before." in at(driver, "said").text)
        assert titles(driver) == order and not at(driver, "undo").is_displayed()
        assert at(driver, "model").is_displayed()
        at(driver, "model").send_keys("compressed")
        wait(driver, lambda: "compressed" in at(driver, "said").text)
        failed = [one["message"] for one in driver.get_log("browser") if "400" not in one["message"]]
        assert not failed, failed  # the script fails, or the policy of the page forbids what it does


def test_two_users_at_once(address):
    with browser(address) as one, browser(address) as other:
        for driver, text in ((one, "1 0 0"), (other, "0 0 1")):
            driver.execute_script("document.getElementById('said').textContent = ''")
            at(driver, "text").send_keys(text, Keys.ENTER)
        assert "4 of 4" in said(one) and "4 of 4" in said(other)
        assert (titles(one)[0], titles(other)[0]) == ("red.png", "blau ö.png")
