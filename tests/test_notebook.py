"""The notebooks run from top to bottom, in small."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("pretrain", 5),  # scenes, three heat maps, a picture
        ("caption", 3),  # scenes, a picture, the matrix of cosines
        ("vqa", 3),  # scenes, a picture, the explanation
        ("search_and_compress", 3),  # photos found, a box, photos found by the smaller model; two minutes
    ],
)
def test_the_notebook_runs_from_top_to_bottom(monkeypatch, name, pictures):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("XMODAL_SMALL", "1")
    book = nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells), "the notebook is kept without outputs"
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    kinds = [kind for output in outputs for kind in output.get("data", ())]
    assert "report.html" in text and "step 20/20" in text
    assert kinds.count("image/svg+xml") == 1 and kinds.count("image/png") == pictures, "a plot of curves, and pictures"
