"""Sense inventories (WordNet's files, JSONL, tables) and the scoring of senses against captions."""

from xmodal_jax.data.senses.corpus import corpus_inventory
from xmodal_jax.data.senses.inventory import Inventory, Sense, TableInventory
from xmodal_jax.data.senses.jsonl import JsonlInventory, open_inventory
from xmodal_jax.data.senses.kept import keep_inventory, kept_inventories
from xmodal_jax.data.senses.scorers import FrozenLMScorer, LeskScorer, choose_sense, gloss_line, score_senses
from xmodal_jax.data.senses.wordnet import WordNet

__all__ = [
    "FrozenLMScorer",
    "Inventory",
    "JsonlInventory",
    "LeskScorer",
    "Sense",
    "TableInventory",
    "WordNet",
    "choose_sense",
    "corpus_inventory",
    "gloss_line",
    "keep_inventory",
    "kept_inventories",
    "open_inventory",
    "score_senses",
]
