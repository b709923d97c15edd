"""The tables as they are printed: each figure under its header, what the papers print, and what each row's cell trains."""

import decimal
import itertools

import jax
import numpy as np
import pytest

import configs.zoo
from xmodal_jax.config import load_config
from xmodal_jax.metrics.captioning import caption_scores
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.systems import recipe
from xmodal_jax.tables import TABLES, runner, sizes, zoo
from xmodal_jax.train import progress

# Tables 1 to 4 of Transformer-VAE-CL as printed: learning rate, BLEU, ROUGE-1, ROUGE-L, METEOR.
BASELINE, BEST = "1e-5 11.3 45.6 43.8 39.1", "1e-5 12.1 46.4 44.7 39.9"
CAPTIONING = {
    "Table 1: effect of VAE and CL": {"encoder-decoder": BASELINE, "+ VAE": "1e-5 11.0 45.1 43.3 38.6", "+ VAE + CL": BEST},
    "Table 2: + VAE, latent type and size": {
        "cls, 64": "1e-4 9.33 42.0 40.2 35.3",
        "cls, 128": "1e-4 8.99 42.1 40.4 35.4",
        "cls, 768": "1e-4 9.05 41.6 39.7 35.0",
        "patch, 64": "1e-5 10.6 44.4 42.7 37.7",
        "patch, 128": "1e-5 10.5 44.3 42.5 37.4",
        "patch, 768": "1e-5 11.0 45.1 43.3 38.6",
    },
    "Table 3: + VAE + CL, latent type and size": {
        "cls, 64": "1e-4 8.56 41.0 39.1 34.5",
        "cls, 128": "1e-4 8.94 42.5 40.6 35.6",
        "cls, 768": "1e-4 8.86 42.3 40.5 35.5",
        "patch, 64": "1e-5 11.1 45.3 43.5 38.7",
        "patch, 128": "1e-5 12.1 46.4 44.7 39.9",
        "patch, 768": "1e-5 11.9 46.4 44.5 39.9",
    },
    "Table 4: other structures": {
        "Dual-Encoder (retrieves)": "1e-5 32.7 46.2 44.1 63.3", "encoder-decoder": BASELINE, "+ VAE + CL": BEST,
    },
    "Controls of + VAE + CL, patch, 128": {"C_EOS of the text alone": BEST},
    "What the prior costs": {"encoder-decoder": BASELINE, "+ VAE + CL": BEST},
}  # fmt: skip
# Both tables of UME as printed: accuracy and its deviation.
ANSWERING = {
    "LSTM and VGG, all methods": {
        "concatenation": "0.35895 0.0183",
        "element-wise product": "0.36382 0.0157",
        "cross-modal attention": "0.39814 0.0102",
        "EVC": "0.47285 0.0092",
        "UME": "0.50481 0.0194",
    },
    "Transformers: baseline (product) and UME": {
        "BERT, ViT, baseline": "0.47186 0.0093", "BERT, ViT, UME": "0.55331 0.0132",
        "RoBERTa, ViT, baseline": "0.49412 0.0105", "RoBERTa, ViT, UME": "0.57921 0.0148",
        "DeBERTa-v3, BEiT, baseline": "0.58251 0.0089", "DeBERTa-v3, BEiT, UME": "0.67917 0.0121",
    },
    "Controls of LSTM, VGG, UME": {"picture and question": "0.50481 0.0194"},
}  # fmt: skip
CAPTION_COLUMNS = {
    "BLEU-4": "captioning/bleu4", "ROUGE-1": "captioning/rouge1_f", "ROUGE-L": "captioning/rougeL_f",
    "METEOR": "captioning/meteor", "CIDEr-D": "captioning/ciderD", "frequent caption, CIDEr-D": "captioning/frequent/ciderD",
    "random caption, CIDEr-D": "captioning/random/ciderD", "i2t R@5": "retrieval/i2t_r5", "t2i R@5": "retrieval/t2i_r5",
    "modality gap before": "retrieval/gap_before", "modality gap after": "retrieval/gap",
    "active units": "latent/active_units", "collapsed": "latent/collapsed",
}  # fmt: skip
BYTE_COLUMNS = {
    "sense, right image": "sense_accuracy/right_image",
    "wrong image": "sense_accuracy/wrong_image",
    "no image": "sense_accuracy/no_image",
    "chance": "sense_accuracy/chance",
    "swapped follows": "sense_accuracy/swapped_follows",
    "masked word": "masked/right_image/word",
    "of a rare word": "masked/right_image/rare_word",
    "another image": "masked/wrong_image/word",
    "masked word, no image": "masked/no_image/word",
    "beside a third text": "masked/right_image/third/word",
    "of a rare word beside it": "masked/right_image/third/rare_word",
    "beside a gloss": "masked/right_image/gloss/word",
    "of a rare word beside that": "masked/right_image/gloss/rare_word",
    "beside a gloss, no image": "masked/no_image/gloss/word",
    "n-gram": "masked/baseline/ngram",
    "i2t R@1": "retrieval/i2t_r1",
    "answers": "generation/answer_accuracy",
}
DRAWN = {"sense, unseen style": "sense_unseen/right_image", "own thing over the other": "grounding/own_over_other"}
BAE = {f"배, {name.replace('_', ' ')}": f"sense_accuracy/배/{name}" for name in ("right_image", "no_image", "chance")}
TRIVIAL = {"frequent answer": "vqa/frequent", "frequent for these words": "vqa/frequent_for_question"}


def answer_columns(*kinds):
    return {"accuracy": "vqa/accuracy"} | {kind: f"vqa/accuracy/{kind}" for kind in kinds} | TRIVIAL


def printed(folder):
    """{title: {row label: [{header: our figure}, {header: published figure} where there are any]}} of a folder's table.md."""
    found = {}
    for section in (folder / "table.md").read_text("utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
        (_, *headers), rows, last = lines[0], found.setdefault(title, {}), ""
        for label, *figures in lines[2:]:
            last = last if label == "published" else label
            rows.setdefault(last, []).append(dict(zip(headers, figures, strict=True)))
    return found


def published(found):
    """{title: {row label: {header: published figure}}} of what `printed` found."""
    return {
        title: {label: {k: v for k, v in row[1].items() if v} for label, row in rows.items() if len(row) > 1}
        for title, rows in found.items()
    }


def written(name, arguments, folder, results=lambda cell: {}):
    """`printed` of a table whose cells have these results; and {title: {row label: cell}}."""
    grid = TABLES[name]
    config = load_config(grid.config, arguments)
    values = {cell: {metric: [value] for metric, value in results(cell).items()} for cell in grid.cells(config)}
    runner.write(grid, values, str(folder), config)
    return printed(folder), grid.tables(values)


def test_the_table_of_the_zoo_has_every_row_and_every_metric_that_tells_classes():
    assert set(TABLES["zoo"].cells(None)) == set(zoo.ROWS) == set(configs.zoo.ROWS)
    used = {name for row in configs.zoo.ROWS.values() for name in row["objectives"] if OBJECTIVES[name].labels}
    parts, given, number = ("{}_right", "wrong", "none", "gain_low", "chance"), {}, itertools.count(1)
    for name in used:
        given |= {f"objectives/{name}/{part.format(name)}": [next(number) / 1000] for part in parts}
        given[f"objectives/{name}/count"] = [next(number), next(number)]
    (table,) = zoo.objectives_of({"vilt": given, "clip": {"objectives/contrastive/contrastive_right": [0.5]}})
    assert [line[:2] for line in table.rows] == [["vilt", name] for name in sorted(used)]
    for _, name, *figures, count in table.rows:
        assert figures == [f"{100 * given[f'objectives/{name}/{part.format(name)}'][0]:.1f}" for part in parts]
        assert abs(float(count) - np.mean(given[f"objectives/{name}/count"])) <= 0.5 and len(table.headers) == 3 + len(parts)
    assert zoo.objectives_of({"clip": {"objectives/contrastive/contrastive_right": [0.5]}}) == []


@pytest.mark.parametrize(
    ("name", "arguments", "columns"),
    [
        ("crossmodal_bytes", "", BYTE_COLUMNS | DRAWN),
        ("crossmodal_bytes", "data=emoji", BYTE_COLUMNS | BAE),
        ("caption_vae_cl", "", CAPTION_COLUMNS),
        ("vqa_ume", "", answer_columns("exists", "color", "where", "count", "relation", "which")),
        ("vqa_ume", "data=vqa2", answer_columns("yes/no", "number", "other")),
        ("vqa_ume", "data=gqa", answer_columns()),
    ],
)
def test_every_figure_stands_in_its_row_and_under_its_header(name, arguments, columns, tmp_path):
    """Every metric of every cell has a value of its own, and so have metrics that no column shows."""
    others = [f"captioning/{metric}" for metric in ("bleu1", "rougeL", "meteor15", "cider")] + ["latent/kl", "retrieval/t2i_r1"]
    numbers, given = itertools.count(1), {}

    def results(cell):
        given[cell] = {metric: float(next(numbers)) for metric in (*columns.values(), *others)}
        return given[cell]

    found, rows = written(name, arguments, tmp_path, results)
    assert found.keys() == rows.keys() and {cell for shown in rows.values() for cell in shown.values()} == set(given)
    for title, labels in rows.items():
        for label, cell in labels.items():
            expected = {
                header: f"{given[cell][metric]:.2f}" if "gap" in header else f"{100 * given[cell][metric]:.1f}"
                for header, metric in columns.items()
            }
            assert found[title][label][0] == expected, (title, label)


def test_the_rouge_columns_show_what_they_are_called_after(tmp_path):
    """All words but in another order: ROUGE-1 is 1, of the longest common subsequence is one word of three."""
    scores = {f"captioning/{name}": value for name, value in caption_scores(["c b a"], [["a b c"]]).items()}
    found, _ = written("caption_vae_cl", "", tmp_path, lambda cell: scores)
    ours = found["Table 1: effect of VAE and CL"]["encoder-decoder"][0]
    assert (ours["ROUGE-1"], ours["ROUGE-L"], ours["BLEU-4"]) == ("100.0", "33.3", "0.0")


def test_the_captioning_tables_print_the_papers_figures(tmp_path):
    headers = ("BLEU-4", "ROUGE-1", "ROUGE-L", "METEOR")
    found, _ = written("caption_vae_cl", "scale=paper", tmp_path)
    assert published(found) == {
        title: {label: dict(zip(headers, figures.split()[1:], strict=True)) for label, figures in rows.items()}
        for title, rows in CAPTIONING.items()
    }


def test_the_answering_tables_print_the_sources_figures(tmp_path):
    def percent(figure):
        return str((100 * decimal.Decimal(figure)).quantize(decimal.Decimal("0.01"), decimal.ROUND_HALF_UP))

    found, _ = written("vqa_ume", "data=vqa2,scale=paper", tmp_path)
    assert published(found) == {
        title: {label: {"accuracy": " ± ".join(map(percent, figures.split()))} for label, figures in rows.items()}
        for title, rows in ANSWERING.items()
    }


def captioner(name):
    """What a cell of the captioning tables trains at the paper's scale, as the recipe gets it."""
    grid = TABLES["caption_vae_cl"]
    base = load_config(grid.config, "scale=paper")
    changes = dict(grid.cells(base)[name])
    arguments = changes.pop("arguments", None)
    config = runner.changed(base if arguments is None else load_config(grid.config, f"scale=paper,{arguments}"), changes)
    weights = tuple(config.objectives[name].weight for name in ("captioning", "kl", "contrastive"))
    return config, weights


def test_every_row_of_the_captioning_tables_trains_what_the_paper_says():
    grid = TABLES["caption_vae_cl"]
    rows = grid.tables(grid.cells(load_config(grid.config, "scale=paper")))
    plain, vae, both = (1.0, 0.0, 0.0), (0.7, 0.1, 0.0), (0.7, 0.1, 0.2)
    methods = {"+ VAE": (vae, "patch", 768), "+ VAE + CL": (both, "patch", 128), "encoder-decoder": (plain, "none", None)}
    methods["Dual-Encoder (retrieves)"] = (0.0, 0.0, 1.0), "none", None
    methods["C_EOS of the text alone"] = methods["+ VAE + CL"]
    for title, labels in CAPTIONING.items():
        for label, figures in labels.items():
            config, weights = captioner(rows[title][label])
            if ", " in label:
                kind, size = label.split(", ")
                methods[label] = (both if "CL" in title else vae), kind, int(size)
            expected, kind, size = methods[label]
            assert weights == expected and config.model.latent == kind, (title, label)
            assert size in (None, config.model.latent_size), (title, label)
            assert config.optimizer.learning_rate == float(figures.split()[0]), (title, label)
            assert config.model.eos_source == "text_only" and not config.examples.shuffled, (title, label)
            assert (config.model.decoder is None) == ("Dual" in label), (title, label)


def test_controls_of_the_captioning_tables_differ_from_their_row_in_one_thing():
    for name, of, key, value in (
        ("vae_cl-patch-128-literal", "vae_cl-patch-128", "model.eos_source", "decoder_final"),
        ("vae_cl-patch-128-shuffled", "vae_cl-patch-128", "examples.shuffled", True),
        ("vae_cl-patch-128-weak", "vae_cl-patch-128", "objectives.kl.weight", 0.001),
        ("vae-patch-128-weak", "vae-patch-128", "objectives.kl.weight", 0.001),
    ):
        assert captioner(name)[0].to_dict() == runner.changed(captioner(of)[0], {key: value}).to_dict(), name
    config, weights = captioner("baseline-cl")
    assert weights == (0.7, 0.0, 0.2) and config.model.latent == "none"


def test_each_seed_of_a_table_holds_out_another_fold():
    config = load_config("configs/pretrain.py", "data=emoji")
    config.data.update({"folds": 3, "fold": 1})
    made = [runner.config_of({"examples.third": 0.0}, config, None, "", seed) for seed in range(4)]
    assert [one.data.fold for one in made] == [1, 2, 0, 1] and [one.seed for one in made] == [0, 1, 2, 3]
    plain = load_config("configs/pretrain.py", "")
    assert runner.config_of({}, plain, None, "", 1).data.to_dict() == plain.data.to_dict()


def test_what_a_runs_step_costs_stands_in_its_row(tmp_path):
    """Beside its results, of which it is none: the median over its metrics, whatever is not known left out."""
    config = load_config("configs/zoo.py", "")
    assert runner.costs(str(tmp_path), config) == {}
    progress.write_costs(str(tmp_path), {"parameters": 2_000_000, "flops_per_example": 3e9, "memory_bytes": None})
    (tmp_path / "metrics.jsonl").write_text(
        "".join(f'{{"step": {n}, "examples_per_s": {r}}}\n' for n, r in enumerate((4, 32, 64)))
    )
    found = runner.costs(str(tmp_path), config)
    assert found == {"cost/parameters": 2.0, "cost/flops_per_example": 3.0, "cost/step_ms": 1000 * config.batch_size / 32}
    grid = TABLES["zoo"]
    runner.write(grid, {"vilt": {name: [value] for name, value in found.items()}}, str(tmp_path), config)
    row = printed(tmp_path)["All rows"]["vilt"][0]
    shown = [row[name] for name in ("parameters, M", "GFLOP an example, both ways", "step, ms", "step, MiB")]
    assert shown == ["2.00", "3.00", "2000.00", "-"]


def test_the_table_without_training_tells_what_models_are_made_of():
    config = load_config("configs/zoo.py", "scan,debug,image_size=16")
    config.model.text.width = config.model.image.width = 8
    head, rule, line = sizes.markdown({"scan": config}, zoo.GRID.of_models).splitlines()
    told = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    parts = recipe.make(config)
    params = jax.eval_shape(lambda: parts.model.init(jax.random.PRNGKey(0), parts.example_batch(1)))["params"]
    assert rule.count("---") == len(told)
    assert told["they meet in"] == "their vectors" and told["text"] == "gru 1" and "attended" in told["objectives"]
    assert float(told["parameters, M"]) == pytest.approx(sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6, abs=0.05)
    assert float(told["GFLOP a pair"]) > 0 and "none" in told["pre-trained on, when published |"]


def test_every_row_tells_what_it_was_trained_on():
    assert set(zoo.PRETRAINED_ON) == set(zoo.ROWS) == set(configs.zoo.ROWS)
