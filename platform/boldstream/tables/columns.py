"""Words lined up in columns."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Line up rows of words in columns."""
    lines = [list(head), *map(list, rows)] if head else [list(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))] if lines else []
    padded = ("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
