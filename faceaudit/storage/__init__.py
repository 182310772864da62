"""Files through one door, on disks and object stores alike.

What is finished appears at once, what is not never appears; one run at a time writes an output; an
outage of the storage is waited for. ``as_path`` is where every name that a user gives goes through;
everything else takes what it gives. ``docs/storage.md`` says what holds on which storage.
"""

from faceaudit.storage.copies import local_copies, local_copy
from faceaudit.storage.files import (
    atomic_write,
    exclusive,
    never_lost,
    remove_unfinished,
    sha256_of_file,
    write_starter,
    write_text,
)
from faceaudit.storage.outages import retrying, without_secrets
from faceaudit.storage.paths import (
    PARTS,
    as_path,
    check_outputs,
    followed,
    has_folder,
    identity,
    is_remote,
    list_parts,
    make_folder,
    remove,
)
from faceaudit.storage.tabular import (
    arrow_file,
    check_header,
    parquet_schema,
    read_csv,
    separator_of,
    short_rows,
)
from faceaudit.storage.versions import version_of

__all__ = [
    "PARTS",
    "arrow_file",
    "as_path",
    "atomic_write",
    "check_header",
    "check_outputs",
    "exclusive",
    "followed",
    "has_folder",
    "identity",
    "is_remote",
    "list_parts",
    "local_copies",
    "local_copy",
    "make_folder",
    "never_lost",
    "parquet_schema",
    "read_csv",
    "remove",
    "remove_unfinished",
    "retrying",
    "separator_of",
    "sha256_of_file",
    "short_rows",
    "version_of",
    "without_secrets",
    "write_starter",
    "write_text",
]
