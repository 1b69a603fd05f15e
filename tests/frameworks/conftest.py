"""Fixtures of the framework tests: a loop that is checked to be hoop's, and a certificate."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Coroutine
from typing import Any, NamedTuple

import pytest
from peers import make_certificate, until

import hoop


@pytest.fixture
def run(run):
    """A function that runs a coroutine on a fresh hoop loop, until its connections are gone too."""

    def run_on_hoop(coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        async def checked() -> Any:
            loop = asyncio.get_running_loop()
            assert type(loop) is hoop.EventLoop
            result = await coro
            await until(lambda: not loop.counters()["transports"])
            return result

        return run(checked(), **options)

    return run_on_hoop


class Certificate(NamedTuple):
    """Paths of a self-signed certificate for localhost and 127.0.0.1, and of its key."""

    cert: str
    key: str


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Certificate:
    """One certificate for all tests."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate; Debian's package is openssl")
    return Certificate(*make_certificate(tmp_path_factory.mktemp("certificate")))


class Security(NamedTuple):
    """How one test encrypts: with nothing at all, or with TLS and the certificate."""

    certificate: Certificate | None
    serving: ssl.SSLContext | None
    trusting: ssl.SSLContext | None

    def scheme(self, name: str) -> str:
        """The scheme of a URL: http or https, ws or wss."""
        return f"{name}s" if self.certificate else name


@pytest.fixture
def plain() -> Security:
    """No encryption."""
    return Security(None, None, None)


@pytest.fixture
def tls(certificate) -> Security:
    """TLS: contexts for a server and for a client that trusts it."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    return Security(certificate, serving, ssl.create_default_context(cafile=certificate.cert))


@pytest.fixture(params=["plain", "tls"])
def security(request) -> Security:
    """The same test without TLS and with it."""
    return request.getfixturevalue(request.param)
