"""Which word of a candidate is matched to which word of a reference, for METEOR.

`options[j]` lists what reference word j could be matched to: pairs (i, kind), i the place of a candidate's word and kind
0 for the same word, 1 for the same stem, 2 for a synonym; in the order of kind, then of i. An alignment is a list of
matches (i, j, kind) in the order of i, in which every word occurs once at most.
"""

from collections import Counter
from collections.abc import Sequence

Options = Sequence[Sequence[tuple[int, int]]]
Match = tuple[int, int, int]
_BEAM = 40  # partial alignments kept; captions seldom have ten
_NONE = -2  # nothing matched just before


def greedy_alignment(options: Options) -> list[Match]:
    """All exact matches, then stems, then synonyms; the candidate's last word takes the last of the reference's it can."""
    wishes: list[list[tuple[int, int]]] = [[], [], []]  # by kind: (i, j)
    for j, found in enumerate(options):
        for i, kind in found:
            wishes[kind].append((i, j))
    matches, used, taken = [], set(), set()
    for kind, pairs in enumerate(wishes):
        for i, j in sorted(pairs, reverse=True):
            if i not in used and j not in taken:
                used.add(i)
                taken.add(j)
                matches.append((i, j, kind))
    return sorted(matches)


def best_alignment(options: Options) -> list[Match]:
    """METEOR 1.5's alignment, as its program finds it.

    Two words that match each other and nothing else are always matched. For the rest: most exact matches, then fewest
    chunks, then the least distance. A match of another kind counts nothing by itself, it is made where it costs no chunk;
    and a match costs the distances of the options passed over before it, not its own: both as in the program.

    Dynamic programming over the reference's words; a state is the set of taken words and the word matched last.
    """
    uses = Counter(i for found in options for i, _ in found)
    last_use = {i: j for j, found in enumerate(options) for i, _ in found}
    states: dict = {(0, _NONE): ((0, 0, 0), None)}  # -> (-exact matches, closed chunks, distance), linked list of matches
    for j, found in enumerate(options):
        if not found and all(before == _NONE for _, before in states):
            continue
        sure = len(found) == 1 and uses[found[0][0]] == 1
        over = ~sum({1 << i for i, _ in found if last_use[i] == j})  # words that no later one can take: forget them
        after: dict = {}
        for (taken, before), ((exact, closed, distance), path) in _ranked(states):
            steps = []
            for i, kind in found:
                if not taken >> i & 1:
                    broken = before not in (_NONE, i - 1)
                    key = (exact - (kind == 0), closed + broken, distance + sure * abs(i - j))
                    steps.append((((taken | 1 << i) & over, i), key, (path, (i, j, kind))))
                    distance += abs(i - j)
            if not sure:
                steps.append(((taken & over, _NONE), (exact, closed + (before != _NONE), distance), path))
            for state, key, links in steps:
                if state not in after or key < after[state][0]:
                    after.pop(state, None)  # the order of the states settles ties
                    after[state] = (key, links)
        states = after
    ends = (((exact, closed + (state[1] != _NONE), d), path) for state, ((exact, closed, d), path) in _ranked(states))
    path, matches = min(ends, key=lambda end: end[0])[1], []
    while path:
        path, match = path
        matches.append(match)
    return sorted(matches)


def _ranked(states: dict) -> list:
    """The best states first, at most `_BEAM`; of equals the first found."""
    items = list(states.items())
    return items if len(items) == 1 else sorted(items, key=lambda item: item[1][0])[:_BEAM]


def chunks(matches: Sequence[Match]) -> int:
    """How many runs of matches are adjacent in both texts."""
    pairs = {(i, j) for i, j, _ in matches}
    return sum((i - 1, j - 1) not in pairs for i, j in pairs)
