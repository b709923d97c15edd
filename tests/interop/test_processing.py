"""Pixels and ids against transformers' own processors and tokenisers."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerFast

from xmodal_jax.data.images import decode_image, encode_png, picture_of
from xmodal_jax.errors import UserError
from xmodal_jax.interop.processing import IMAGENET, KINDS, MODEL_TYPES, ImageProcessor, defaults, encode, load_tokenizer, parse
from xmodal_jax.models.pixels import standardised

# The first versions 5 have only older classes, which refuse or ignore a few settings.
NEW = importlib.util.find_spec("transformers.models.vit.image_processing_pil_vit")
PLACE = "transformers.models.{0}.image_processing_pil_{0}" if NEW else "transformers.models.{0}.image_processing_{0}"
CLASSES = {
    kind: getattr(importlib.import_module(PLACE.format(kind.lower())), f"{kind}ImageProcessor{'Pil' if NEW else ''}")
    for kind in KINDS
    if kind != "Flava"  # by its defaults
}
CASES = [
    *((kind, {}) for kind in CLASSES),
    ("ViT", {"size": [30, 50], "do_rescale": False, "image_mean": 100.0, "image_std": 50.0}),
    ("CLIP", {"size": 33, "crop_size": 28, "do_normalize": False}),
    ("CLIP", {"do_resize": False, "crop_size": 45}),
    ("Siglip", {"size": {"height": 60, "width": 44}, "resample": 0, "rescale_factor": 1 / 127.5}),
    ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.7}),
    ("Vilt", {"size": {"shortest_edge": 64}, "size_divisor": 16}),
    ("Vilt", {"do_resize": False, "do_normalize": False}),
    ("EfficientNet", {"size": 40, "do_center_crop": True, "crop_size": 30, "rescale_offset": True, "rescale_factor": 2 / 255}),
    ("EfficientNet", {"include_top": False, "resample": 2}),
    ("EfficientNet", {"do_normalize": False, "do_rescale": False}),
    ("Beit", {"size": 50, "do_center_crop": True, "crop_size": {"height": 20, "width": 60}, "resample": 5}),
]  # fmt: skip
CASES += [
    ("ViT", {"size": {"shortest_edge": 40}, "resample": 1, "do_center_crop": True, "crop_size": {"height": 31, "width": 53}}),
    ("ViT", {"size": {"shortest_edge": 48, "longest_edge": 60}, "do_center_crop": True, "crop_size": 60}),
    ("ConvNext", {"size": 32, "do_center_crop": True, "crop_size": 20}),
    ("Siglip", {"size": 40, "do_center_crop": True, "crop_size": 44}),
] if NEW else []  # fmt: skip


def pictures(rng):
    """Noise in a portrait, a landscape, a tiny picture and a square, and two of odd sizes."""
    shapes = [(71, 40), (45, 83), (3, 4), (60, 60), rng.integers(30, 70, 2), rng.integers(30, 70, 2)]
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def theirs(processor, images):
    """float32 [B, h, w, 3], bool [B, h, w] or None."""
    out = processor(images, return_tensors="np", do_convert_rgb=True, input_data_format="channels_last")
    return out["pixel_values"].transpose(0, 2, 3, 1), out.get("pixel_mask")


def check(ours, processor, images):
    expected, mask = theirs(processor, images)
    got = ours(images)
    assert got["image"].dtype == np.float32 and ("mask" in got) == (mask is not None)
    np.testing.assert_allclose(got["image"], expected, rtol=0, atol=1e-6)
    if mask is not None:
        assert got["mask"].dtype == bool
        np.testing.assert_array_equal(got["mask"], mask.astype(bool))
    return got["image"]


def write(folder, values, name="preprocessor_config.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(values if isinstance(values, str) else json.dumps(values))
    return folder


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_pixels_are_those_of_transformers_there_and_back(kind, settings, tmp_path, rng):
    original, images = CLASSES[kind](**settings), pictures(rng)
    original.save_pretrained(tmp_path / "theirs")
    ours = ImageProcessor.from_folder(tmp_path / "theirs")
    pixels = check(ours, original, images)

    ours.to_folder(tmp_path / "ours")
    assert ImageProcessor.from_folder(tmp_path / "ours") == ours
    back = AutoImageProcessor.from_pretrained(tmp_path / "ours")
    assert type(back) is CLASSES[kind]
    np.testing.assert_array_equal(theirs(back, images)[0], pixels)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("suffix", ["ImageProcessor", "ImageProcessorFast", "FeatureExtractor"])
def test_old_files_and_missing_values(kind, suffix, tmp_path, rng):
    key = "feature_extractor_type" if suffix == "FeatureExtractor" else "image_processor_type"
    values = {"size": 40, "crop_size": 36, "image_mean": [0.1, 0.2, 0.3], "do_center_crop": None, "size_divisor": 16}
    if kind == "Siglip":
        values["size"] = {"height": 40, "width": 40}
    original = CLASSES[kind](**values)
    ours = ImageProcessor.from_folder(write(tmp_path, values | {key: kind + suffix, "processor_class": "X", "device": None}))
    for image in pictures(rng):
        check(ours, original, [image])


def test_null_stands_for_the_value_of_the_class(tmp_path):
    values = {"image_processor_type": "ConvNextImageProcessor", "size": 224, "image_mean": [0.485, 0.456, 0.406]}
    values |= {"image_std": [0.229, 0.224, 0.225], "crop_pct": None, "resample": None, "do_pad": None, "crop_size": None}
    assert ImageProcessor.from_folder(write(tmp_path, values)) == defaults("resnet")


def test_the_file_of_all_processors_comes_first_and_is_kept_in_step(tmp_path, rng):
    original = CLASSES["CLIP"](size=50, crop_size=50)
    write(tmp_path, {"image_processor_type": "ViTImageProcessor"})
    write(tmp_path, {"image_processor": original.to_dict(), "processor_class": "CLIPProcessor"}, "processor_config.json")
    check(ImageProcessor.from_folder(tmp_path), original, pictures(rng))
    new = dataclasses.replace(ImageProcessor.from_folder(tmp_path), crop_size=(40, 30))
    new.to_folder(tmp_path)
    assert ImageProcessor.from_folder(tmp_path) == new
    check(new, AutoImageProcessor.from_pretrained(tmp_path), pictures(rng))


def test_a_file_without_a_type_asks_the_model_config(tmp_path):
    with pytest.raises(UserError, match="defaults"):
        ImageProcessor.from_folder(tmp_path)
    write(tmp_path, {"size": 32})
    with pytest.raises(UserError, match="None.*CLIP"):
        ImageProcessor.from_folder(tmp_path)
    write(tmp_path, {"model_type": "resnet"}, "config.json")
    assert ImageProcessor.from_folder(tmp_path).kind == "ConvNext"


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_defaults_pass_through_transformers(model_type, tmp_path, rng):
    ours = defaults(model_type)
    ours.to_folder(tmp_path)
    pixels = check(ours, AutoImageProcessor.from_pretrained(tmp_path), pictures(rng)[:2])
    assert ours.do_pad or pixels.shape[1] == pixels.shape[2]


def test_defaults_have_the_known_numbers():
    assert defaults("vit").size == {"height": 224, "width": 224} and defaults("vit").image_std == (0.5, 0.5, 0.5)
    clip, vgg, resnet = defaults("clip"), defaults("vgg"), defaults("resnet")
    assert clip.image_mean[0] == 0.48145466 and clip.resample == 3 and clip.crop_size == (224, 224)
    assert vgg.size == {"shortest_edge": 256} and vgg.resample == 2 and vgg.image_mean == (0.485, 0.456, 0.406)
    assert resnet.crop_pct == 0.875 and resnet.resample == 3 and resnet.size == {"shortest_edge": 224}
    with pytest.raises(UserError, match="vitt"):
        defaults("vitt")


def test_grey_transparent_and_palette_pictures(rng):
    ours, original = defaults("clip"), CLASSES["CLIP"]()
    colour = Image.fromarray(pictures(rng)[0])
    transparent = colour.copy()
    transparent.putalpha(Image.fromarray(rng.integers(0, 256, (71, 40), np.uint8)))
    modes = [colour.convert("L"), colour.convert("P"), colour.convert("CMYK"), colour.convert("1")]
    check(ours, original, modes)
    if NEW:
        check(ours, original, [transparent, transparent.convert("LA")])
        check(ours, original, [np.asarray(transparent), np.asarray(modes[0])[..., None]])
    assert (defaults("vit")(Image.new("RGBA", (5, 5)))["image"] == 1).all()
    np.testing.assert_array_equal(ours([np.asarray(modes[0])])["image"], ours(modes[:1])["image"])
    np.testing.assert_array_equal(ours(colour)["image"], ours([np.asarray(colour)])["image"])
    np.testing.assert_array_equal(ours(np.asarray(colour))["image"], ours([colour])["image"])


@pytest.mark.parametrize("model_type", ["vit", "clip", "resnet", "vilt", "efficientnet", "align"])
def test_unnormalise_gives_the_colours_back(model_type, rng):
    ours = dataclasses.replace(defaults(model_type), do_resize=False, do_center_crop=False)
    picture = rng.integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(ours.unnormalise(ours([picture])["image"])[0], picture)
    raw = dataclasses.replace(ours, do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(raw.unnormalise(raw([picture])["image"])[0], picture)
    assert ours.unnormalise(np.full((1, 1, 3), 99.0)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "JSON"),
        ("[1]", "JSON"),
        ({"image_processor_type": "SamImageProcessor"}, "SamImageProcessor.*supported.*Vilt"),
        ({"size": {"longest_edge": 3}}, "shortest_edge"),
        ({"size": "224"}, "no sense"),
        ({"size": 0}, "size"),
        ({"resample": 9}, "9"),
        ({"image_mean": [0.5, 0.5]}, "no sense"),
        ({"image_std": [0.5, 0.5, 0]}, "above zero"),
        ({"do_resize": "yes"}, "true or false"),
        ({"do_center_crop": True}, "crop_size"),
        ({"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0}, "above zero"),
        ({"image_processor_type": "ViltImageProcessor", "size": {"height": 9, "width": 9}}, "shortest_edge"),
    ],
)
def test_broken_files_are_named(values, message, tmp_path):
    if isinstance(values, dict):
        values = {"image_processor_type": "ViTImageProcessor"} | values
    with pytest.raises(UserError, match=message) as error:
        ImageProcessor.from_folder(write(tmp_path, values))
    assert "preprocessor_config.json" in str(error.value)


def test_pictures_that_are_none(tmp_path, rng):
    ours = defaults("vit")
    for bad in (np.full((4, 4, 3), 9.0), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), Image.new("L", (0, 4))):
        with pytest.raises(UserError, match="Picture 1"):
            ours([pictures(rng)[0], bad])
    with pytest.raises(UserError, match="cat.jpg: there is no such file"):
        ours([pictures(rng)[0], "cat.jpg"])
    with pytest.raises(UserError, match="empty"):
        ours([])
    with pytest.raises(UserError, match="elongated"):
        defaults("vilt")([np.zeros((2, 900, 3), np.uint8)])
    with pytest.raises(UserError, match="elongated"):
        defaults("clip")([np.zeros((1, 5000, 3), np.uint8)])
    with pytest.raises(UserError, match="different sizes"):
        dataclasses.replace(defaults("clip"), do_center_crop=False)(pictures(rng))
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(UserError, match="truncated"):
        ours([Image.open(tmp_path / "a.png")])


TEXTS = ["a red bus waits in the street", "two dogs", "", "Ein grüner Vogel, 12 Äpfel!", "bus " * 40]


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def byte_pairs(special, post=None, **names):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    if post:
        tokenizer.post_processor = post
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


TOKENISERS = {
    "bert": wordpiece,
    "gpt2": lambda: byte_pairs(["<|endoftext|>"], eos_token="<|endoftext|>"),
    "roberta": lambda: byte_pairs(
        ["<s>", "<pad>", "</s>"],
        processors.RobertaProcessing(("</s>", 2), ("<s>", 0)),
        bos_token="<s>", eos_token="</s>", pad_token="<pad>",
    ),
    "clip": lambda: byte_pairs(
        ["<start>", "<end>"],
        processors.RobertaProcessing(("<end>", 1), ("<start>", 0)),
        bos_token="<start>", eos_token="<end>", pad_token="<end>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENISERS)
def test_ids_are_those_of_the_tokeniser(kind, tmp_path):
    original = TOKENISERS[kind]()
    original.padding_side = "left"
    original.save_pretrained(tmp_path)
    tokenizer, length = load_tokenizer(tmp_path), 16
    out = encode(tokenizer, TEXTS, length)
    assert out["ids"].shape == out["mask"].shape == (len(TEXTS), length)
    assert out["ids"].dtype == np.int32 and out["mask"].dtype == bool
    lengths = []
    for text, ids, mask in zip(TEXTS, out["ids"], out["mask"], strict=True):
        expected = original(text, truncation=True, max_length=length)["input_ids"]
        lengths.append(len(expected))
        assert ids[mask].tolist() == expected and mask.tolist() == [True] * len(expected) + [False] * (length - len(expected))
        pad = original.eos_token_id if kind == "gpt2" else original.pad_token_id
        assert (ids[~mask] == pad).all()
    assert lengths[-1] == length and min(lengths) == {"gpt2": 0}.get(kind, 2)
    if kind != "gpt2":
        padded = AutoTokenizer.from_pretrained(tmp_path, padding_side="right")
        padded = padded(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="np")
        np.testing.assert_array_equal(out["ids"], padded["input_ids"])
        np.testing.assert_array_equal(out["mask"], padded["attention_mask"])
    assert encode(tokenizer, [], 5)["ids"].shape == (0, 5)
    np.testing.assert_array_equal(encode(tokenizer, TEXTS[0], length)["ids"], out["ids"][:1])


def test_tokenisers_that_are_none(tmp_path):
    config, broken = tmp_path / "config", tmp_path / "broken"
    write(config, {"model_type": "bert"}, "config.json")
    write(broken, "{", "tokenizer.json")
    for folder in (tmp_path / "none", tmp_path, config, broken):
        with pytest.raises(UserError, match="tokenizer.json"):
            load_tokenizer(folder)


def test_vocabulary_files_are_enough(tmp_path):
    write(tmp_path, {"model_type": "vilt"}, "config.json")
    write(tmp_path, "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "run", "##s"]), "vocab.txt")
    assert encode(load_tokenizer(tmp_path), ["a dog runs"], 7)["ids"].tolist() == [[2, 5, 6, 7, 8, 3, 0]]


def test_no_padding_token_and_no_room():
    with pytest.raises(UserError, match="pad_token"):
        encode(byte_pairs([]), TEXTS, 8)
    with pytest.raises(UserError, match="2 special tokens"):
        encode(wordpiece(), TEXTS, 2)


@pytest.mark.parametrize(
    ("kind", "settings", "mode"),
    [
        ("ViT", {"size": 40}, "resize-bilinear"),
        ("ViT", {"size": 40, "image_mean": [0.2, 0.3, 0.4], "image_std": 0.3, "rescale_factor": 1 / 127.5}, "resize-bilinear"),
        ("ViT", {"size": 40, "do_normalize": False, "resample": 1}, "resize-lanczos"),
        ("DeiT", {"size": 50, "crop_size": 40}, "resize-bicubic-50/40"),
        ("CLIP", {"size": 40, "crop_size": 40}, "crop-bicubic"),
        ("Bit", {"size": 50, "crop_size": 40, **IMAGENET}, "crop-bicubic-50/40"),
        ("ConvNext", {"size": {"shortest_edge": 40}, "crop_pct": 0.8}, "crop-bicubic-50/40"),
        ("Siglip", {"size": {"height": 40, "width": 40}}, "resize-bicubic"),
    ],
)
def test_a_model_is_shown_the_squares_that_a_processor_makes(kind, settings, mode, rng):
    original = CLASSES[kind](**settings)
    seen = parse(kind, json.loads(original.to_json_string()), kind).as_square()
    assert (seen["image_size"], seen["mode"]) == (40, mode)
    for picture in pictures(rng):
        expected, _ = theirs(original, [picture])
        squares = [decode_image(encode_png(picture), 40, seen["mode"]), picture_of(picture, 40, seen["mode"])]
        for square in squares:
            np.testing.assert_allclose(standardised(square, seen["mean"], seen["std"], "float32"), expected[0], atol=1e-6)
