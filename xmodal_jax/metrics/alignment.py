"""Which word of a candidate is matched to which word of a reference, for METEOR.

`options[j]` lists what reference word j could be matched to: pairs (i, kind), i the place of a candidate's word and kind
0 for the same word, 1 for the same stem, 2 for a synonym; in the order of kind, then of i. An alignment is a list of
matches (i, j, kind) in the order of i, in which every word occurs once at most.
"""

import bisect
from collections import Counter
from collections.abc import Sequence

import numpy as np

Options = Sequence[Sequence[tuple[int, int]]]
Match = tuple[int, int, int]
_BEAM = 40  # partial alignments kept; captions seldom have ten
_OFTEN = 40  # options of one word from which not all of them are tried
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

    Dynamic programming over the reference's words; a state is the set of taken words and the word matched last. As in the
    program, the best _BEAM states are kept, so that the work grows with the square of a text's length, whatever it says.
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
        if len(found) > _OFTEN and not sure:  # a word that the candidate says very often
            states = _many(states, found, j, over)
            continue
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


def _many(states: dict, found: Sequence[tuple[int, int]], j: int, over: int) -> dict:
    """The next states where reference word j has many options: of these, only those that can be among the best `_BEAM`.

    The same states in the same order as those of trying all. Of one state, matches of one kind cost more and more distance, but
    for the one that goes on with a chunk; and what costs more than `_BEAM` other states cannot be kept.
    """
    after: dict = {}
    costs: list = []  # of the states in `after`, sorted

    def add(state, key, links):
        if state not in after or key < after[state][0]:
            if state in after:
                del costs[bisect.bisect_left(costs, after.pop(state)[0])]
            after[state] = (key, links)
            bisect.insort(costs, key)

    places, kinds = np.array(found).T
    apart, where = np.abs(places - j), {i: n for n, (i, _) in enumerate(found)}
    for (taken, before), ((exact, closed, distance), path) in _ranked(states):
        if len(costs) >= _BEAM and (exact - 1, closed, distance) > costs[_BEAM - 1]:
            continue
        free = ~_bits(taken, places)
        passed = np.cumsum(np.where(free, apart, 0))  # with each of them
        on = where.get(before + 1, -1) if before != _NONE else -1
        for kind in range(3):
            for n in np.flatnonzero(free & (kinds == kind)).tolist():
                i = found[n][0]
                key = (exact - (kind == 0), closed + (before not in (_NONE, i - 1)), distance + int(passed[n] - apart[n]))
                if len(costs) < _BEAM or key <= costs[_BEAM - 1]:
                    add(((taken | 1 << i) & over, i), key, (path, (i, j, kind)))
                    continue
                if on > n and free[on] and kinds[on] == kind:  # it may be worth it still
                    key = (exact - (kind == 0), closed, distance + int(passed[on] - apart[on]))
                    add(((taken | 1 << before + 1) & over, before + 1), key, (path, (before + 1, j, kind)))
                break
        add((taken & over, _NONE), (exact, closed + (before != _NONE), distance + int(passed[-1])), path)
    return after


def _bits(taken: int, places: np.ndarray) -> np.ndarray:
    """Which of these bits are set."""
    length = int(places.max()) // 8 + 1
    raw = (taken & ((1 << 8 * length) - 1)).to_bytes(length, "little")
    return np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[places].astype(bool)


def _ranked(states: dict) -> list:
    """The best states first, at most `_BEAM`; of equals the first found."""
    items = list(states.items())
    return items if len(items) == 1 else sorted(items, key=lambda item: item[1][0])[:_BEAM]


def chunks(matches: Sequence[Match]) -> int:
    """How many runs of matches are adjacent in both texts."""
    pairs = {(i, j) for i, j, _ in matches}
    return sum((i - 1, j - 1) not in pairs for i, j in pairs)
