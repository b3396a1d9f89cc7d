"""aiohttp's connector, strict about what an egress proxy sends before the tunnel is ours.

Between the proxy's `200` and our first octet of TLS there is nobody who may speak. It must not
know what goes through the tunnel.
"""

from __future__ import annotations

import asyncio
from typing import final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader


@final
class TunnelConnector(aiohttp.TCPConnector):
    """Makes connections, through an egress proxy where there is one."""

    async def _start_tls_connection(
        self,
        underlying_transport: asyncio.Transport,
        req: aiohttp.ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - its name in aiohttp
        client_error: type[Exception] = aiohttp.ClientConnectorError,
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        """Begin TLS in a tunnel; aiohttp would drop what came before it, and go on.

        Raises:
            aiohttp.ClientPayloadError: Something came before it.
        """
        # aiohttp has no public name for either; the tests of the egress proxy hold it to them.
        payload = getattr(underlying_transport.get_protocol(), "_payload", None)
        if isinstance(payload, StreamReader) and payload.total_bytes:
            underlying_transport.abort()
            raise aiohttp.ClientPayloadError
        return await super()._start_tls_connection(underlying_transport, req, timeout, client_error)
