"""How examples of the crossmodal byte language model are made: its settings, and the bytes of the second modality."""

import dataclasses

import numpy as np

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data.augment import FLIPS
from xmodal_jax.errors import UserError

CHOICES = {
    "second": ("image", "audio", "series", "none"),
    "image_bytes": ("raw", "file"),
    "third_from": ("own", "all"),
    "attributes": ("masked", "told"),
}


@dataclasses.dataclass(frozen=True)
class ByteExamples:
    """How training examples are made (claims 1, 5, 6, 7). Shares and probabilities lie in 0..1.

    Attributes:
      second: the modality beside text: "image", "audio", "series" (example key `series`: numbers) or "none".
      image_bytes: "raw" (RGB values in patch order) or "file" (bytes of the encoded file, nothing decoded before the model).
      image_size, patch: pixels; raw images are image_size x image_size. mode: how they are made square, see
        `data.images.decode_image`.
      file_length, audio_length: bytes kept of a file; of PCM sound or a series.
      text_length, target_length, caption_length: T, S and C in bytes.
      caption_share, answer_share: rows that ask for a caption or an answer; the rest fill masked words.
      beside: what every row asks for beside its own task, of ("caption", "answer"), so that one picture teaches all of it; of a
        question question_length and answer_length bytes are kept.
      caption_gaps: the prompt of a caption ends with so many gaps, and the caption says which of them each of its things fills,
        as targets of masked words do, so that each gap can look at a thing of its own: 0 or 2.
      answer_gap: a question ends with a gap, which its answer fills as a masked word would: it can look for what is asked.
      mask_most: a first text has 1..mask_most different things masked.
      attributes: what becomes of words for what a thing is like, where a source mentions them: "masked" as words for things
        are, or "told": left standing, and told with the thing by what its word is associated with.
      mask_span: sentinels per masked word: 1, or a length-blind span of so many.
      third, gloss: probability that a row gets third-modality text (claim 5) or a dictionary gloss (claims 6, 7).
      third_from: "own" takes third texts from the image's other captions, "all" also from images that share an entity.
      gloss_threshold: a sense scored lower adds nothing (noise filter, claim 7); below 0: the scorer's own.
      drop_second: probability that a fill row goes without its second modality.
      flips, zoom, brightness: of training pictures that are given as raw pixels, see `augment`.
    """

    second: str = "image"
    image_bytes: str = "raw"
    image_size: int = 64
    mode: str = "resize"
    patch: int = 8
    file_length: int = 4096
    audio_length: int = 8000
    text_length: int = 128
    target_length: int = 64
    caption_length: int = 64
    caption_share: float = 0.15
    answer_share: float = 0.15
    beside: tuple = ()
    answer_gap: bool = False
    caption_gaps: int = 0
    question_length: int = 56
    answer_length: int = 16
    mask_most: int = 1
    attributes: str = "masked"
    mask_span: int = 1
    third: float = 0.5
    third_from: str = "own"
    gloss: float = 0.5
    gloss_threshold: float = -1.0
    drop_second: float = 0.1
    flips: str = "none"
    zoom: float = 1.0
    brightness: float = 0.0

    def __post_init__(self):
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise UserError(f"examples.{field}={getattr(self, field)!r}: must be one of {', '.join(choices)}.")
        if self.flips not in FLIPS:
            raise UserError(f"examples.flips={self.flips!r}: must be one of {', '.join(FLIPS)}.")
        if self.zoom < 1 or not 0 <= self.brightness <= 1:
            raise UserError(f"examples.zoom={self.zoom} must be at least 1, examples.brightness={self.brightness} within 0..1.")
        if self.changes and (self.second, self.image_bytes) != ("image", "raw"):
            raise UserError("examples.flips, zoom and brightness change raw pixels: examples.second=image, image_bytes=raw.")
        for field in ("caption_share", "answer_share", "third", "gloss", "drop_second"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"examples.{field}={getattr(self, field)}: must lie between 0 and 1.")
        if unknown := set(self.beside) - {"caption", "answer"}:
            raise UserError(f"examples.beside: {sorted(unknown)[0]!r} is neither caption nor answer.")
        for field in ("text_length", "target_length", "caption_length", "question_length", "answer_length"):
            if getattr(self, field) < 2:
                raise UserError(f"examples.{field}={getattr(self, field)}: must be at least 2, a byte and the end mark.")
        if self.caption_gaps not in (0, 2):
            raise UserError(f"examples.caption_gaps={self.caption_gaps}: must be 0 or 2.")
        if self.caption_share + self.answer_share > 1:
            raise UserError("examples.caption_share + examples.answer_share: together at most 1.")
        if self.image_bytes == "raw" and self.image_size % self.patch:
            raise UserError(f"examples.image_size={self.image_size} is no multiple of examples.patch={self.patch}.")

    @property
    def asks(self):
        """Whether any row asks a question."""
        return self.answer_share > 0 or "answer" in self.beside

    @property
    def changes(self):
        """Whether training pictures are changed."""
        return self.flips != "none" or self.zoom > 1 or self.brightness > 0

    @property
    def second_length(self):
        """L: bytes of the second modality in a row."""
        raw = self.image_size**2 * 3
        image = raw if self.image_bytes == "raw" else self.file_length
        return {"image": image, "audio": self.audio_length, "series": self.audio_length, "none": 0}[self.second]

    def wanted(self):
        """What a source has to give: settings of its constructor, as far as it has them."""
        fields = ["captions"] + ["image"] * (self.second == "image") + ["questions"] * self.asks
        return {
            "size": self.image_size,
            "mode": self.mode,
            "file_bytes": self.second == "image" and self.image_bytes == "file",
            "fields": tuple(fields + ["objects"] * (self.second in ("image", "audio")) + ["audio"] * (self.second == "audio")),
        }

    def second_modality(self, example):
        """-> (uint8 [L], used bytes); used is 0 where the example has none."""
        key = {"image": "image_file" if self.image_bytes == "file" else "image"}.get(self.second, self.second)
        value = example.get(key)
        if value is None:
            return np.zeros(self.second_length, np.uint8), 0
        if self.second == "audio":
            raw = byte_ids.audio_bytes(value)
        elif self.second == "series":
            raw = byte_ids.series_bytes(value)
        elif key == "image_file":
            raw = np.frombuffer(value, np.uint8)
        else:
            if value.shape != (self.image_size, self.image_size, 3):
                raise UserError(
                    f"{example['id']}: picture of shape {value.shape}, but examples.image_size={self.image_size} wants "
                    f"({self.image_size}, {self.image_size}, 3): give the source the same size."
                )
            raw = byte_ids.image_bytes(value, self.patch)
        return byte_ids.fit(raw, self.second_length)
