"""Korean: frames, words and templates of the scenes; particles follow the last sound of their noun."""

from xmodal_jax.data.sources.scenes.language import Grammar

# particle -> (after a consonant, after a vowel)
PARTICLES = {"이": ("이", "가"), "을": ("을", "를"), "은": ("은", "는"), "과": ("과", "와")}


def ends_in_consonant(word: str) -> bool:
    """Whether the last syllable has a final consonant."""
    return (ord(word[-1]) - 0xAC00) % 28 != 0


def particle_of(word: str, particle: str) -> str:
    """The form of a particle after a word; a particle that does not change is returned as it is."""
    after_consonant, after_vowel = PARTICLES.get(particle, (particle, particle))
    return after_consonant if ends_in_consonant(word) else after_vowel


def join(adjectives: tuple[str, ...], noun: str, particle: str) -> tuple[str, str]:
    """What stands before and after a noun with its adjectives."""
    return "".join(adjective + " " for adjective in adjectives), particle_of(noun, particle) if particle else ""


GRAMMAR = Grammar(
    lang="ko",
    limit=96,
    alone=(
        "{a}의 그림이다", "{a|이} 있다", "{a|이} {at}에 있다", "{a|이} 그려져 있다", "{at}에 {a|이} 보인다",
        "그림 속에 {a|이} 있다",
        "{a|을} 볼 수 있다", "{at}에 {a|을} 그렸다", "{n|은} {color}이다", "{a|을} 보세요", "누가 {a|을} 그렸다",
    ),
    together=(
        "{a|과} {b|이} 있다", "{a|이} {b} {rel}에 있다", "{b} {rel}에 {a|이} 있다", "{b|과} {a|이} 보인다",
        "{b} 옆에 {a|이} 있다",
        "{a|과} {b}의 그림이다", "{a|은} {b} {rel}에 있다", "{a|과} {b|을} 볼 수 있다", "{b} 가까이에 {a|이} 보인다",
    ),
    with_person=(
        "{b|이} {a|을} 들고 있다", "{b|과} {a}", "{b|이} {a|을} 보고 있다", "{b|이} {a} 옆에 서 있다",
        "{b|은} {a|을} 원한다",
        "{b|이} {a|을} 가리킨다", "{b|이} {a|을} 그렸다",
    ),
    colors={"red": "빨간", "orange": "주황색", "yellow": "노란", "green": "초록색", "blue": "파란", "purple": "보라색",
            "pink": "분홍색", "gray": "회색"},
    color_nouns={"red": "빨간색", "orange": "주황색", "yellow": "노란색", "green": "초록색", "blue": "파란색",
                 "purple": "보라색", "pink": "분홍색", "gray": "회색"},
    sizes={"small": "작은", "big": "큰"},
    at={"left": "왼쪽", "right": "오른쪽", "top": "위쪽", "bottom": "아래쪽", "middle": "가운데"},
    relations={"left": "왼쪽", "right": "오른쪽", "above": "위", "below": "아래"},
    join=join,
    bare=lambda noun, particle: particle_of(noun, particle),
)  # fmt: skip

QUESTIONS = {
    "exists": ("{a|이} 있나요?", "{a|이} 보이나요?", "그림에 {a|이} 있나요?"),
    "color": ("{a|은} 무슨 색인가요?", "{a}의 색은 무엇인가요?"),
    "where": ("{a|은} 어디에 있나요?", "{a|은} 그림의 어느 쪽에 있나요?"),
    "count": ("{counted|은} 모두 몇인가요?", "{counted|이} 몇이나 보이나요?"),
    "relation": ("{a} {rel}에 무엇이 있나요?", "{a} {rel}에 보이는 것은 무엇인가요?"),
    "which": ("{color} 물체는 무엇인가요?", "색이 {color}인 것은 무엇인가요?"),
}
PLURALS = {"물체": "물체", "동물": "동물", "탈것": "탈것", "사람": "사람", "과일": "과일", "도구": "도구",
           "도형": "도형",
           "식물": "식물"}  # fmt: skip
YES_NO = {True: ("예", "네"), False: ("아니요", "아니오")}
NUMBERS = (("0", "영", "없음"), ("1", "하나", "한 개"), ("2", "둘", "두 개"), ("3", "셋", "세 개"))
PLACE_ANSWERS = {"left": ("왼쪽", "왼쪽에"), "right": ("오른쪽", "오른쪽에"), "top": ("위쪽", "위"),
                 "bottom": ("아래쪽", "아래"), "middle": ("가운데", "중앙")}  # fmt: skip
COLOR_ANSWERS = {"red": ("빨간색", "빨강"), "orange": ("주황색", "주황"), "yellow": ("노란색", "노랑"),
                 "green": ("초록색", "초록"), "blue": ("파란색", "파랑"), "purple": ("보라색", "보라"),
                 "pink": ("분홍색", "분홍"), "gray": ("회색", "잿빛")}  # fmt: skip

PHRASES = {"": "{a}", "place": "{at}의 {a}", "relation": "{b} {rel}의 {a}"}

STATEMENTS = {
    "left": "왼쪽 그림에 {a|이} 있다",
    "right": "오른쪽 그림에 {a|이} 있다",
    "both": "두 그림 모두에 {a|이} 있다",
    "one": "한 그림에만 {a|이} 있다",
    "both colors": "두 그림 모두에 {color} 물체가 있다",
    "one color": "한 그림에만 {color} 물체가 있다",
    "sum": "두 그림에 물체가 모두 {number} 개 있다",
    "more": "왼쪽 그림에 물체가 오른쪽보다 더 많다",
    "fewer": "왼쪽 그림에 물체가 오른쪽보다 더 적다",
    "equal": "두 그림에 있는 물체의 수가 같다",
}
