"""English: frames, words and templates of the scenes."""

from xmodal_jax.data.sources.scenes.language import Grammar


def article(following: str) -> str:
    """a or an; no word of the scenes begins with a vowel letter that is not a vowel sound, or the reverse."""
    return "an" if following[0] in "aeiou" else "a"


def join(adjectives: tuple[str, ...], noun: str, particle: str) -> tuple[str, str]:
    """What stands before and after a noun with its adjectives; particle "the": definite, "bare": no article."""
    lead = "".join(adjective + " " for adjective in adjectives)
    if particle == "bare":
        return lead, ""
    return f"{particle or article(lead or noun)} {lead}", ""


GRAMMAR = Grammar(
    lang="en",
    limit=64,
    alone=(
        "a picture of {a}", "there is {a}", "{a} is shown {at}", "this is {a}", "{a} {at}", "we see {a} {at}",
        "you can see {a}", "{a} can be seen {at}", "the {n} is {color}", "look at {a|the}", "someone drew {a} {at}",
    ),
    together=(
        "{a} and {b}", "{a} {rel} {b}", "there is {a} {rel} {b}", "{b} and {a}", "{a} next to {b}",
        "a picture of {a} and {b}", "{a} is {rel} {b}", "we see {a} beside {b}", "{b} is near {a}",
    ),
    with_person=(
        "{b} is holding {a}", "{b} with {a}", "{b} is looking at {a}", "{b} stands near {a}", "{b} wants {a}",
        "{b} points at {a|the}", "{b} drew {a}",
    ),
    colors={color: color for color in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "gray")},
    color_nouns={color: color for color in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "gray")},
    sizes={"small": "small", "big": "big"},
    at={"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom",
        "middle": "in the middle"},
    relations={"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"},
    join=join,
    bare=lambda noun, particle: "",
)  # fmt: skip

QUESTIONS = {
    "exists": ("is there {a}?", "can you see {a}?", "is {a} in the picture?"),
    "color": ("what color is {a|the}?", "which color does {a|the} have?"),
    "where": ("where is {a|the}?", "in which part of the picture is {a|the}?"),
    "count": ("how many {counted|bare} are there?", "how many {counted|bare} do you see?"),
    "relation": ("what is {rel} {a|the}?", "what can be seen {rel} {a|the}?"),
    "which": ("what is the {color} thing?", "which thing is {color}?"),
}
PLURALS = {"thing": "things", "animal": "animals", "vehicle": "vehicles", "person": "people", "fruit": "fruits",
           "tool": "tools", "shape": "shapes", "plant": "plants"}  # fmt: skip
YES_NO = {True: ("yes", "yeah"), False: ("no", "nope")}
NUMBERS = (("0", "zero", "none"), ("1", "one"), ("2", "two"), ("3", "three"))
PLACE_ANSWERS = {"left": ("left", "on the left"), "right": ("right", "on the right"), "top": ("top", "at the top"),
                 "bottom": ("bottom", "at the bottom"), "middle": ("middle", "center", "in the middle")}  # fmt: skip
COLOR_ANSWERS = {"red": ("red", "scarlet"), "orange": ("orange", "tangerine"), "yellow": ("yellow", "golden"),
                 "green": ("green", "dark green"), "blue": ("blue", "dark blue"), "purple": ("purple", "violet"),
                 "pink": ("pink", "rose"), "gray": ("gray", "grey")}  # fmt: skip

PHRASES = {"": "{a|the}", "place": "{a|the} {at}", "relation": "{a|the} {rel} {b|the}"}

STATEMENTS = {
    "left": "the left picture shows {a}",
    "right": "the right picture shows {a}",
    "both": "both pictures show {a}",
    "one": "only one of the pictures shows {a}",
    "both colors": "both pictures show something {color}",
    "one color": "only one of the pictures shows something {color}",
    "sum": "there are {number} things in the two pictures",
    "more": "the left picture shows more things than the right one",
    "fewer": "the left picture shows fewer things than the right one",
    "equal": "the left picture shows as many things as the right one",
}
