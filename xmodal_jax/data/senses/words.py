"""What a sense inventory must know of a language: function words, English plurals, Korean particles.

None of this is a tagger. The lists only keep function words (and the nouns that WordNet finds in them: "a" the vitamin,
"at" astatine) from being taken for entities; the rules bring a written form back to the form that the inventory lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

# Written without spaces between words: nouns are found by longest match instead of by token.
UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my"})

_EN_FUNCTION = """
a about above across after against all along also am amid among an and another any are around as at away be because
been before behind being below beneath beside besides between beyond both but by can could d did do does doing done
down during each either else every everything few five for four from get gets getting go goes going good got had has
have having he her here hers herself him himself his how i if in inside into is it its itself just ll like lot lots
m many may me might mine more most much must my myself near nearby neither next nine no none nor not nothing of off
on one ones onto or other others our out outside over own past per perhaps quite re s same several shall she should
since six seven eight ten so some someone something somewhere still such t take taken takes taking than that the
their theirs them then there these they thing things this those though three through to together too toward towards
two under until up upon us used ve very was we well went were what when where whether which while who whole whom
whose why will with within without would yes yet you your yours
"""
# Adjectives, colours, verbs and relational nouns that WordNet also lists as nouns; in captions they are hardly ever
# the entity.
_EN_SPURIOUS = """
air appears area attempt attempts back background bare big black blond blonde blue bright brown busy carrying catch
catching clear climb climbing climbs close cold colored coloured covered crossing dark different digging double
dressed drink drinking drinks dry eating edge empty fight first fishing flat flying front full gray green grey group
half hanging heavy high hiking hold holding holds jump jumping jumps kicking kind large last laying leaning leap
leaping leaps left light little living long look looking looks low lying make makes making middle multiple new old
open outdoor outdoors pink play playing plays point pointing pose poses posing pull pulling pulls purple reading
ready red rest resting ride rides riding right round run running runs second set shaking shallow short show shown
shows side sit sits sitting skiing sleeping small smile smiles smiling sort stand standing stands start stop
swimming swinging talk talking talks tall tan third throw throwing throws top try trying turn turning type use using
various view waiting walk walking walks watching way wear wearing wears wet white wide work working yellow young
"""

_FUNCTION_WORDS = {
    "en": _EN_FUNCTION + _EN_SPURIOUS,
    "ko": "이 그 저 것 수 등 및 또 더 한 두 세 네 하나 둘 셋 넷 다 좀 잘 안 못 위 아래 "
    "앞 뒤 옆 안쪽 사이 때 중 나 너 우리 있는 하는",
    "ja": "の は が を に へ と で も や か な ね よ こと もの それ これ あれ そこ ここ 一 "
    "二 三 上 下 中 前 後 人々 する いる ある",
    "zh": "的 了 着 在 是 有 和 与 或 一 二 两 三 四 五 六 七 八 九 十 个 上 下 里 中 前 后 "
    "左 右 这 那 他 她 它 我 你 们 不 也 都 就 "
    "站 地 群 名 滑 背 行 墨 顶 抱 打 面 带 长 张 道 台 美 毛 女 男 东西 休息 一对 坐 跑 跳 玩 看 穿 拿 走 游 飞 咬 骑 "
    "很 被 把 从 向 到 对 对着 为 个人 只 正 正在 大 小 红 黄 蓝 白 黑 绿 起 出 去 来 一个 的话 只是",
    "de": "der die das ein eine einer eines einem einen und oder in im an am auf mit von zu "
    "zum zur aus bei für ist sind er sie es "
    "ich wir ihr nicht kein eins zwei drei den dem des",
    "fr": "le la les un une des du de et ou à au aux en dans sur sous avec pour par "
    "est sont il elle on je tu nous vous ne pas "
    "deux trois se sa son ses ce cette d l",
    "es": "el la los las un una unos unas de del y o a al en con por para es son él ella yo tú no se su sus que dos tres",
    "ar": "في من على إلى عن مع و أو هو هي هذا هذه ذلك لا ما",
}
STOP_WORDS = {lang: frozenset(words.split()) for lang, words in _FUNCTION_WORDS.items()}
_ENDS = frozenset(_EN_FUNCTION.split())

# WordNet's noun detachment rules (morphy(7WN)), in its order.
_DETACH = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)

# Irregular plurals of everyday captions, for inventories that bring no noun.exc of their own.
ENGLISH_EXCEPTIONS: Mapping[str, str] = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "lice": "louse",
    "oxen": "ox",
    "knives": "knife",
    "wives": "wife",
    "lives": "life",
    "wolves": "wolf",
    "leaves": "leaf",
    "shelves": "shelf",
    "loaves": "loaf",
    "halves": "half",
    "calves": "calf",
    "scarves": "scarf",
    "hooves": "hoof",
    "thieves": "thief",
    "elves": "elf",
    "cacti": "cactus",
    "potatoes": "potato",
    "tomatoes": "tomato",
    "heroes": "hero",
    "volcanoes": "volcano",
}

_PARTICLES = (
    "은 는 이 가 을 를 에 에서 에게 에게서 의 와 과 로 으로 도 만 들 께 께서 한테 "
    "한테서 부터 까지 처럼 보다 마다 마저 조차 밖에 이나 나 "
    "이랑 랑 하고 이며 며 이고 이다 입니다 이라 라 로서 으로서 로써 으로써 이여 여 야 아"
)
# Longest first; a particle may follow another ("들" + "에게" + "는"), so stripping repeats.
KOREAN_PARTICLES = tuple(sorted(_PARTICLES.split(), key=lambda particle: (-len(particle), particle)))


def stop_words(lang: str) -> frozenset[str]:
    """The words of `lang` that are never entities, lower-cased; empty for a language without a list."""
    return STOP_WORDS.get(lang, frozenset())


def end_words(lang: str) -> frozenset[str]:
    """Words that no multi-word noun ends with: the function words alone ("traffic light" is a noun)."""
    return _ENDS if lang == "en" else stop_words(lang)


def english_base(word: str, known: Callable[[str], bool], exceptions: Mapping[str, str]) -> str | None:
    """The listed noun behind an English surface form, or None.

    Order: the exceptions ("men" is a lemma of its own in WordNet, but means "man" in a caption), the word as it is,
    then the detachment rules of WordNet's morphology, applied to the last word only.
    """
    if known(base := exceptions.get(word) or ENGLISH_EXCEPTIONS.get(word, "")):
        return base
    if known(word):
        return word
    head, space, last = word.rpartition(" ")
    if space and last in ENGLISH_EXCEPTIONS and known(base := f"{head} {ENGLISH_EXCEPTIONS[last]}"):
        return base
    if len(last) <= 2 or last.endswith("ss"):
        return None
    for suffix, ending in _DETACH:
        if last.endswith(suffix) and len(last) > len(suffix) and known(base := word[: len(word) - len(suffix)] + ending):
            return base
    return None


def korean_base(word: str, known: Callable[[str], bool], depth: int = 3) -> str | None:
    """The word if listed, else the listed noun left when particles are stripped from its end (longest first), or
    None.
    """
    if known(word):
        return word
    if depth:
        for particle in KOREAN_PARTICLES:
            if len(word) > len(particle) and word.endswith(particle):
                base = korean_base(word[: -len(particle)], known, depth - 1)
                if base is not None:
                    return base
    return None
