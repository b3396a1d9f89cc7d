"""Asks an upstream without a proxy before it, so that a test decides when the loop may run."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sidecar.domain.secret import Secret
from sidecar.http.upstream import Question, Upload, Upstream, UpstreamOptions


def question(method: str = "GET", *, body: bytes | Upload | None = None) -> Question:
    """Return a request as the proxy makes them."""
    return Question(
        method=method,
        target="/balances/v2/mikomo",
        headers=[],
        bearer=Secret("token-1"),
        body=body,
    )


@asynccontextmanager
async def asking(
    port: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Upstream]:
    """Yield an upstream at a port of this machine."""
    upstream = Upstream(
        options=UpstreamOptions(
            url=f"http{'s' if tls else ''}://{host}:{port}",
            timeout_s=10.0,
            connect_timeout_s=2.0,
            tls=tls,
        )
    )
    try:
        yield upstream
    finally:
        await upstream.close()
