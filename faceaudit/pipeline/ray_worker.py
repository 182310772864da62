"""What runs on the machines of a cluster: a process that scores chunks."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from faceaudit.errors import EXIT_TEMPORARY, EXIT_USAGE, FaceauditError, TemporaryError, UsageError
from faceaudit.pipeline.engines import quiet_threads, score
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Facts, Settings
from faceaudit.pipeline.table import is_never_read
from faceaudit.pipeline.witness import Witness


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


class Scorer:
    """A process that holds the model and scores chunks as they come."""

    def open(self, settings: Settings, witness: Witness | None) -> Opened | Refusal:
        """Open detector and model, once."""
        quiet_threads()
        self._machine = socket.gethostname()
        self._witness = witness
        try:
            if witness is not None and not witness.is_seen():
                return Refusal(
                    f"--engine ray: the worker on {self._machine} does not see "
                    f"{witness.image.path} as this machine does: use a folder that all machines "
                    "share, or a store that all have credentials of",
                    EXIT_USAGE,
                )
            self._folder = None if witness is None else witness.folder()
            self._plan = settings.open()
        except FaceauditError as error:
            return Refusal(f"the worker on {self._machine}: {error}", error.exit_code)
        return Opened(self._machine, self._plan.facts())

    def score(self, chunk: Chunk) -> pa.Table | Refusal:
        """Rows of a chunk."""
        try:
            table = score(self._plan, chunk)
            lost = None
            if self._witness is not None and pc.any(is_never_read(table)).as_py():
                lost = self._witness.lost(self._folder)
        except FaceauditError as error:
            return Refusal(f"the worker on {self._machine}: {error}", error.exit_code)
        if lost is not None:
            return Refusal(f"the worker on {self._machine}: {lost}", EXIT_TEMPORARY)
        return table
