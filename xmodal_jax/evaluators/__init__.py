"""Evaluators by name: `run(predictor) -> ({metric: value}, [samples for the report])`. The loop and evaluate.py use them."""

import inspect

from xmodal_jax.config import choose, unknown
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.answering import AnsweringEvaluator
from xmodal_jax.evaluators.captioning import CaptioningEvaluator
from xmodal_jax.evaluators.drawing import DrawingEvaluator
from xmodal_jax.evaluators.flow import FlowEvaluator
from xmodal_jax.evaluators.generation import GenerationEvaluator
from xmodal_jax.evaluators.grounding import GroundingEvaluator
from xmodal_jax.evaluators.latent import LatentEvaluator
from xmodal_jax.evaluators.masked import MaskedEvaluator
from xmodal_jax.evaluators.objectives import ObjectivesEvaluator
from xmodal_jax.evaluators.refer import ReferEvaluator
from xmodal_jax.evaluators.retrieval import RetrievalEvaluator
from xmodal_jax.evaluators.sense import EmojiSenseEvaluator, SenseEvaluator, UnseenSenseEvaluator

EVALUATORS = {
    "sense": SenseEvaluator,
    "sense_unseen": UnseenSenseEvaluator,
    "sense_emoji": EmojiSenseEvaluator,
    "masked": MaskedEvaluator,
    "retrieval": RetrievalEvaluator,
    "generation": GenerationEvaluator,
    "captioning": CaptioningEvaluator,
    "latent": LatentEvaluator,
    "answering": AnsweringEvaluator,
    "refer": ReferEvaluator,
    "objectives": ObjectivesEvaluator,
    "flow": FlowEvaluator,
    "drawing": DrawingEvaluator,
    "grounding": GroundingEvaluator,
}


def make(recipe):
    """-> params -> (results of all evaluators of the config, samples). The held-out data is read once, here."""
    judges = []
    for name, settings in recipe.config.evaluators.items():
        kind = choose(EVALUATORS, name, "config.evaluators")
        known = [parameter for parameter in inspect.signature(kind).parameters if parameter != "recipe"]
        for key in settings:
            if key not in known:
                raise UserError(unknown(f"config key evaluators.{name}.{key}", key, known))
        judges.append(kind(recipe, **settings))

    predictor = recipe.predictor(None)  # one for all evaluations of a run: what it has compiled serves again

    def judge(params):
        predictor.params = params
        results, samples = {}, []
        for one in judges:
            more, pictures = one.run(predictor)
            results |= more
            samples += pictures
        predictor.params = None
        return results, samples

    return judge
