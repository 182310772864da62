"""The tally: numbers per subgroup, from which every figure is arithmetic.

Rows are counted once, at the finest cells (all sensitive features together); coarser groupings are
sums of cells. Tallies add: those of two tables of different images sum to that of both. A tally
holds no image, name or row, and can be kept in a small file.
"""

from faceaudit.audit.tally.bins import (
    AGE_YEARS,
    BLOCKS,
    CALIBRATION_BINS,
    COARSE_BINS,
    CONFIDENCE_BINS,
    ERROR_BINS,
    ERROR_LIMIT,
    SCORE_BINS,
    block_of,
    error_bin,
    score_bin,
    score_edges,
    year_bin,
)
from faceaudit.audit.tally.cells import CellCounts, Codes, Numbers
from faceaudit.audit.tally.count import facts_of, tally
from faceaudit.audit.tally.file import (
    TALLY_SUFFIX,
    load_archive,
    load_tally,
    save_archive,
    save_tally,
)
from faceaudit.audit.tally.rows import CellCoder, order_of_faces
from faceaudit.audit.tally.tally import (
    Cut,
    TableFacts,
    Tally,
    YearErrors,
    add_up,
    cut,
    years_by_block,
    years_of,
)

__all__ = [
    "AGE_YEARS",
    "BLOCKS",
    "CALIBRATION_BINS",
    "COARSE_BINS",
    "CONFIDENCE_BINS",
    "ERROR_BINS",
    "ERROR_LIMIT",
    "SCORE_BINS",
    "TALLY_SUFFIX",
    "CellCoder",
    "CellCounts",
    "Codes",
    "Cut",
    "Numbers",
    "TableFacts",
    "Tally",
    "YearErrors",
    "add_up",
    "block_of",
    "cut",
    "error_bin",
    "facts_of",
    "load_archive",
    "load_tally",
    "order_of_faces",
    "save_archive",
    "save_tally",
    "score_bin",
    "score_edges",
    "tally",
    "year_bin",
    "years_by_block",
    "years_of",
]
