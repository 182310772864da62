"""Log lines of a command, on stderr."""

from __future__ import annotations

import json
import logging
import sys

from faceaudit.cli.ending import one_line
from faceaudit.errors import UnknownNameError

LOG_FORMATS = ("text", "json")


def start_logging(quiet: bool, verbose: bool, log_format: str) -> None:
    """Send the package's log lines to stderr."""
    if log_format not in LOG_FORMATS:
        raise UnknownNameError("log format", log_format, LOG_FORMATS)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logger = logging.getLogger("faceaudit")
    logger.handlers[:] = [handler]
    logger.propagate = False
    level = logging.DEBUG if verbose else logging.INFO
    logger.setLevel(logging.ERROR if quiet else level)


class TextLines(logging.Formatter):
    """Log records as one line of text each; a traceback stands below its line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging names it
        return one_line(super().formatMessage(record))


class JsonLines(logging.Formatter):
    """Log records as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
        )
