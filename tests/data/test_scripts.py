"""Words of every script: marks stay with their letters, one spelling of what looks the same, halves of characters."""

import json
import unicodedata

import pytest
from PIL import Image

from xmodal_jax.data.answering import QuestionExamples, QuestionMaker
from xmodal_jax.data.captioning import CaptionExamples, CaptionMaker
from xmodal_jax.data.senses import Sense, TableInventory
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.questions import Questions
from xmodal_jax.data.tokenizers import UNKNOWN, learn_tokenizer
from xmodal_jax.decoding.byte_predictor import where
from xmodal_jax.interop.processing import encode, load_tokenizer
from xmodal_jax.metrics.tokens import caption_tokens
from xmodal_jax.spelling import well_formed

CAPTIONS = {
    "Hindi": "एक कुत्ता समुद्र तट पर दौड़ रहा है", "Bengali": "একটি কুকুর দৌড়াচ্ছে", "Tamil": "ஒரு நாய் கடற்கரையில் ஓடுகிறது",
    "Thai": "สุนัข วิ่ง บน ชายหาด", "Arabic": "كَلْبٌ يَجْرِي عَلَى الشَّاطِئِ", "Hebrew": "כֶּלֶב רָץ", "Persian": "سگ می\u200cدود",
    "Sinhala": "ක්\u200dරීඩා කරන බල්ලා", "Vietnamese": "một con chó chạy trên bãi biển", "Burmese": "ခွေးတစ်ကောင် ပြေးနေသည်",
    "Korean": "개가 해변에서 달린다", "French": "une forêt près d'un château", "Yoruba": "ajá kan ń sáré lọ́wọ́",
}  # fmt: skip


@pytest.mark.parametrize("script", CAPTIONS)
def test_words_keep_their_marks_and_every_spelling_is_the_same(script):
    caption = unicodedata.normalize("NFC", CAPTIONS[script])
    tokenizer = learn_tokenizer("words:3", [caption, unicodedata.normalize("NFD", caption), caption] * 2)
    ids = tokenizer(caption)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == caption.split() and tokenizer.decode(ids) == caption
    for form in ("NFD", "NFC"):
        assert tokenizer(unicodedata.normalize(form, caption))["input_ids"] == ids


@pytest.mark.parametrize("script", CAPTIONS)
def test_pairs_are_merged_across_marks(script):
    caption = unicodedata.normalize("NFC", CAPTIONS[script])
    tokenizer = learn_tokenizer("bpe:900", [caption] * 20)
    ids = tokenizer(unicodedata.normalize("NFD", caption))["input_ids"]
    assert tokenizer.decode(ids) == caption
    assert len(ids) == len(caption.replace("'", " ' ").split())  # every word has become one piece


@pytest.mark.parametrize("script", CAPTIONS)
def test_metrics_and_dictionaries_count_words_with_their_marks(script):
    caption = unicodedata.normalize("NFC", CAPTIONS[script])
    words = [word.replace("\u200c", "").replace("\u200d", "") for word in caption.split()]
    for form in ("NFC", "NFD"):
        told = caption_tokens(unicodedata.normalize(form, caption))
        assert told == words or script == "French" and told == ["une", "forêt", "près", "d'un", "château"]
    word = max(caption.split(), key=len).removeprefix("d'")
    start = caption.index(word)
    inventory = TableInventory({word: (Sense("only", "a gloss", ("other",)),)}, "xx")
    assert (start, start + len(word), word) in inventory.find(caption)
    assert where(unicodedata.normalize("NFC", word), caption).span() == (start, start + len(word))


def test_what_is_read_has_one_spelling(tmp_path):
    """Captions, questions and answers that look the same are the same; halves of characters are gone."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    lines = [{"image": "a.png", "captions": [unicodedata.normalize(form, "ein Café \ud83d"), "two"]} for form in ("NFC", "NFD")]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = Captions(path=tmp_path, split="train", val_fraction=0)
    assert set(source[0]["captions"]) == {"ein Café \ufffd", "two"}
    asked = [{"image": "a.png", "question": "wo?", "answer": unicodedata.normalize(form, "Büro")} for form in ("NFC", "NFD")]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))
    source = Questions(path=tmp_path, split="train", val_fraction=0)
    told = [(one["question"], *one["answers"]) for i in range(len(source)) for one in source[i]["questions"]]
    assert set(told) == {("wo?", "Büro")} and len(told) == 2


def test_signs_keep_what_modifies_them_and_apostrophes_stay_inside():
    caption = "I ❤️ dogs, 3 of them: don't!"
    tokenizer = learn_tokenizer("words:1", [caption])
    assert tokenizer.tokenize(caption) == ["i", "❤️", "dogs", ",", "3", "of", "them", ":", "don't", "!"]
    joined = "👩‍👩‍👧‍👦 🇰🇷🇩🇪 👍🏽 run"
    assert learn_tokenizer("words:1", [joined]).tokenize(joined) == ["👩‍👩‍👧‍👦", "🇰🇷", "🇩🇪", "👍🏽", "run"]
    assert caption_tokens("I ❤️ dogs") == ["i", "❤", "dogs"]


def test_a_kept_vocabulary_is_used_as_it_was_learned(tmp_path):
    """That of a run from before: its file says how words are told apart, marks from their letters."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    old = Tokenizer(models.WordLevel({"<|endoftext|>": 0, UNKNOWN: 1, "caf": 2, "e": 3}, unk_token=UNKNOWN))
    old.normalizer = normalizers.Lowercase()
    old.pre_tokenizer = pre_tokenizers.Split(Regex(r"\p{L}+|[^\p{L}\s]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=old, eos_token="<|endoftext|>", unk_token=UNKNOWN).save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path), fewest=0)("CAFe\u0301")["input_ids"] == [1, 1]
    assert load_tokenizer(str(tmp_path), fewest=0)("caf")["input_ids"] == [2]


BROKEN = ["a dog \ud83d runs", "\udc00", "\ud83d\ude00 smiles", "a \ud83d\ud83d\ude00 b", "end \ud800"]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("spec", ["words:1", "bpe:300"])
def test_halves_of_characters_cannot_crash(text, spec):
    whole = well_formed(text)
    assert whole.encode("utf-8").decode("utf-8") == whole and well_formed(whole) == whole
    tokenizer = learn_tokenizer(spec, [text, "a dog runs"])
    expected = tokenizer(whole)["input_ids"]
    maker = CaptionMaker(CaptionExamples(), tokenizer, None, content=())
    assert maker.ids(text) == expected and maker.caption(text)[1] == len(expected) + 1
    asked = QuestionMaker(QuestionExamples(), tokenizer, None, answers=["yes"])
    assert asked.text(text)[1] == len(expected) + 1
    assert encode(tokenizer, [text], 32)["mask"].sum() == len(expected)


def test_two_halves_that_belong_together_are_one_character():
    assert well_formed("\ud83d\ude00") == "😀" and well_formed("a\ud83db") == "a\ufffdb" and well_formed("plain") == "plain"
