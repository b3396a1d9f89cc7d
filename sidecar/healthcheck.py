"""The container's health check: asks ``/readyz`` of the metrics listener, standard library only.

It is started every few seconds, so it imports nothing that takes time; of the configuration it
knows one variable.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from sidecar.domain.addresses import parse_address
from sidecar.http.plain_client import connection_to

VARIABLE: Final = "SIDECAR_METRICS_LISTEN"
DEFAULT: Final = "0.0.0.0:9464"
TIMEOUT_S: Final = 3.0


def check(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Return whether the sidecar of this environment is ready, and a word on why not."""
    address = parse_address(environ.get(VARIABLE) or DEFAULT)
    if address is None:
        return False, f"{VARIABLE} is no address"
    connection = connection_to(address, timeout_s=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer on {address}: {type(error).__name__}"
    finally:
        connection.close()
    return status == HTTPStatus.OK, f"/readyz answered {status}"
