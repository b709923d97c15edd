"""Nested dictionaries by path "a/b/c"."""


def get(tree, path):
    """The leaf or subtree at a path."""
    for part in path.split("/"):
        tree = tree[part]
    return tree


def leaves(tree, prefix=""):
    """{path: leaf} of a nested dictionary."""
    out = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        out |= leaves(value, f"{path}/") if isinstance(value, dict) else {path: value}
    return out


def nest(flat):
    """{path: leaf} -> nested dictionary."""
    out = {}
    for path, value in flat.items():
        *folders, last = path.split("/")
        tree = out
        for folder in folders:
            tree = tree.setdefault(folder, {})
        tree[last] = value
    return out


def moved(path, places):
    """Where a path lies by {path of a leaf or a subtree ("": of all): its new path}; None of one that is in none of them."""
    for old, new in places.items():
        if not old:
            return f"{new}/{path}"
        if path == old or path.startswith(f"{old}/"):
            return new + path[len(old) :]
    return None
