"""The verbs of one architecture bound to parameters, as objectives and evaluators use them."""

import jax

from xmodal_jax.errors import UserError
from xmodal_jax.models import lora

VERBS = ("encode_image", "encode_text", "encode_sound", "fuse", "decode", "refer")  # which take `train`


class Verbs:
    """`verbs.encode_text(ids)` applies the model's verb; equal calls within one trace are computed once.

    Args:
      key: for dropout and latents (train=True); every different call folds in its own number.
      teacher: parameters of the same model that a loss may compare with, or None: then the model's own `teacher`, if any.
      memory: {objective: what it remembers}, or None; `kept` is what they leave to the next step.
      step: number of the training step, or None.
    """

    def __init__(self, model, params, key=None, train=False, teacher=None, memory=None, step=None):
        self.model, self.params, self.key, self.train = model, lora.merge(params), key, train
        self.step, self.kept = step, {}
        if teacher is None and getattr(model, "teacher", None) is not None:
            teacher = Verbs(model.teacher, jax.lax.stop_gradient(self.params["teacher"]))
        self._done, self._teacher, self._memory = {}, teacher, memory or {}

    def recalled(self, objective):
        """What an objective remembers, or None."""
        return self._memory.get(objective)

    def keep(self, objective, memory):
        """What it will remember at the next step."""
        self.kept[objective] = memory

    @property
    def has_teacher(self):
        """Whether there is one."""
        return self._teacher is not None

    def teacher(self):
        """The verbs of the teacher, without dropout. UserError where there is none."""
        if self._teacher is None:
            raise UserError("An objective needs a teacher, which this model does not have.")
        if not isinstance(self._teacher, Verbs):
            self._teacher = Verbs(self.model, jax.lax.stop_gradient(self._teacher))
        return self._teacher

    def once(self, function, *arrays):
        """function(*arrays), computed once within one trace."""
        known = (function, None, tuple(map(id, arrays)))
        if known not in self._done:
            self._done[known] = function(*arrays), arrays
        return self._done[known][0]

    def watched(self, verb, *args):
        """The weights of attention, a tree after the model's modules, with which it computes `verb(*args)`, without dropout."""
        return self.model.apply({"params": self.params}, *args, method=verb, mutable="attention")[1]["attention"]

    def states(self, verb, *args, **kwargs):
        """What each layer gives in `verb(*args)`, a tree after the model's modules, without dropout."""
        given = {"params": self.params}
        return self.model.apply(given, *args, **kwargs, method=verb, mutable="intermediates")[1]["intermediates"]

    def __getattr__(self, verb):
        if verb.startswith("_") or not offers(self.model, verb):
            raise UserError(f"The model {type(self.model).__name__} offers no verb {verb!r}; it has {offered(self.model)}.")

        def call(*args, **kwargs):
            leaves, shape = jax.tree.flatten((args, kwargs))
            known = (verb, shape, tuple(map(id, leaves)))
            if known not in self._done:
                rngs = None
                if verb in VERBS:
                    kwargs = {"train": self.train, **kwargs}
                    if self.train and self.key is not None:
                        key = jax.random.fold_in(self.key, len(self._done))
                        rngs = {"dropout": key, "latent": jax.random.fold_in(key, 1)}
                result = self.model.apply({"params": self.params}, *args, **kwargs, method=verb, rngs=rngs)
                self._done[known] = result, leaves  # the leaves stay alive, so that their ids stay theirs
            return self._done[known][0]

        return call


def offered(model):
    """The verbs that an architecture has, as it was composed."""
    return tuple(verb for verb in VERBS if offers(model, verb))


def offers(model, verb):
    """Whether it has one; `lacking`, where a class has that, names those that an instance goes without."""
    return hasattr(model, verb) and verb not in getattr(model, "lacking", ())
