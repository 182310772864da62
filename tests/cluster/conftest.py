from __future__ import annotations

from tests.storage.conftest import aws, bucket, server

__all__ = ["aws", "bucket", "server"]
