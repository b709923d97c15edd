"""How the examples of models whose texts and pictures meet are made: the settings, and which of them go together."""

import dataclasses

from xmodal_jax.data.captioning import CaptionExamples
from xmodal_jax.data.writing import KINDS, MASKING, vocabulary
from xmodal_jax.errors import UserError

MASKS = ("none", "random", "whole_word", "span")
OTHERS = ("none", "text")
SECONDS = ("none", "caption", "tags")
PAIR, TEXT, IMAGE = 0, 1, 2  # an example is a pair, or a text alone, or a picture alone


@dataclasses.dataclass(frozen=True)
class PairExamples(CaptionExamples):
    """How the examples of a fused model are made.

    Attributes:
      second: a text behind the caption, of a segment of its own: "caption", another one of the picture (VisualBERT, Li et al.,
        2019); "tags", the names of its objects (OSCAR, Li et al., 2020). second_length: words of it at most.
      other: "text": also a text that is the picture's own or, as often, another picture's, for the matching of both; of two
        texts the second is exchanged.
      masked: which words are masked: "none"; "random", each token by itself (BERT, Devlin et al., 2019); "whole_word", all
        tokens of a word together (ViLT, Kim et al., 2021); "span", runs of words of geometric lengths, about four on average,
        at most ten (SpanBERT, Joshi et al., 2020).
      joint: the words that are masked are those of `other`: one pass serves masked words, masked regions and matching.
      draw: of a joint pass, how often a row is drawn for matching, for masked words, for masked regions: only what it is drawn
        for is done to it (UNITER, Chen et al., 2020). Empty: all three, to every row (LXMERT, Tan and Bansal, 2019).
      mask_share: of the tokens, at least one. replaced, retained: shares of the masked tokens that become another word, and
        that stay; the others become the mask token.
      causal: share of the examples in which masked words are told from those before them alone, and the picture (Unified VLP,
        Zhou et al., 2020).
      mask_end: the closing mark is masked as words are: who writes by filling one mask after the other learns where to stop.
      text_alone, image_alone: shares of the examples whose picture, or whose text, is left out: of these, only what the rest
        tells is learned (UNIMO, Li et al., 2021; VL-BERT, Su et al., 2020; SimVLM, Wang et al., 2022).
      texts, pictures: where training takes these from in place of halves of pairs: a text file, a sentence a line, or a folder
        of such; a folder of pictures.
      written: a text that is written from another, one of `writing.KINDS`. Several, joined by +: one of them is drawn for each
        example, of those that it has what is needed for.
      views: 2: also another changed copy of the picture, and the caption with two words exchanged or one left out (DeCLIP, Li
        et al., 2022); both pictures are changed by flips, zoom and brightness.
      codes: numbers that stand for patches of `code_patch` pixels (`patch_codes`), 0: none; code_share: of the patches that are
        hidden (their pixels grey), at least one; 0: any number of them, evenly (X-LXMERT, Cho et al., 2020); below 0: none.
      cell_share: of the pictures in which all cells of one entry of a dictionary are hidden (SOHO, Huang et al., 2021).
      asked: share of the texts that are questions about the picture, of sources that have them, with the number of the usual
        answer (LXMERT); answers: the most frequent training answers, which can be given.
      groups: also give each picture a number of its own, by which a contrast with a queue knows it again.
      regions: boxes of a picture at most: those of its objects where the source has them, then those of a grid. 0: none.
      features: file or folder of what a detector found (`region_files`): regions and their features are those, and pictures are
        not changed in training. "": none.
      region_share: of the regions that are masked, at least one, 0: none; overlap: masked with them is what has an IoU above
        it, 1: no other. region_retained, region_replaced: shares of the masked regions that are shown all the same, and that
        show another picture's (LXMERT).
    """

    second: str = "none"
    second_length: int = 12
    other: str = "none"
    masked: str = "none"
    joint: bool = False
    draw: tuple = ()
    mask_share: float = 0.15
    replaced: float = 0.1
    retained: float = 0.1
    causal: float = 0.0
    mask_end: bool = False
    text_alone: float = 0.0
    image_alone: float = 0.0
    texts: str = ""
    pictures: str = ""
    written: str = "none"
    asked: float = 0.0
    answers: int = 1000
    groups: bool = False
    views: int = 1
    codes: int = 0
    code_patch: int = 8
    code_share: float = 0.4
    cell_share: float = 0.0
    regions: int = 0
    features: str = ""
    region_share: float = 0.15
    region_retained: float = 0.0
    region_replaced: float = 0.0
    overlap: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        for name, valid in {"masked": MASKS, "other": OTHERS, "second": SECONDS, "written": KINDS}.items():
            if unknown := set(self.kinds if name == "written" else [getattr(self, name)]) - set(valid):
                raise UserError(f"examples.{name}={min(unknown)!r}: must be one of {', '.join(valid)}.")
        if min(self.causal, self.text_alone, self.image_alone) < 0 or max(self.causal, self.text_alone + self.image_alone) > 1:
            raise UserError(
                f"examples.causal={self.causal}, text_alone={self.text_alone} and image_alone={self.image_alone} are shares of "
                "the examples, the last two together at most 1."
            )
        for name, share in (("texts", self.text_alone), ("pictures", self.image_alone)):
            if getattr(self, name) and not share:
                kind = {"texts": "text", "pictures": "image"}[name]
                raise UserError(f"examples.{name} are taken for a share of the examples: give examples.{kind}_alone.")
        if self.pictures and self.features:
            raise UserError("examples.pictures have no regions in examples.features: give one of both.")
        if self.views not in (1, 2):
            raise UserError(f"examples.views={self.views}: must be 1 or 2.")
        if self.codes and (self.image_size % self.code_patch or self.code_share > 1):
            raise UserError(
                f"examples.codes: code_patch={self.code_patch} must divide image_size={self.image_size}, and code_share be "
                "at most 1."
            )
        if self.codes and self.regions and self.regions != (self.image_size // self.code_patch) ** 2:
            raise UserError(
                f"examples.codes: the regions are the {(self.image_size // self.code_patch) ** 2} patches: examples.regions "
                "must be as many."
            )
        if not 0 < self.mask_share <= 1:
            raise UserError(f"examples.mask_share={self.mask_share} must lie within 0..1, and not be 0.")
        if not 0 <= self.region_share <= 1:
            raise UserError(f"examples.region_share={self.region_share} must lie within 0..1.")
        if min(self.region_retained, self.region_replaced) < 0 or self.region_retained + self.region_replaced > 1:
            raise UserError(
                f"examples.region_retained={self.region_retained} and region_replaced={self.region_replaced} are shares of the "
                "masked regions, together at most 1."
            )
        if min(self.replaced, self.retained) < 0 or self.replaced + self.retained > 1:
            raise UserError(
                f"examples.replaced={self.replaced} and retained={self.retained} are shares of the masked words, together at "
                "most 1."
            )
        if self.mask_end and (self.masked == "none" or self.second != "none"):
            raise UserError("examples.mask_end is of a text by itself whose words are masked: examples.masked, second=none.")
        if self.joint and "none" in (self.masked, self.other):
            raise UserError("examples.joint masks the words of the other text: it needs examples.masked and examples.other.")
        if self.features and (not self.regions or self.codes or self.flips != "none" or self.zoom > 1 or self.views > 1):
            raise UserError(
                "examples.features are of the pictures as they are: give examples.regions, flips=none and zoom=1, and neither "
                "codes nor views."
            )
        if self.draw and not (self.joint and len(self.draw) == 3 and min(self.draw) >= 0 < sum(self.draw)):
            raise UserError(
                f"examples.draw={self.draw}: three weights, of matching, words and regions, beside examples.joint=True."
            )

    @property
    def kinds(self):
        """Of what is written."""
        return self.written.split("+")

    @property
    def masks(self):
        """Whether the tokeniser needs a mask token."""
        return self.masked != "none" or bool({*self.kinds} & {*MASKING})

    @property
    def words(self):
        """Texts whose words are read or written beside those of the captions."""
        return vocabulary(self.kinds, self.regions)

    @property
    def asks(self):
        """Whether questions are read."""
        return bool(self.asked) or "answer" in self.kinds

    def wanted(self):
        """What a source has to give."""
        wanted = super().wanted()
        objects = (self.regions and not self.codes) or self.second == "tags"
        more = ("objects",) * bool(objects) + ("questions",) * self.asks
        return wanted | {"fields": (*wanted["fields"], *more)}
