"""The scenes' own sense inventory: what every noun of the captions may mean (US 12,393,789 B2, claims 6 and 7)."""

from xmodal_jax.data.senses.inventory import Sense, TableInventory
from xmodal_jax.data.senses.words import stop_words
from xmodal_jax.data.sources.scenes.things import KINDS, THINGS

# what the kinds mean, where a gloss helps to tell the senses of the things below it
_KIND_GLOSSES = {
    "en": {
        "animal": "a living being that moves and feels", "mammal": "an animal that feeds its young with milk",
        "bird": "an animal with feathers and wings", "vehicle": "a thing that carries people or goods",
        "tool": "a thing held in the hand for doing work", "weapon": "a thing for fighting or hunting",
        "person": "a human being", "fruit": "the sweet part of a plant that is eaten",
        "plant": "a living thing that grows in the ground",
        "container": "a thing for holding other things", "machine": "a device with moving parts that does work",
        "toy": "a thing for children to play with", "shape": "a form of plain lines",
        "tree": "a tall plant with a trunk",
        "building": "a structure with walls and a roof", "device": "a thing made for one purpose",
        "stick": "a long thin piece of wood", "limb": "an arm or a leg of a body",
    },
    "ko": {
        "동물": "움직이고 느끼는 생물", "짐승": "몸에 털이 난 동물", "새": "깃털과 날개가 있는 동물",
        "탈것": "사람이나 짐을 나르는 것",
        "도구": "일할 때 손에 쥐고 쓰는 것", "무기": "싸우거나 사냥할 때 쓰는 것", "사람": "말하고 생각하는 존재",
        "과일": "나무에 열리는 먹는 열매", "열매": "식물에 맺히는 것", "식물": "땅에서 자라는 생물",
        "용기": "물건을 담는 것",
        "기계": "움직이며 일하는 장치", "장난감": "아이들이 가지고 노는 것", "도형": "선으로 된 모양",
        "신체": "사람의 몸",
        "건축물": "땅 위에 지은 것", "음료": "마시는 것", "풍경": "눈에 보이는 경치",
    },
}  # fmt: skip


def scene_senses(lang: str) -> dict[str, tuple[Sense, ...]]:
    """lemma -> its senses. A sense's id is the key of its thing; a kind ("animal") has one sense, "kind.animal"."""
    table: dict[str, list[Sense]] = {}
    for thing in THINGS.values():
        words = thing.words[lang]
        glosses = tuple(_KIND_GLOSSES[lang][kind] for kind in words.kinds if kind in _KIND_GLOSSES[lang])
        for lemma in (*words.ambiguous, *words.names):
            # the names alone tell this sense from the lemma's others; an ambiguous word is a synonym of the names
            synonyms = tuple(word for word in (*words.names, *words.ambiguous) if word != lemma)
            table.setdefault(lemma, []).append(Sense(thing.key, words.gloss, synonyms, words.kinds, (), glosses))
    for kind, keys in KINDS[lang].items():
        below = (THINGS[key].words[lang] for key in keys)
        hyponyms = tuple(dict.fromkeys(word for words in below for word in (*words.names, *words.ambiguous)))
        gloss = _KIND_GLOSSES[lang].get(kind, "")
        if kind not in table:
            table[kind] = [Sense(f"kind.{kind}", gloss or " ".join((kind, *hyponyms)), (), (), hyponyms, ())]
    return {lemma: tuple(senses) for lemma, senses in table.items()}


def scene_inventory(lang: str) -> TableInventory:
    """The inventory of the scenes' nouns in "en" or "ko"."""
    table = scene_senses(lang)
    return TableInventory(table, lang, stop=stop_words(lang) - table.keys())  # here "view" and "drink" are nouns
