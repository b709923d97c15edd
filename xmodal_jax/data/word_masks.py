"""Which words of a tokenised text are masked, each by itself, whole, or in runs; and texts that are a little changed."""

TRIES = 20  # runs drawn for each token wanted, before what may be impossible is given up


def continues(piece, pieces):
    """Whether a token goes on with the word before it, in the marks of WordPiece ("##") or of byte pairs and SentencePiece,
    whose words begin with a mark of the space before them."""
    starts = [mark for mark in ("Ġ", "▁") if any(other.startswith(mark) for other in pieces)]
    return piece.startswith("##") or bool(starts and not piece.startswith(tuple(starts)))


def chosen_words(words, masks, count, most, rng):
    """Places of about `count` tokens, never more than `most`, of whole words [[place, ...], ...]."""
    chosen = set()

    def choose(word):
        if len(chosen) < count and len(chosen.union(word)) <= most:
            chosen.update(word)

    if masks != "span":
        for number in rng.permutation(len(words)):
            choose(words[number])
        return chosen
    for _ in range(TRIES * count):
        run, start = min(int(rng.geometric(0.2)), 10), int(rng.integers(len(words)))  # 3.8 words on average
        for word in words[start : start + run]:
            choose(word)
    return chosen


def shaken(ids, rng):
    """Ids with two words exchanged or one left out (easy data augmentation; Wei and Zou, 2019); one word stays as it is."""
    if len(ids) < 2:
        return list(ids)
    first, second = rng.choice(len(ids), 2, replace=False)
    if rng.random() < 0.5:
        return [one for place, one in enumerate(ids) if place != first]
    changed = list(ids)
    changed[first], changed[second] = ids[second], ids[first]
    return changed
