"""Writes to an object store that happen only while an object is as it was last seen.

Stores name the state of an object: S3 by its ETag, Google's by its generation. Where the object is
in another state functions raise ``FileExistsError``, where it is gone ``FileNotFoundError``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from faceaudit.storage.outages import retrying
from faceaudit.storage.remote import RemotePath

ABSENT = ""
"""The state of an object that does not exist."""


@dataclass(frozen=True)
class Seen:
    """An object's bytes, and its state before they were read."""

    data: bytes
    state: str


def read(path: RemotePath) -> Seen | None:
    """An object as it is now; None where there is none."""
    state = _state_s3 if _is_s3(path) else _state_gs
    try:
        before = retrying(lambda: state(path), path)
        return Seen(path.read_bytes(), before)
    except FileNotFoundError:
        return None


def write(path: RemotePath, data: bytes, state: str, *, patience: float | None = None) -> str:
    """Write an object that is in a state, ``ABSENT`` for a new one; returns its new state.

    Args:
        path: The object.
        data: Its new bytes.
        state: The one that it is in.
        patience: As of ``retrying``.
    """
    put = _write_s3 if _is_s3(path) else _write_gs
    return retrying(lambda: put(path, data, state), path, patience=patience)


def delete(path: RemotePath, state: str) -> None:
    """Delete an object that is in a state; tried once."""
    drop = _delete_s3 if _is_s3(path) else _delete_gs
    retrying(lambda: drop(path, state), path, patience=0)


def _is_s3(path: RemotePath) -> bool:
    return path.protocol.startswith("s3")


def _state_s3(path: RemotePath) -> str:
    return str(path.fs.info(path.path)["ETag"])


def _write_s3(path: RemotePath, data: bytes, state: str) -> str:
    condition = {"IfNoneMatch": "*"} if state == ABSENT else {"IfMatch": state}
    return str(path.fs.pipe_file(path.path, data, **condition)["ETag"])


def _delete_s3(path: RemotePath, state: str) -> None:
    bucket, key, _ = path.fs.split_path(path.path)
    path.fs.call_s3("delete_object", Bucket=bucket, Key=key, IfMatch=state)


def _state_gs(path: RemotePath) -> str:
    bucket, key, _ = path.fs.split_path(path.path)
    return str(path.fs.call("GET", "b/{}/o/{}", bucket, key, json_out=True)["generation"])


def _write_gs(path: RemotePath, data: bytes, state: str) -> str:
    bucket, key, _ = path.fs.split_path(path.path)
    answer: dict[str, Any] = path.fs.call(
        "POST",
        f"{path.fs._location}/upload/storage/v1/b/{quote(bucket)}/o",
        uploadType="media",
        name=key,
        ifGenerationMatch=state or "0",
        headers={"Content-Type": "text/plain"},
        data=data,
        json_out=True,
    )
    return str(answer["generation"])


def _delete_gs(path: RemotePath, state: str) -> None:
    bucket, key, _ = path.fs.split_path(path.path)
    path.fs.call("DELETE", "b/{}/o/{}", bucket, key, ifGenerationMatch=state)
