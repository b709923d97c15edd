"""Miniatures of data sets as their authors hand them out, true to their quirks: each gives the captions or answers written."""

import json

import pytest

from tests.data.written import dump, lines, picture
from xmodal_jax.data.sources import SOURCES
from xmodal_jax.errors import UserError

SPLITS = ("train", "val", "test")


def coco_json(numbers, pattern, split):
    """COCO's own captions: sizes, licences, and captions that end in blanks and line ends."""
    images = [
        {"license": 4, "file_name": pattern.format(i), "coco_url": f"http://images/{i}", "height": 8, "width": 12, "id": i}
        for i in numbers
    ]
    notes = [{"image_id": i, "id": 100 * i + n, "caption": f"A dog {i} {n}. \n"} for n in range(5) for i in numbers]
    return {"info": {"description": f"COCO {split}"}, "licenses": [], "images": images, "annotations": notes}


def five(i):
    return [f"A dog {i} {n}." for n in range(5)]


def coco_official(root, year, images=""):
    found = {}
    for split, first in (("train", 9), ("val", 42)):
        pattern = f"COCO_{split}2014_{{:012d}}.jpg" if year == 2014 else "{:012d}.jpg"
        numbers = range(first, first + 12)
        dump(root / "annotations" / f"captions_{split}{year}.json", coco_json(numbers, pattern, split))
        dump(root / "annotations" / f"instances_{split}{year}.json", {"images": [], "annotations": [], "categories": []})
        for i in numbers:
            picture(root / f"{split}{year}" / pattern.format(i), i)
        found[split] = {pattern.format(i): five(i) for i in numbers}
    settings = {"annotations": root / "annotations" / f"captions_train{year}.json", "images": root / images}
    return "coco", settings, found


def coco_2014(root):
    return coco_official(root, 2014)


def coco_2017(root):
    return coco_official(root, 2017)


def coco_2017_by_the_folder_of_train(root):
    return coco_official(root, 2017, "train2017")


def coco_2017_by_the_file_of_val(root):
    kind, settings, found = coco_official(root, 2017, "val2017")
    return kind, settings | {"annotations": root / "annotations" / "captions_val2017.json"}, found


def coco_2014_by_the_folder_of_annotations(root):
    kind, settings, found = coco_official(root, 2014)
    return kind, settings | {"annotations": root / "annotations"}, found


def coco_2014_train_alone(root):
    kind, settings, found = coco_official(root, 2014)
    (root / "annotations" / "captions_val2014.json").unlink()
    return kind, settings, {"train+val": found["train"]}


def coco_2014_limits(root):
    kind, settings, found = coco_official(root, 2014)
    return kind, settings | {"limits": (23, 12, 11)}, {"count": {"train": 23, "val": 12, "test": 11}, "of": found}


def karpathy(root, images, name, settings=None):
    entries = []
    for i, (split, folder, file) in enumerate(images):
        picture(root / folder / file, i)
        sentences = [{"tokens": ["a"], "raw": text, "imgid": i, "sentid": 5 * i + n} for n, text in enumerate(five(i))]
        entry = {"sentids": [5 * i], "imgid": i, "sentences": sentences, "split": split, "filename": file}
        entries.append(entry | ({"filepath": folder, "cocoid": i} if "coco" in name else {}))
    dump(root / f"{name}.json", {"images": entries, "dataset": name.split("_")[1]})
    found = {
        split: {file: five(i) for i, (own, _, file) in enumerate(images) if own.replace("restval", "train") == split}
        for split in SPLITS
    }
    return "coco", {"annotations": root / f"{name}.json", "images": root} | (settings or {}), found


COCO_IMAGES = [
    ("test", "val2014", "COCO_val2014_000000391895.jpg"),
    ("restval", "val2014", "COCO_val2014_000000060623.jpg"),
    ("train", "train2014", "COCO_train2014_000000318556.jpg"),
    ("val", "val2014", "COCO_val2014_000000184613.jpg"),
]


def karpathy_coco(root):
    return karpathy(root, COCO_IMAGES, "dataset_coco")


def karpathy_coco_in_one_folder(root):
    made = karpathy(root, COCO_IMAGES, "dataset_coco", {"images": root / "all"})
    for _, folder, file in COCO_IMAGES:
        (root / "all").mkdir(exist_ok=True)
        (root / folder / file).rename(root / "all" / file)
    return made


def karpathy_flickr8k(root):
    images = [(split, "Flicker8k_Dataset", f"25{i}_d{i}.jpg") for i, split in enumerate(SPLITS)]
    return karpathy(root, images, "dataset_flickr8k", {"images": root / "Flicker8k_Dataset"})


def karpathy_flickr30k(root):
    images = [(split, "flickr30k_images", f"10{i}.jpg") for i, split in enumerate(SPLITS)]
    return karpathy(root, images, "dataset_flickr30k", {"images": root / "flickr30k_images"})


def karpathy_rsicd(root):
    images = [(split, "RSICD_images", f"airport_{i}.jpg") for i, split in enumerate(SPLITS)]
    return karpathy(root, images, "dataset_rsicd", {"images": root / "RSICD_images"})


def blip(root, name, folder):
    """Train: a line a caption; val and test: a line a picture."""
    found = {split: {f"{folder}/{split}_{i}.jpg": five(i) for i in range(3)} for split in SPLITS}
    for split, captions in found.items():
        for i, file in enumerate(captions):
            picture(root / file, i)
        flat = [{"caption": text, "image": f, "image_id": f"coco_{f}"} for f, texts in captions.items() for text in texts]
        dump(
            root / f"{name}_{split}.json",
            flat if split == "train" else [{"image": f, "caption": t} for f, t in captions.items()],
        )
    return found


def blip_coco(root):
    return "captions", {"path": root}, blip(root, "coco_karpathy", "val2014")


def blip_coco_by_its_file(root):
    found = blip(root, "coco_karpathy", "val2014")
    return "coco", {"annotations": root / "coco_karpathy_train.json", "images": root}, found


def blip_flickr30k(root):
    return "captions", {"path": root}, blip(root, "flickr30k", "flickr30k-images")


FLICKR = {f"100{i}_6{i}3b.jpg": five(i) for i in range(6)}


def flickr_pictures(folder):
    for i, name in enumerate(FLICKR):
        picture(folder / name, i)


def flickr8k(root):
    """With the lemmatised captions, the judgements, a picture that is not there, and lists of the splits."""
    flickr_pictures(root / "Flicker8k_Dataset")
    token = [f"{name}#{n}\t{text}" for name, texts in FLICKR.items() for n, text in enumerate(texts)]
    lines(root / "Flickr8k.token.txt", [*token, "2258277193_586949ec62.jpg.1#0\tpeople waiting for the subway"])
    lines(root / "Flickr8k.lemma.token.txt", [line.replace("dog", "do") for line in token])
    lines(root / "ExpertAnnotations.txt", ["100.jpg\t1.jpg#2\t1\t1\t1"])
    (root / "readme.txt").write_text("The training, dev and test set are in the files Flickr_8k.*Images.txt\n")
    names = list(FLICKR)
    for word, own in (("train", names[:3]), ("dev", names[3:4]), ("test", names[4:])):
        (root / f"Flickr_8k.{word}Images.txt").write_text("\n".join(own) + "\n")
    return "flickr", {"path": root}, _parted(names)


def _parted(names):
    groups = {"train": names[:3], "val": names[3:4], "test": names[4:]}
    return {split: {name: FLICKR[name] for name in own} for split, own in groups.items()}


def flickr8k_table(root):
    flickr_pictures(root / "Images")
    quoted = [f'{name},"{text[:-1]}, said ""he"" ."' for name, texts in FLICKR.items() for text in texts]
    lines(root / "captions.txt", ["image,caption", *quoted])
    found = {name: [f'{text[:-1]}, said "he" .' for text in texts] for name, texts in FLICKR.items()}
    return "flickr", {"path": root, "split_fractions": (1, 0, 0)}, {"train": found}


def flickr30k(root):
    flickr_pictures(root / "flickr30k-images")
    token = [f'{name}#{n}\t{text} "quoted' for name, texts in FLICKR.items() for n, text in enumerate(texts)]
    lines(root / "results_20130124.token", token)
    for split, names in (("train", list(FLICKR)[:3]), ("val", list(FLICKR)[3:4]), ("test", list(FLICKR)[4:])):
        lines(root / f"{split}.txt", [name.removesuffix(".jpg") for name in names])  # without their suffix
    parted = _parted(list(FLICKR))
    return "flickr", {"path": root}, {s: {n: [f'{t} "quoted' for t in v] for n, v in own.items()} for s, own in parted.items()}


def flickr30k_bars(root):
    """Its one line without the second bar."""
    flickr_pictures(root / "flickr30k_images" / "flickr30k_images")
    rows = [f"{name}| {n}| {text}" for name, texts in FLICKR.items() for n, text in enumerate(texts)]
    rows[9] = rows[9].replace("| 4| ", "| 4   ")
    lines(root / "flickr30k_images" / "results.csv", ["image_name| comment_number| comment", *rows])
    return "flickr", {"path": root, "split_fractions": (1, 0, 0)}, {"train": FLICKR}


def flickr30k_hub(root):
    flickr_pictures(root / "flickr30k-images")
    rows = [
        f'"{json.dumps(texts)}"'.replace('"', '""')[1:-1] + f',"[0, 1]",{split},{name},{i}'
        for split, own in _parted(list(FLICKR)).items() for i, (name, texts) in enumerate(own.items())
    ]  # fmt: skip
    lines(root / "flickr30k-images" / "flickr_annotations_30k.csv", ["raw,sentids,split,filename,img_id", *rows])
    return "captions", {"path": root}, _parted(list(FLICKR))


def vizwiz(root):
    found = {}
    for split, first in (("train", 1), ("val", 5), ("test", 9)):
        files = [f"VizWiz_{split}_{i:08d}.jpg" for i in range(first, first + 3)]
        images = [{"file_name": file, "id": first + n, "text_detected": True} for n, file in enumerate(files)]
        notes = [{"caption": t, "image_id": one["id"], "is_rejected": False} for one in images for t in five(one["id"])]
        dump(root / "annotations" / f"{split}.json", {"images": images} | ({"annotations": notes} if split != "test" else {}))
        for file in files:
            picture(root / split / file)
        found[split] = {one["file_name"]: five(one["id"]) for one in images}
    del found["test"]
    return "coco", {"annotations": root / "annotations" / "train.json", "images": root}, found


def vqa_v2(root, version="v2_"):
    found = {}
    for split, part in (("train", "train2014"), ("val", "val2014"), ("test", "test2015")):
        asks = [{"image_id": i, "question": f"Is it {i}?", "question_id": 1000 * i} for i in (9, 25)]
        dump(root / f"{version}OpenEnded_mscoco_{part}_questions.json", {"info": {}, "questions": asks})
        notes = [{
            "question_type": "is it", "multiple_choice_answer": "none", "answer_type": "other", "image_id": ask["image_id"],
            "question_id": ask["question_id"],
            "answers": [{"answer": "none", "answer_confidence": "yes", "answer_id": n} for n in range(1, 11)],
        } for ask in asks]  # fmt: skip
        if split != "test":
            dump(root / f"{version}mscoco_{part}_annotations.json", {"info": {}, "annotations": notes})
        for i in (9, 25):
            picture(root / part / f"COCO_{part}_{i:012d}.jpg", i)
        answers = ["none"] * 10 if split != "test" else []
        found[split] = {f"COCO_{part}_{i:012d}.jpg": {f"Is it {i}?": answers} for i in (9, 25)}
    return "vqa2", {"path": root}, found


def vqa_v1(root):
    return vqa_v2(root, "")


def gqa(root, parts=0):
    found = {}
    for split, name in (("train", "train"), ("val", "val"), ("test", "testdev")):
        entries = {
            f"{i:08d}": {
                "semantic": [{"operation": "select", "dependencies": [], "argument": "hat (7)"}], "entailed": [],
                "question": f"Is it {i}?", "imageId": f"n{name}{i}", "isBalanced": True, "groups": {"global": None},
                "answer": "no", "semanticStr": "", "annotations": {"answer": {}}, "types": {"structural": "verify"},
                "fullAnswer": "No",
            } for i in range(1, 5)
        }  # fmt: skip
        if parts:
            for part in range(parts):
                own = {key: entry for n, (key, entry) in enumerate(entries.items()) if n % parts == part}
                dump(root / "questions" / f"{name}_all_questions" / f"{name}_all_questions_{part}.json", own)
        else:
            dump(root / "questions" / f"{name}_balanced_questions.json", entries)
        for i in range(1, 5):
            picture(root / "images" / f"n{name}{i}.jpg", i)
        found[split] = {f"n{name}{i}.jpg": {f"Is it {i}?": ["no"]} for i in range(1, 5)}
    settings = {"path": root / "questions", "images": root / "images"}
    return "gqa", settings | ({"balanced": False} if parts else {}), found


def gqa_all(root):
    return gqa(root, 3)


def blip_vqa(root):
    found = {}
    for split in SPLITS:
        files = [f"{split}2014/COCO_{split}2014_{i:012d}.jpg" for i in range(3)]
        asks = [{"question_id": i, "question": f"Is it {i}?", "image": file, "dataset": "vqa"} for i, file in enumerate(files)]
        dump(root / f"vqa_{split}.json", [one | ({} if split == "test" else {"answer": ["no", "none"]}) for one in asks])
        for file in files:
            picture(root / file)
        found[split] = {f: {f"Is it {i}?": [] if split == "test" else ["no", "none"]} for i, f in enumerate(files)}
    dump(root / "answer_list.json", ["yes", "no"])
    return "questions", {"path": root}, found


MINIATURES = (
    coco_2014, coco_2017, coco_2017_by_the_folder_of_train, coco_2017_by_the_file_of_val,
    coco_2014_by_the_folder_of_annotations, coco_2014_train_alone, coco_2014_limits, karpathy_coco,
    karpathy_coco_in_one_folder, karpathy_flickr8k, karpathy_flickr30k,
    karpathy_rsicd, blip_coco, blip_coco_by_its_file, blip_flickr30k, flickr8k, flickr8k_table, flickr30k, flickr30k_bars,
    flickr30k_hub, vizwiz, vqa_v2, vqa_v1, gqa, gqa_all, blip_vqa,
)  # fmt: skip


def contents(source):
    """{name: captions, or {question: answers}}; and every picture can be decoded."""
    for i in range(len(source)):
        assert source[i]["image"].shape == (4, 4, 3)
    assert not source.bad
    if hasattr(source, "questions"):
        return {row.name: {one["question"]: one["answers"] for one in row.extra["questions"]} for row in source._rows}
    return {row.name: list(row.captions) for row in source._rows}


@pytest.mark.parametrize("make", MINIATURES)
def test_a_miniature_gives_what_is_written(tmp_path, make):
    kind, settings, found = make(tmp_path)

    def opened(split):
        return contents(SOURCES[kind](split=split, size=4, max_bad_fraction=0.5, **settings))

    if "count" in found:
        taken = {split: opened(split) for split in SPLITS}
        assert {split: sum(map(len, own.values())) for split, own in taken.items()} == found["count"]
        assert taken["train"].keys() <= found["of"]["train"].keys()
        assert taken["val"].keys() | taken["test"].keys() <= found["of"]["val"].keys()
        assert not taken["val"].keys() & taken["test"].keys()
    elif "train+val" in found:
        train, val = opened("train"), opened("val")
        assert train | val == found["train+val"] and not train.keys() & val.keys() and val
    else:
        for split, wanted in found.items():
            assert opened(split) == wanted, split
        for split in {*SPLITS} - {*found}:
            with pytest.raises(UserError, match=f"no (example in|file for) split '{split}'"):
                opened(split)


@pytest.mark.slow
@pytest.mark.parametrize("make", [coco_2017_by_the_folder_of_train, blip_coco, flickr8k, vqa_v2, gqa])
def test_a_miniature_trains_and_evaluates(tmp_path, make):
    from xmodal_jax.config import load_config
    from xmodal_jax.systems import recipe
    from xmodal_jax.train import loop

    kind, settings, _ = make(tmp_path / "data")
    name = "vqa" if kind in ("vqa2", "gqa") else "caption"
    given = {"annotations": "path"}
    arguments = ",".join(f"{given.get(key, key)}={value}" for key, value in settings.items())
    config = load_config(f"configs/{name}.py", f"debug,data={kind},{arguments}")
    config.total_steps, config.checkpoint_every, config.batch_size = 2, 2, 4
    config.examples.tokenizer, config.examples.image_size = "words:1", 64
    made = recipe.make(config, str(tmp_path / "run"))
    results = loop.train(made, str(tmp_path / "run"))
    assert len(made.held_out) and results
