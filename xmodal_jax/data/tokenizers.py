"""Tokenisers learned from a data set's own captions, in the form of transformers, for models that start from nothing."""

import collections

import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.spelling import spelled

END, UNKNOWN = "<|endoftext|>", "<unk>"  # GPT-2's one special token begins, ends and pads
MASK = "<mask>"
BYTES = 256
# Of tokenizers' own regular expressions: letters with their marks and joiners (Hindi, Thai, Arabic, Persian ...), or a sign.
LETTERS = r"[\p{L}\p{N}_][\p{L}\p{N}\p{M}_\x{200c}\x{200d}]*"
FLAG = r"[\x{1f1e6}-\x{1f1ff}]{2}"
SIGN = r"[^\p{L}\p{N}_\s](?:[\p{M}\x{1f3fb}-\x{1f3ff}]|\x{200d}[^\p{L}\p{N}_\s])*"  # with its tint, or a family of them
WORD = rf"{LETTERS}(?:['’-]{LETTERS})*|{FLAG}|{SIGN}"

# GPT-2's pieces, within which pairs are merged, but for the marks, which that takes from their letters
PIECE = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}[\p{L}\p{M}\x{200c}\x{200d}]*| ?\p{N}+|"
    r" ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def learn_tokenizer(spec, captions):
    """A tokeniser from captions.

    Args:
      spec: "words" or "words:N", lower-cased words that stand in at least N (default 3) captions; "bpe:V", byte-level pairs
        (Sennrich et al., 2016; as GPT-2's) up to a vocabulary of V.
      captions: list of strings.
    Returns:
      A fast tokeniser of transformers; END has id 0, and is its only special token beside the unknown word of "words".
    """
    kind, _, number = spec.partition(":")
    if kind not in ("words", "bpe") or (number and not number.isdigit()) or (kind == "bpe" and not number):
        raise UserError(f"config.examples.tokenizer={spec!r}: write words, words:N, bpe:V, or a folder or name of a tokeniser.")
    if kind == "bpe" and int(number) <= BYTES:
        raise UserError(f"config.examples.tokenizer={spec!r}: bytes and the end alone are {BYTES + 1}; write bpe:V with more.")
    captions = [spelled(caption) for caption in captions]
    learned = words(captions, int(number or 3)) if kind == "words" else pairs(captions, int(number))
    from transformers import PreTrainedTokenizerFast

    unknown = {"unk_token": UNKNOWN} if kind == "words" else {}
    names = ["input_ids", "attention_mask"]  # a GPT-2 would add vectors of types
    return PreTrainedTokenizerFast(tokenizer_object=learned, eos_token=END, pad_token=END, model_input_names=names, **unknown)


def words(captions, least):
    """Whole words in lower case, the commonest first; a rarer one is UNKNOWN."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    lower = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    split = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\s+"), "removed"),
        pre_tokenizers.Split(Regex(WORD), "isolated"),
    ])  # fmt: skip
    found = ({word for word, _ in split.pre_tokenize_str(lower.normalize_str(caption))} for caption in captions)
    counts = collections.Counter(word for one in found for word in one)
    known = [word for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= least]
    if not known:
        raise UserError(
            f"No word stands in {least} of the {len(captions)} training captions: lower tokenizer=words:{least}, or take bpe:V "
            "for a language that puts no spaces between words."
        )
    vocabulary = {word: i for i, word in enumerate([END, UNKNOWN, *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = lower, split
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # words joined by spaces, none before a full stop
    return tokenizer


def pairs(captions, size):
    """Byte pairs."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECE), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def content_words(rows, common=0.3):
    """Ids that tell pictures apart: those in at most a share `common` of the pictures, or in one.

    Args:
      rows: for every picture, the list of id lists of its captions.
    Returns:
      frozenset of ids.
    """
    counts = collections.Counter(i for row in rows for i in set(np.concatenate([np.asarray(ids, int) for ids in row])))
    return frozenset(int(i) for i, count in counts.items() if count <= max(1, common * len(rows)))
