"""What runs on the machines of a cluster: a process that scores chunks."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from faceaudit.errors import EXIT_TEMPORARY, EXIT_USAGE, FaceauditError, TemporaryError, UsageError
from faceaudit.images.refs import ImageRef
from faceaudit.pipeline.engines import quiet_threads, score
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Facts, Settings
from faceaudit.schema import UNREADABLE


@dataclass(frozen=True)
class Refusal:
    """An error that a user can fix, as plain values."""

    message: str
    exit_code: int

    def as_error(self) -> FaceauditError:
        """The error, to be raised."""
        return (TemporaryError if self.exit_code == EXIT_TEMPORARY else UsageError)(self.message)


@dataclass(frozen=True)
class Opened:
    """A worker that is ready."""

    machine: str
    facts: Facts


@dataclass(frozen=True)
class Witness:
    """A file that tells whether a machine sees the images."""

    path: Path
    size: int

    @classmethod
    def of(cls, images: Sequence[ImageRef]) -> Witness | None:
        """The first file that is seen here; None where none is, as on an object store."""
        for image in images:
            path = Path(image.path).absolute()
            if "://" not in image.path and path.is_file():
                return cls(path, path.stat().st_size)
        return None

    def is_seen(self) -> bool:
        """Whether the same file is seen from here."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    def folder_is_seen(self) -> bool:
        """Whether the folder that held it is seen from here."""
        return self.path.parent.is_dir()


class Scorer:
    """A process that holds the model and scores chunks as they come."""

    def open(self, settings: Settings, witness: Witness | None) -> Opened | Refusal:
        """Open detector and model, once."""
        quiet_threads()
        self._machine = socket.gethostname()
        self._witness = witness
        if witness is not None and not witness.is_seen():
            return Refusal(
                f"--engine ray: the worker on {self._machine} does not see {witness.path} as this "
                "machine does: use a folder that all machines share, or s3://",
                EXIT_USAGE,
            )
        try:
            self._plan = settings.open()
        except FaceauditError as error:
            return Refusal(f"the worker on {self._machine}: {error}", error.exit_code)
        return Opened(self._machine, self._plan.facts())

    def score(self, chunk: Chunk) -> pa.Table | Refusal:
        """Rows of a chunk."""
        try:
            table = score(self._plan, chunk)
        except FaceauditError as error:
            return Refusal(f"the worker on {self._machine}: {error}", error.exit_code)
        gone = self._witness is not None and not self._witness.folder_is_seen()
        if gone and pc.any(pc.equal(table["status"], UNREADABLE)).as_py():
            return Refusal(
                f"the worker on {self._machine}: the images are gone since the run began; what was "
                "scored is kept: bring them back and run the same command",
                EXIT_TEMPORARY,
            )
        return table
