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
