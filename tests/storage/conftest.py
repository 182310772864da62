from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import urlopen
from uuid import uuid4

import pytest

from faceaudit.storage import outages, remote

KEY, SECRET = "AKIDEXAMPLEFORTESTS", "never/shown+anywhere0123456789abcdef"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A server that speaks S3, on this machine."""
    moto = pytest.importorskip("moto.server", reason="needs moto[server,s3]")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, server: str) -> str:
    """Credentials and endpoint in the environment, where boto3 looks for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    forget_stores()
    return server


@pytest.fixture
def bucket(aws: str) -> str:
    """An empty bucket, as ``s3://NAME``."""
    import boto3

    name = f"faces-{uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=aws).create_bucket(Bucket=name)
    return f"s3://{name}"


def forget_stores() -> None:
    """Connect anew, as another process would: fsspec keeps what it opened."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


class Proxy(ThreadingHTTPServer):
    """A server in front of another, which fails as it is told to."""

    daemon_threads = True

    def __init__(self, upstream: str, handler: type[Forwarding]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.upstream = urlsplit(upstream).netloc
        self.failures = 0
        """Requests that will fail before one is answered."""
        self.spared = 0
        """Requests that are answered before the first one fails."""
        self.how: int | None = 503
        """The status they are answered with; None closes the connection."""
        self.lose_answers = False
        """Whether requests that fail are carried out all the same."""
        self.ignore_conditions = False
        """Whether conditional requests are carried out whatever is there."""
        self.only = ""
        """Only requests whose line holds this fail."""
        self.one_at_a_time = threading.Lock()
        self.lines: list[str] = []
        """Method and path of all requests, in order."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_any(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {self.path}"
        self.server.lines.append(line)
        hit = bool(self.server.failures) and self.server.only in line
        if hit and self.server.spared:
            self.server.spared -= 1
        elif hit:
            self.server.failures -= 1
            if self.server.lose_answers:
                self.forward(data)
            if self.server.how is None:
                self.close_connection = True
                return
            self.answer(self.server.how, {}, b"")
            return
        answer, body = self.forward(data)
        kept = {name: value for name, value in answer.getheaders() if name not in HOP}
        if self.command == "HEAD":
            kept["Content-Length"] = answer.getheader("Content-Length") or "0"
        self.answer(answer.status, kept, body)

    def forward(self, data: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        upstream = http.client.HTTPConnection(self.server.upstream)
        headers = dict(self.headers)
        if self.server.ignore_conditions:
            headers.pop("If-None-Match", None)
        upstream.request(self.command, self.path, data, headers)
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        return answer, body

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - as http.server asks


@contextmanager
def urlopen_or_none(address: str) -> Iterator[IO[bytes] | None]:
    try:
        with urlopen(address) as answer:
            yield answer
    except HTTPError as error:
        error.close()
        yield None


class Google(Forwarding):
    """What the emulator of Google's store lacks: conditions on an object's generation."""

    def handle_any(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        wanted = asked.get("ifGenerationMatch", [""])[0]
        if not wanted:
            super().handle_any()
            return
        with self.server.one_at_a_time:
            name = asked["name"][0] if "name" in asked else None
            path = urlsplit(self.path).path.removeprefix("/upload")
            line = path if name is None else f"{path}/{quote(name, safe='')}"
            with urlopen_or_none(f"http://{self.server.upstream}{line}") as answer:
                there = json.load(answer)["generation"] if answer else "0"
            if str(there) == wanted:
                super().handle_any()
                return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(404 if there == "0" else 412, {}, b"{}")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - as http.server asks


HOP = ("Connection", "Content-Length", "Date", "Server", "Transfer-Encoding")


@contextmanager
def in_front_of(upstream: str, handler: type[Forwarding] | None = None) -> Iterator[Proxy]:
    proxy = Proxy(upstream, handler or Forwarding)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture
def proxy(bucket: str, aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The store behind a proxy that can fail, with short waits between attempts."""
    once = {"use_listings_cache": False, "config_kwargs": {"retries": {"total_max_attempts": 1}}}
    monkeypatch.setitem(remote.OPTIONS, "s3", once)
    monkeypatch.setattr(outages, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(outages, "PATIENCE", 5.0)
    with in_front_of(aws) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        forget_stores()
        yield running


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket of an emulator of Google's store, as ``gs://NAME``."""
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs the emulator")
    import gcsfs

    running = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="faces")
    running.start()
    host, port = running._api._httpd.socket.getsockname()
    with in_front_of(f"http://{host}:{port}", Google) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield "gs://faces"
    running.stop()


@pytest.fixture(params=["bucket", "google"])
def store(request: pytest.FixtureRequest) -> str:
    """An empty bucket of each kind of store."""
    return str(request.getfixturevalue(request.param))
