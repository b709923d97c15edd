"""The things a scene can show: what they are called and what they mean, in English and Korean.

A row is: words that may mean something else too | words that mean only this | kinds (hypernyms) | gloss.
Two senses of one word share neither a name nor a kind, so that any other expression settles the sense.
"""

from dataclasses import dataclass

LANGUAGES = ("en", "ko")


@dataclass(frozen=True)
class Words:
    """What a thing is called in one language."""

    ambiguous: tuple[str, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    gloss: str

    @property
    def usual(self) -> str:
        """The word people use first, ambiguous or not."""
        return (self.ambiguous or self.names)[0]


@dataclass(frozen=True)
class Thing:
    """One drawable thing: its key ("bat.animal"), its category and its words by language."""

    key: str
    category: str
    words: dict[str, Words]


def _words(row: str) -> Words:
    ambiguous, names, kinds, gloss = (part.strip() for part in row.split("|"))
    lists = [tuple(word.strip() for word in part.split(",") if word.strip()) for part in (ambiguous, names, kinds)]
    return Words(*lists, gloss)


# key, category, English, Korean
_TABLE = (
    (
        "bat.animal",
        "animal",
        "bat | pipistrelle | animal, mammal | a small animal that flies at night on wings of skin",
        "| 박쥐 | 동물, 짐승 | 밤에 날개를 펴고 나는 동물",
    ),
    (
        "bat.club",
        "sport",
        "bat | club, cudgel | stick | a wooden club or stick for hitting a ball",
        "| 방망이, 배트 | 막대 | 공을 치는 데 쓰는 나무 막대",
    ),
    (
        "crane.bird",
        "animal",
        "crane | wader | bird, animal | a large wader, a bird with long legs and a long neck",
        "| 두루미, 학 | 새, 동물 | 목과 다리가 긴 새",
    ),
    (
        "crane.machine",
        "machine",
        "crane | hoist, derrick | machine | a tall machine, a hoist for lifting heavy loads",
        "| 기중기, 크레인 | 기계 | 무거운 것을 들어 올리는 기계",
    ),
    (
        "mouse.animal",
        "animal",
        "mouse | rodent | animal, mammal | a small rodent, an animal with a long tail",
        "| 생쥐, 쥐 | 동물, 짐승 | 꼬리가 긴 작은 동물",
    ),
    (
        "mouse.device",
        "device",
        "mouse | clicker | device, gadget | a device with buttons moved by hand at a computer",
        "| 마우스 | 기기, 장치 | 컴퓨터에 쓰는 단추가 달린 기기",
    ),
    (
        "bow.weapon",
        "weapon",
        "bow | longbow | weapon | a weapon with a string, a longbow for shooting arrows",
        "| 활 | 무기 | 화살을 쏘는 무기",
    ),
    (
        "bow.ribbon",
        "clothing",
        "bow | ribbon, bowtie | ornament | a ribbon tied with two loops as an ornament",
        "| 리본, 나비매듭 | 장식 | 끈을 고리 모양으로 맨 장식",
    ),
    (
        "palm.tree",
        "plant",
        "palm | palmetto | tree, plant | a tall tree of hot lands, a plant with large leaves",
        "| 야자수, 종려 | 나무, 식물 | 더운 땅에 자라는 잎이 큰 나무",
    ),
    (
        "palm.hand",
        "body",
        "palm | hand | limb | the inner side of the hand with the fingers",
        "| 손바닥, 손 | 신체 | 손의 안쪽",
    ),
    (
        "seal.animal",
        "animal",
        "seal | pinniped | animal, mammal | a sea animal with flippers, a pinniped",
        "| 물개, 바다표범 | 동물, 짐승 | 바다에 살며 지느러미발이 있는 동물",
    ),
    (
        "seal.stamp",
        "tool",
        "seal | stamp, signet | tool | a stamp, a tool for pressing a mark on paper",
        "| 도장, 인장 | 도구 | 종이에 표시를 찍는 도구",
    ),
    (
        "kite.bird",
        "animal",
        "kite | hawk, raptor | bird, animal | a hawk, a bird that hunts with a hooked beak",
        "| 솔개, 매 | 새, 동물 | 부리가 굽은 사냥하는 새",
    ),
    (
        "kite.toy",
        "toy",
        "kite | parafoil | toy, plaything | a toy of paper that flies in the wind on a string",
        "| 연 | 장난감 | 실에 매어 바람에 날리는 장난감",
    ),
    (
        "tank.vehicle",
        "vehicle",
        "tank | panzer | vehicle | a heavy vehicle of war with a gun, a panzer",
        "| 전차, 탱크 | 차량, 탈것 | 포를 단 무거운 군용 차량",
    ),
    (
        "tank.aquarium",
        "container",
        "tank | aquarium, fishbowl | container | an aquarium, a glass container for fish",
        "| 수조, 어항 | 용기 | 물고기를 기르는 유리 용기",
    ),
    (
        "spade.shovel",
        "tool",
        "spade | shovel, scoop | tool | a shovel, a tool for digging the ground",
        "| 삽 | 도구, 연장 | 땅을 파는 도구",
    ),
    (
        "spade.card",
        "symbol",
        "spade | pip | symbol, emblem | a black symbol on playing cards, a pip like a leaf",
        "| 스페이드 | 무늬, 기호 | 카드에 그려진 잎 모양 무늬",
    ),
    (
        "bolt.lightning",
        "nature",
        "bolt | thunderbolt, flash | spark | a flash of light in a storm, a thunderbolt",
        "| 번개, 벼락 | 불빛 | 폭풍 때 하늘에서 번쩍이는 불빛",
    ),
    (
        "bolt.screw",
        "tool",
        "bolt | screw | fastener | a metal screw, a fastener with a thread and a head",
        "| 나사, 볼트 | 부품 | 홈이 파인 쇠로 된 조이는 부품",
    ),
    (
        "bolt.arrow",
        "weapon",
        "bolt | arrow, dart | weapon, projectile | an arrow, a projectile shot as a weapon",
        "| 화살 | 무기 | 활로 쏘는 뾰족한 무기",
    ),
    (
        "pitcher.jug",
        "container",
        "pitcher | jug, carafe | container | a jug, a container with a handle for pouring",
        "| 주전자, 물병 | 용기 | 물을 따르는 손잡이 달린 용기",
    ),
    (
        "pitcher.player",
        "person",
        "pitcher | ballplayer, thrower | athlete, person | the ballplayer who throws the ball",
        "| 투수 | 선수, 사람 | 공을 던지는 선수",
    ),
    (
        "plane.aircraft",
        "vehicle",
        "plane | airplane, jet | vehicle, aircraft | an airplane, a vehicle that flies with wings",
        "| 비행기, 항공기 | 탈것 | 날개로 하늘을 나는 탈것",
    ),
    (
        "plane.tool",
        "tool",
        "plane | planer, shaver | tool | a planer, a tool with a blade for making wood smooth",
        "| 대패 | 도구, 연장 | 나무를 깎아 고르게 하는 도구",
    ),
    (
        "pear",
        "fruit",
        "| pear | fruit | a sweet fruit that is narrow at the top",
        "배 | 돌배 | 과일, 열매 | 달고 물이 많은 과일",
    ),
    (
        "ship",
        "vehicle",
        "| ship, boat | vehicle, watercraft | a boat, a vehicle that sails on water",
        "배 | 선박, 돛단배 | 탈것 | 물 위를 떠다니는 탈것",
    ),
    (
        "belly",
        "body",
        "| belly, stomach, tummy | torso | the front of the body below the chest",
        "배 | 복부, 뱃살 | 신체, 몸 | 가슴 아래에 있는 신체 부분",
    ),
    (
        "eye",
        "body",
        "| eye, eyeball | organ | the organ with which one sees",
        "눈 | 안구, 눈동자 | 기관, 신체 | 사물을 보는 기관",
    ),
    (
        "snowflake",
        "nature",
        "| snowflake, flake | crystal | a crystal of ice that falls in winter",
        "눈 | 눈송이, 눈꽃 | 얼음 | 겨울에 하늘에서 내리는 얼음 조각",
    ),
    (
        "horse",
        "animal",
        "| horse, pony | animal, mammal | a large animal that people ride",
        "말 | 조랑말, 망아지 | 동물, 짐승 | 사람이 타고 달리는 동물",
    ),
    (
        "pawn",
        "toy",
        "| pawn, chessman | piece | a piece moved on the board of a game",
        "말 | 기물, 장기짝 | 장난감 | 놀이판 위에 놓고 움직이는 물건",
    ),
    (
        "chestnut",
        "fruit",
        "| chestnut | nut | a brown nut with a hard shell",
        "밤 | 알밤, 밤톨 | 열매 | 껍질이 단단한 갈색 열매",
    ),
    (
        "night",
        "nature",
        "| night, nightscape | view | the dark hours with moon and stars in the sky",
        "밤 | 한밤중, 야경 | 풍경 | 달과 별이 뜬 어두운 하늘 풍경",
    ),
    (
        "leg",
        "body",
        "| leg, shank | limb | the limb on which one stands and walks",
        "다리 | 종아리 | 신체 | 서고 걷는 신체 부분",
    ),
    (
        "bridge",
        "building",
        "| bridge, overpass | structure | a structure that carries a road over water",
        "다리 | 교량, 육교 | 건축물 | 물 위로 길을 이어 주는 건축물",
    ),
    (
        "car",
        "vehicle",
        "| car, automobile, sedan | vehicle | a vehicle with four wheels for the road",
        "차 | 자동차, 승용차 | 탈것 | 바퀴로 길을 달리는 탈것",
    ),
    (
        "tea",
        "food",
        "| teacup, cuppa | drink, beverage | a hot drink in a cup made from leaves",
        "차 | 녹차, 홍차 | 음료 | 잎을 우려 잔에 마시는 뜨거운 음료",
    ),
    ("child", "person", "| child, kid | person | a young person", "| 아이, 어린이 | 사람 | 나이가 어린 사람"),
    ("woman", "person", "| woman, lady | person | a grown female person", "| 여자, 여성 | 사람 | 다 자란 여성인 사람"),
    ("man", "person", "| man, gentleman | person | a grown male person", "| 남자, 남성 | 사람 | 다 자란 남성인 사람"),
    (
        "apple",
        "fruit",
        "| apple | fruit | a round fruit with a firm flesh",
        "| 사과, 능금 | 과일, 열매 | 둥글고 아삭한 과일",
    ),
    (
        "banana",
        "fruit",
        "| banana | fruit | a long curved fruit with a soft flesh",
        "| 바나나 | 과일, 열매 | 길고 굽은 부드러운 과일",
    ),
    (
        "grape",
        "fruit",
        "| grape | fruit | a small round fruit growing in bunches",
        "| 포도 | 과일, 열매 | 송이로 열리는 작은 과일",
    ),
    ("circle", "shape", "| circle, disk | shape | a perfectly round shape", "| 동그라미, 원 | 도형 | 둥근 도형"),
    (
        "square",
        "shape",
        "| square | shape | a shape with four equal sides",
        "| 네모, 정사각형 | 도형 | 변이 네 개인 도형",
    ),
    ("triangle", "shape", "| triangle | shape | a shape with three sides", "| 세모, 삼각형 | 도형 | 변이 세 개인 도형"),
    ("star", "shape", "| star, pentagram | shape | a shape with five points", "| 별 | 도형 | 뾰족한 끝이 다섯인 도형"),
    (
        "fish",
        "animal",
        "| fish | animal | an animal that lives in water and has fins",
        "| 물고기 | 동물 | 물에 사는 지느러미가 있는 동물",
    ),
    (
        "cat",
        "animal",
        "| cat, kitten | animal, mammal | a furry animal that people keep and that meows",
        "| 고양이 | 동물, 짐승 | 집에서 기르는 야옹 우는 동물",
    ),
    (
        "hammer",
        "tool",
        "| hammer, mallet | tool | a tool with a heavy head for hitting",
        "| 망치 | 도구, 연장 | 두드리는 데 쓰는 도구",
    ),
    ("key", "tool", "| key | tool | a metal tool that opens a lock", "| 열쇠 | 도구 | 자물쇠를 여는 도구"),
    (
        "house",
        "building",
        "| house, cottage | building, structure | a building in which people live",
        "| 집, 주택 | 건물, 건축물 | 사람이 사는 건물",
    ),
    (
        "flower",
        "plant",
        "| flower, blossom | plant | the coloured part of a plant",
        "| 꽃 | 식물 | 빛깔이 고운 식물의 부분",
    ),
    (
        "bicycle",
        "vehicle",
        "| bicycle, bike | vehicle | a vehicle with two wheels and pedals",
        "| 자전거 | 탈것 | 바퀴가 둘인 발로 젓는 탈것",
    ),
)

THINGS: dict[str, Thing] = {key: Thing(key, category, {"en": _words(en), "ko": _words(ko)}) for key, category, en, ko in _TABLE}
KEYS = tuple(THINGS)
PEOPLE = ("child", "woman", "man")  # those who can hold something


def _by_expression(lang: str, parts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for thing in THINGS.values():
        for part in parts:
            for word in getattr(thing.words[lang], part):
                table.setdefault(word, []).append(thing.key)
    return {word: tuple(keys) for word, keys in table.items()}


# ambiguous word -> the keys of its senses, and any expression -> the keys of the things it is true of
AMBIGUOUS = {lang: _by_expression(lang, ("ambiguous",)) for lang in LANGUAGES}
DENOTES = {lang: _by_expression(lang, ("ambiguous", "names", "kinds")) for lang in LANGUAGES}
KINDS = {lang: _by_expression(lang, ("kinds",)) for lang in LANGUAGES}


def _families() -> dict[str, frozenset[str]]:
    families = {key: frozenset((key,)) for key in KEYS}
    for lang in LANGUAGES:
        for keys in AMBIGUOUS[lang].values():
            joined = frozenset().union(*(families[key] for key in keys))
            families.update(dict.fromkeys(joined, joined))
    return families


FAMILY = _families()  # key -> itself and all things that share an ambiguous word with it, in any language
