"""Figures as text: numbers with their units, tables for the console and for Markdown."""


def quartiles(found, show):
    """The spread of `benchmark.spread`, each value written by `show`."""
    return f"quartiles {show(found['q1'])} to {show(found['q3'])}, min {show(found['min'])}, {found['count']} values"


def percent(value):
    """A share in percent, a dash for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def size(count):
    """Bytes with a binary unit, a dash for None."""
    if count is None:
        return "-"
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << bits:
            return f"{count / (1 << bits):.4g} {unit}"
    return f"{count:.0f} B"


def markdown(title, sections):
    """Markdown of a title and `Table`s whose cells are text."""
    lines = [f"# {title}", ""]
    for table in sections:
        lines += [f"## {table.title}", "", f"| {' | '.join(table.headers)} |", f"|{' --- |' * len(table.headers)}"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table.rows]
        lines += ["", *([table.note, ""] if table.note else [])]
    return "\n".join(lines)


def console(sections):
    """The same for a console: aligned columns."""
    lines = []
    for table in sections:
        widths = [max(map(len, column)) for column in zip(table.headers, *table.rows, strict=True)]
        rows = [table.headers, *table.rows] if any(table.headers) else table.rows
        lines += ["", table.title, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)]
        lines += [table.note] if table.note else []
    return "\n".join(lines) + "\n"
