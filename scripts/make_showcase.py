"""Make the table that `faceaudit demo` audits, from a table of predictions on annotated images.

    python scripts/make_showcase.py val.parquet faceaudit/showcase/utkface_val.parquet

File names and hashes are dropped and rows are numbered: the table names no image. Whoever has the
data set could still match rows by their labels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def without_names(table: pa.Table) -> pa.Table:
    """The same rows with numbers in place of names and without hashes."""
    numbers = pa.array([f"{row:05d}" for row in range(len(table))])
    table = table.set_column(table.schema.get_field_index("image"), "image", numbers)
    hashes = pa.nulls(len(table), pa.string())
    return table.set_column(table.schema.get_field_index("sha256"), "sha256", hashes)


def main() -> None:
    """Read the table named first, write the one named second."""
    source, target = map(Path, sys.argv[1:3])
    table = pq.read_table(source)
    pq.write_table(without_names(table), target, compression="zstd", compression_level=19)
    print(f"{target}: {len(table)} rows, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
