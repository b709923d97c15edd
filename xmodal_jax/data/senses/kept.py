"""Sense inventories in the folder of a run, so that its model can be used where its data and dictionaries are not."""

import dataclasses
import json
import os

from absl import logging

from xmodal_jax.data.senses.inventory import Sense, TableInventory
from xmodal_jax.data.senses.jsonl import JsonlInventory
from xmodal_jax.data.senses.wordnet import WordNet
from xmodal_jax.errors import UserError

PREFIX = "inventory-"


def keep_inventory(inventory, folder):
    """Write an inventory as inventory-LANG.json, and its lemmas beside it; of WordNet only that it is WordNet."""
    place = os.path.join(folder, f"{PREFIX}{inventory.lang}")
    if isinstance(inventory, WordNet):
        about, lines = {"kind": "wordnet"}, None
    elif isinstance(inventory, JsonlInventory):
        about, lines = {"kind": "jsonl"}, inventory.lines()
    else:
        about = {"kind": "table"}
        lines = [
            json.dumps([lemma, [dataclasses.astuple(sense) for sense in inventory.senses(lemma)]], ensure_ascii=False).encode()
            for lemma in inventory
        ]
    about |= {"stop": sorted(inventory.stop), "exceptions": inventory.exceptions}
    with open(f"{place}.json", "w", encoding="utf-8") as file:
        json.dump(about, file, ensure_ascii=False)
    if lines is not None:
        with open(f"{place}.jsonl", "wb") as file:
            file.writelines(line + b"\n" for line in lines)


def kept_inventories(folder, all_of_them=True):
    """{language: Inventory} of a folder.

    Where WordNet was used and is not installed here: a UserError, or, without `all_of_them`, no inventory of English.
    """
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith(PREFIX) and name.endswith(".json"):
            try:
                found[name.removeprefix(PREFIX).removesuffix(".json")] = kept_inventory(os.path.join(folder, name))
            except UserError as error:
                if all_of_them:
                    raise
                logging.warning("no senses of words: %s", error)
    return found


def kept_inventory(path):
    with open(path, encoding="utf-8") as file:
        about = json.load(file)
    lang, stop = os.path.basename(path).removeprefix(PREFIX).removesuffix(".json"), frozenset(about["stop"])
    if about["kind"] == "wordnet":
        return WordNet(stop=stop)
    rows, settings = path.removesuffix("json") + "jsonl", {"stop": stop, "exceptions": about["exceptions"]}
    if about["kind"] == "jsonl":
        return JsonlInventory(rows, lang, **settings)
    with open(rows, encoding="utf-8") as file:
        table = dict(json.loads(line) for line in file)
    return TableInventory({lemma: tuple(map(sense_of, senses)) for lemma, senses in table.items()}, lang, **settings)


def sense_of(values):
    """A `Sense` of its fields as JSON gives them."""
    return Sense(*(tuple(value) if isinstance(value, list) else value for value in values))
