"""Emoji that show things of the scenes: drawings by other hands, for words each of whose senses has one.

The list was made before any model was measured by it. Pictures are those of a folder that holds them by their code points, as
noto-emoji names them (emoji_u1f987.png).
"""

import os

from xmodal_jax.data.images import decode_image
from xmodal_jax.data.sources.scenes.drawing import background
from xmodal_jax.data.sources.scenes.korean import particle_of
from xmodal_jax.data.sources.scenes.things import AMBIGUOUS
from xmodal_jax.errors import UserError

EMOJI = {
    "bat.animal": "1f987", "bat.club": "1f3cf", "crane.bird": "1f9a9", "crane.machine": "1f3d7",
    "mouse.animal": "1f401 1f42d 1f400", "mouse.device": "1f5b1", "bow.weapon": "1f3f9", "bow.ribbon": "1f380",
    "palm.tree": "1f334 1f3dd", "palm.hand": "270b 1f91a 1f590", "kite.bird": "1f985", "kite.toy": "1fa81",
    "bolt.lightning": "26a1 1f329", "bolt.screw": "1f529", "bolt.arrow": "27a1",
    "pear": "1f350", "ship": "1f6a2 1f6f3 26f5 1f6a4 1f6e5 26f4", "belly": "1fac3 1fac4", "eye": "1f441 1f440",
    "snowflake": "2744", "horse": "1f40e 1f434", "pawn": "265f", "chestnut": "1f330", "night": "1f303 1f319",
    "leg": "1f9b5", "bridge": "1f309", "car": "1f697 1f699 1f3ce", "tea": "1f375 2615",
}  # fmt: skip
SHARE = 0.6  # of the picture's width, as a big thing has


def emoji_items(folder, size):
    """Items of the sense evaluation (see senses.py), one for each emoji and each word that it is a sense of; pictures uint8
    [size, size, 3]. Raises UserError where the folder lacks one."""
    pictures = {code: picture(folder, code, size) for codes in EMOJI.values() for code in codes.split()}
    items = []
    for lang, words in AMBIGUOUS.items():
        for word, senses in words.items():
            if not all(sense in EMOJI for sense in senses):
                continue
            before, behind = ("this is a ", "") if lang == "en" else ("그림 속에 ", f"{particle_of(word, '이')} 있다")
            unlike = [code for key in EMOJI if key not in senses for code in EMOJI[key].split()]
            for sense in senses:
                swapped = senses[(senses.index(sense) + 1) % len(senses)]
                for code in EMOJI[sense].split():
                    items.append({
                        "image": pictures[code], "text": before + word + behind, "word": word, "lang": lang,
                        "span": (len(before), len(before) + len(word)), "sense": sense, "senses": senses,
                        "swapped_image": pictures[EMOJI[swapped].split()[0]], "swapped_sense": swapped,
                        "wrong_image": pictures[unlike[len(items) % len(unlike)]],
                    })  # fmt: skip
    return items


def picture(folder, code, size):
    """An emoji in the middle of the scenes' paper."""
    path = os.path.join(folder, f"emoji_u{code}.png")
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such picture. Give the folder of noto-emoji's pictures (png/72, or the pack's).")
    paper, side = background(0, 0, size).copy(), round(SHARE * size)
    on_white, on_black = (decode_image(path, side, background=(one,) * 3).astype(float) for one in (255, 0))
    middle = slice((size - side) // 2, (size - side) // 2 + side)
    under = paper[middle, middle]
    under[...] = (on_black + under * (on_white - on_black) / 255).round().clip(0, 255)  # transparent: what shines through
    return paper
