"""Tables of the benchmarks of `faceaudit predict`, as text or Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A head, and rows of as many cells."""


def printed(tables: Iterable[Table], *, markdown: bool = False) -> str:
    """Tables, one below the other."""
    return "\n\n".join((as_markdown if markdown else as_text)(*table) for table in tables)


def as_markdown(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table in Markdown, all columns but the first, or first few, to the right."""
    lines = [head, [*["---"] * texts, *["---:"] * (len(head) - texts)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def as_text(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in columns."""
    lines = [[cell.replace("`", "") for cell in cells] for cells in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        [line[0].ljust(widths[0])]
        + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in aligned)
