"""Why the store did not do what was asked: one closed set of causes, and what a person should know.

Their values are public (field of log lines, metric label). Which error has which cause is decided
in `sidecar.adapters.redis_trouble`. It knows no client library.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class StoreTrouble(StrEnum):
    """The cause of one failure of the store."""

    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    TIMEOUT = "timeout"
    CERTIFICATE = "certificate"
    TLS = "tls"
    DESCRIPTORS = "descriptors"
    POOL = "pool"
    MAXCLIENTS = "maxclients"
    NOAUTH = "noauth"
    WRONGPASS = "wrongpass"
    NOPERM = "noperm"
    LOADING = "loading"
    READONLY = "readonly"
    MASTERDOWN = "masterdown"
    CLUSTERDOWN = "clusterdown"
    MOVING = "moving"
    NO_PRIMARY = "no_primary"
    NOREPLICAS = "noreplicas"
    OOM = "oom"
    MISCONF = "misconf"
    BUSY = "busy"
    SCHEMA = "schema"
    UNREADABLE = "unreadable"
    ERROR = "error"


TROUBLE_HINTS: Final[Mapping[StoreTrouble, str]] = {
    StoreTrouble.DNS: "The name of a server has no address; check SIDECAR_REDIS_URL and DNS.",
    StoreTrouble.REFUSED: "Nothing listens at the address; check that Redis runs, and its port.",
    StoreTrouble.UNREACHABLE: "No way leads to the address; check network, routes and firewalls.",
    StoreTrouble.RESET: "A connection ended early: Redis stopped or failed over, or something "
    "between closes connections.",
    StoreTrouble.TIMEOUT: "No answer in half a second; check the network, and what keeps Redis "
    "busy (`SLOWLOG GET`, a slow disk, swapping).",
    StoreTrouble.CERTIFICATE: "The certificate of Redis was not accepted; check its authority "
    "(SIDECAR_CA_FILE), its names and its dates.",
    StoreTrouble.TLS: "No TLS connection came about; check that Redis speaks TLS on this port.",
    StoreTrouble.DESCRIPTORS: "This process may open no more files; raise its `nofile` limit.",
    StoreTrouble.POOL: "All connections of this sidecar are taken; Redis answers too slowly.",
    StoreTrouble.MAXCLIENTS: "Redis takes no more connections; find who holds them "
    "(`CLIENT LIST`), or raise its `maxclients`.",
    StoreTrouble.NOAUTH: "Redis wants user and password; put them into SIDECAR_REDIS_URL.",
    StoreTrouble.WRONGPASS: "Redis refused user or password, or the user is off; check "
    "SIDECAR_REDIS_URL.",
    StoreTrouble.NOPERM: "The user may not do this; give it the rights of "
    "`config/redis/users.acl`. `akoya-sidecar doctor` names what is missing.",
    StoreTrouble.LOADING: "Redis reads its data; wait for it.",
    StoreTrouble.READONLY: "This server is a replica; a failover is not over, or the address is "
    "not the primary's.",
    StoreTrouble.MASTERDOWN: "A replica has lost its primary; look at both.",
    StoreTrouble.CLUSTERDOWN: "A part of the Cluster, or all of it, is served by no primary; look "
    "at `CLUSTER INFO`.",
    StoreTrouble.MOVING: "Keys move between servers of the Cluster; this passes.",
    StoreTrouble.NO_PRIMARY: "The Sentinels know no primary of this service; check its name in "
    "SIDECAR_REDIS_URL.",
    StoreTrouble.NOREPLICAS: "Too few replicas follow the primary, which therefore accepts no "
    "write (`min-replicas-to-write`); bring them back.",
    StoreTrouble.OOM: "Redis is full (`maxmemory`): no claim is taken, but pairs are still "
    "stored; give it more memory.",
    StoreTrouble.MISCONF: "Redis could not save its data and takes no writes; make room on its "
    "disk, or repair its rights.",
    StoreTrouble.BUSY: "A script that is not the sidecar's blocks Redis; find it and end it.",
    StoreTrouble.SCHEMA: "A newer sidecar wrote this record; finish the upgrade.",
    StoreTrouble.UNREADABLE: "An answer or a record cannot be read; something else writes below "
    "the prefix, or answers in place of Redis.",
    StoreTrouble.ERROR: "Redis answered with an error that the sidecar does not know; look into "
    "the log of Redis.",
}

TOLD_AT_ONCE: Final = frozenset(
    {
        StoreTrouble.CERTIFICATE,
        StoreTrouble.DESCRIPTORS,
        StoreTrouble.MAXCLIENTS,
        StoreTrouble.NOAUTH,
        StoreTrouble.WRONGPASS,
        StoreTrouble.NOPERM,
        StoreTrouble.OOM,
        StoreTrouble.MISCONF,
        StoreTrouble.ERROR,
    }
)
"""Causes that stay until a person acts. All others come with every restart and failover too."""

STRAIN_S: Final = 10.0
"""For so long a failure is held against a store that answers otherwise."""

LASTING: Final = 3
"""In so many different seconds of `STRAIN_S` a cause that may pass is more than a failover."""


def strain_of(seconds: Mapping[StoreTrouble, int]) -> StoreTrouble | None:
    """Return what a store that answers probes suffers from, or ``None``.

    Args:
        seconds: In how many different seconds of the last `STRAIN_S` which cause was met.
    """
    lasting = {
        cause: count
        for cause, count in seconds.items()
        if count >= (1 if cause in TOLD_AT_ONCE else LASTING)
    }
    if not lasting:
        return None
    # What Redis itself names says more than what became of connections.
    return max(lasting, key=lambda cause: (cause in TOLD_AT_ONCE, lasting[cause], cause.value))
