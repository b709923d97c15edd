"""What a trained model does, in every system alike: one picture or many in, the same kinds of results out.

Pictures are examples of a source, or have any form that `data.images.rgb_of` takes: paths, bytes of files, Pillow images,
arrays [H, W, 3] of uint8 or of floats in 0..1. What is given for one picture comes back for one; of a list (or an array
[B, H, W, 3]) it comes back as a list, or as rows of an array.
"""

import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import to_read, together
from xmodal_jax.spelling import spelled

VERBS = {
    "caption": "(pictures, lang=None, returned=1, seed=0, **search) -> text",
    "answer": "(pictures, questions, returned=1) -> text",
    "fill": "(pictures, texts with ___) -> (word, log-probability)",
    "embed_images": "(pictures) -> unit vectors",
    "embed_texts": "(texts) -> unit vectors",
    "similarity": "(pictures, texts) -> cosines",
    "classify": "(pictures, labels, prompts=('{}',)) -> [(label, probability), ...]",
}
ALIGNED = ("embed_images", "embed_texts", "similarity", "classify")  # of pictures and texts with vectors of one space


BLANK = "___"


class Predictor:
    """The verbs of VERBS, as far as a system has them; rows are padded to a few batch sizes, so that little is compiled.

    A system implements `write_captions`, `write_answers`, `fill_blanks`, `pooled`, and says in `verbs` what an instance offers.

    Args:
      model, params: a module and its parameters; maker: what made the examples of its training.
      aligned: whether training brought pictures and texts together. objectives: {name: settings} of its training.
      title: what the model is, for people; store: (folder, params, weights) -> writes all of it there.
    """

    verbs = ()
    more = ()  # verbs of the system alone

    def __init__(self, model, params, maker, aligned=True, objectives=None, title="", store=None):
        self.model, self.params, self.maker, self.objectives = model, params, maker, objectives or {}
        self.aligned, self.title, self.store = aligned, title or type(model).__name__, store

    @property
    def params(self):
        """The parameters in the form that they are read fastest (`models.stacks`), which they are brought into at first use."""
        if self._given is not None:
            self._params, self._given = to_read(self._given), None
        return self._params

    @params.setter
    def params(self, params):
        self._params, self._given = None, params

    def __repr__(self):
        lines = [self.title, *(f"  .{verb}{VERBS[verb]}" for verb in VERBS if verb in self.verbs)]
        return "\n".join([*lines, f"  also .{', .'.join(self.more)}"] if self.more else lines)

    def caption(self, pictures, lang=None, returned=1, seed=0, **search):
        """A caption of every picture: a string, or a list of strings where `returned` is above 1.

        lang: of models of several languages. search: settings of `decoding.generation.Generation` (beams=4, or sample=True,
        top_p=0.9, ...), of models that search; returned: the n best, or with sample=True so many drawn ones.
        """
        self.need("caption")
        pictures, one = many(pictures)
        texts = self.write_captions(pictures, lang, returned, seed, **search) if pictures else []
        return shaped(texts, one, returned)

    def generate(self, pictures, **settings):
        """`caption` by its former name."""
        return self.caption(pictures, **settings)

    generate_batch = generate

    def answer(self, pictures, questions, returned=1, **settings):
        """The answer to every picture's question, or, where `returned` is above 1, a list of the likeliest ones.

        One question may be asked of many pictures, and many questions of one picture. settings: as `caption`'s search.
        """
        self.need("answer")
        pictures, questions, one = paired(pictures, questions, "questions")
        texts = self.write_answers(pictures, questions, returned, **settings) if pictures else []
        return shaped(texts, one, returned)

    def fill(self, pictures, texts):
        """The word for the first blank (`___`) of every text -> (word, log-probability)."""
        self.need("fill")
        pictures, texts, one = paired(pictures, texts, "texts")
        for text in texts:
            if BLANK not in text:
                raise UserError(f"The text {text!r} has no blank: write {BLANK} where the word is to be filled in.")
        found = self.fill_blanks(pictures, texts) if pictures else []
        return found[0] if one else found

    def embed_images(self, pictures):
        """Unit vectors of pictures, float32 [P] or [B, P]."""
        self.need("embed_images")
        pictures, one = many(pictures)
        vectors = self.pooled(seconds=pictures)[0]
        return vectors[0] if one else vectors

    def seen(self, pictures):
        """What an index keeps of a list of pictures: {"vector": unit vectors [B, P]}."""
        return {"vector": self.embed_images(pictures)}

    def embed_texts(self, texts):
        """Unit vectors of texts in the space of the pictures', float32 [P] or [B, P]."""
        self.need("embed_texts")
        vectors = self.pooled(texts=read([texts] if isinstance(texts, str) else texts, "texts"))[1]
        return vectors[0] if isinstance(texts, str) else vectors

    def similarity(self, pictures, texts):
        """Cosines of pictures and texts: [pictures, texts], without the axis of what was given as one."""
        self.need("similarity")
        return self.embed_images(pictures) @ self.embed_texts(texts).T

    def classify(self, pictures, labels, prompts=("{}",)):
        """Which of the labels every picture is likeliest to show: [(label, probability), ...], the likeliest first.

        Zero-shot, as CLIP (Radford et al., 2021): softmax of the cosines over the learned temperature. prompts: texts with {}
        for the label; the vectors of several are averaged.
        """
        self.need("classify")
        labels, prompts = list(labels), [prompts] if isinstance(prompts, str) else list(prompts)
        if not (labels and prompts) or not all("{}" in prompt for prompt in prompts):
            raise UserError(
                f"classify: give labels, and prompts with {{}} in the place of a label, not {labels} and {prompts}."
            )
        vectors = self.embed_texts([prompt.replace("{}", label) for label in labels for prompt in prompts])
        vectors = vectors.reshape(len(labels), len(prompts), -1).mean(1)  # [labels, P]
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        pictures, one = many(pictures)
        logits = float(self.scale()) * (self.embed_images(pictures) @ vectors.T)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)  # [B, labels]
        ranked = [[(labels[i], float(row[i])) for i in np.argsort(-row, kind="stable")] for row in shares]
        return ranked[0] if one else ranked

    def scale(self):
        """1 / temperature of the cosines."""
        return self.model.apply({"params": self.params}, method="scale")

    def need(self, verb):
        """Raise a UserError that names what the model offers, unless it offers this verb."""
        if verb in self.verbs:
            return
        known = ", ".join(name for name in VERBS if name in self.verbs)
        reason = " (it was trained without contrast)" if verb in ALIGNED and hasattr(self, "pooled") else ""
        raise UserError(f"{self.title}: this model has no {verb}{reason}. It has {known}.")

    def save_pretrained(self, folder, weights="float32"):
        """Write the whole model into a new folder that `api.load` opens: config.json, model.safetensors, README.md, the
        tokeniser, and what else it takes. Raises UserError where the folder holds something.

        weights: "float32", or "int8": matrices in eight bits, with a step for every output.
        """
        if self.store is None:
            raise UserError(f"{self.title}: made without the config that a folder needs; open it by xmodal_jax.api.load.")
        self.store(folder, together(self.params), weights)

    def push_to_hub(self, name, **settings):
        """Upload what `save_pretrained` writes as NAME on the hub; settings of `huggingface_hub.create_repo` (private, token).

        Returns its address.
        """
        import tempfile

        import huggingface_hub

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            huggingface_hub.create_repo(name, exist_ok=True, **settings)
            token = {"token": settings["token"]} if "token" in settings else {}
            return huggingface_hub.upload_folder(repo_id=name, folder_path=folder, **token)


def many(pictures):
    """-> (list of pictures, whether one was given)."""
    if isinstance(pictures, (list, tuple)):
        return list(pictures), False
    if getattr(pictures, "ndim", 0) == 4:
        return list(pictures), False
    return [pictures], True


def paired(pictures, texts, what):
    """-> (pictures, texts, whether one of each was given); what was given as one stands beside all of the others."""
    pictures, one = many(pictures)
    if isinstance(texts, str):
        return pictures, read([texts], what) * len(pictures), one
    texts = read(texts, what)
    pictures = pictures * len(texts) if one else pictures
    if len(pictures) != len(texts):
        raise UserError(f"{len(pictures)} pictures, but {len(texts)} {what}: give one, or one for each.")
    return pictures, texts, False


def read(texts, what):
    """Texts as training read its own; a UserError where one is no text."""
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise UserError(f"{what}: {wrong[0]!r} is no text.")
    return [spelled(text) for text in texts]


def shaped(texts, one, returned):
    """[[text] for each picture] as they were asked for: a text or `returned` of them, of one picture or of each."""
    texts = texts if returned > 1 else [row[0] for row in texts]
    return texts[0] if one else texts


def refuse(settings, what):
    """Raise a UserError where there are settings that a model does not have; what: it does instead."""
    if settings:
        raise UserError(f"This model {what}: it takes no {', '.join(settings)}.")


def round_up(value, step):
    """The next multiple of `step`."""
    return -(-value // step) * step


def round_up_rows(rows):
    """Batch sizes that programs are compiled for: powers of two."""
    return 1 << max(0, rows - 1).bit_length()
