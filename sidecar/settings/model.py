"""`Settings`: every variable of the sidecar with its type, bounds, default and meaning.

The one list of variables: the reference page and the example file are made from it. A field ``x``
is the variable ``SIDECAR_X``. What two variables must mean together is in `rules`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from sidecar.domain.addresses import TcpAddress
from sidecar.domain.secret import Secret
from sidecar.settings.keys import HashKey, NamedKeys, SealingKeys
from sidecar.settings.values import (
    Address,
    BrakeLimit,
    Directory,
    EgressUrl,
    HttpUrl,
    KeyPrefix,
    LeadSeconds,
    Methods,
    PlainSecret,
    ReadableFile,
    RedirectUri,
    RedisUrl,
    Scopes,
    SocketMode,
    UrlPath,
    UserHeader,
    Visible,
)

PREFIX: Final = "SIDECAR_"
MIB: Final = 1024 * 1024

IDP_URLS: Final = {
    "sandbox": "https://sandbox-idp.ddp.akoya.com",
    "production": "https://idp.ddp.akoya.com",
}
PRODUCTS_URLS: Final = {
    "sandbox": "https://sandbox-products.ddp.akoya.com",
    "production": "https://products.ddp.akoya.com",
}


SECTIONS: Final = {
    "akoya_client_id": "Akoya",
    "redis_url": "Store",
    "proxy_listen": "Listeners",
    "refresh_ahead": "Refreshing",
    "user_header": "Proxy",
    "ca_file": "Network and process",
}
"""The field with which each section of the reference begins."""


@final
class Settings(BaseModel):
    """What an operator decided; frozen. Spans are seconds; its `repr` shows no secret."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
    )

    akoya_client_id: Visible = Field(
        description="The app's client id at Akoya.",
    )
    akoya_client_secret: PlainSecret = Field(
        repr=False,
        description="The app's client secret at Akoya.",
    )
    akoya_environment: Literal["sandbox", "production"] = Field(
        default="sandbox",
        description="Chooses the hosts of the token service and of the data APIs.",
    )
    idp_url: HttpUrl | None = Field(
        default=None,
        description="The token service; by default "
        f"`{IDP_URLS['sandbox']}` or `{IDP_URLS['production']}`, by environment.",
    )
    products_url: HttpUrl | None = Field(
        default=None,
        description="The data APIs; by default "
        f"`{PRODUCTS_URLS['sandbox']}` or `{PRODUCTS_URLS['production']}`, by environment.",
    )
    revoke_path: UrlPath = Field(
        default="/revoke",
        description=(
            "Path of the token service's revocation; some documentation says `/token/revoke`."
        ),
    )
    redirect_uri: RedirectUri | None = Field(
        default=None,
        description="Redirect URI of code exchanges that name none.",
    )
    scopes: Scopes = Field(
        default="openid profile offline_access",
        description="Scopes of the authorize URLs that the grants API makes.",
    )
    refresh_auth: Literal["body", "basic"] = Field(
        default="body",
        description=(
            "Where token requests carry the client's credentials; Akoya documents the body."
        ),
    )
    idp_connect_timeout_s: Annotated[float, Field(ge=0.1, le=7)] = Field(
        default=5.0,
        description=(
            "How long a connection to the token service may take; bounded by the lease of a claim."
        ),
    )
    idp_timeout_s: Annotated[float, Field(ge=1, le=300)] = Field(
        default=15.0,
        description=(
            "How long a caller of the grants API waits for Akoya; the exchange itself goes on."
        ),
    )
    redis_url: RedisUrl = Field(
        default=Secret("redis://127.0.0.1:6379/0"),
        repr=False,
        description="The Redis or Valkey server that the fleet shares.",
    )
    redis_prefix: KeyPrefix = Field(
        default="sidecar",
        description="First part of every key.",
    )
    encryption_keys: SealingKeys = Field(
        repr=False,
        description="Keys that seal tokens; the first seals, all of them open.",
    )
    hash_key: HashKey = Field(
        repr=False,
        description=(
            "Key of the grant ids, log tags and fingerprints; never rotated, the same in the "
            "whole fleet."
        ),
    )
    spool_dir: Directory = Field(
        default="/var/lib/akoya-sidecar/spool",
        description="Where pairs lie that are not yet safe in the store; must survive a restart.",
    )
    proxy_listen: Address = Field(
        default=TcpAddress(host="127.0.0.1", port=8080),
        description="Address of the proxy; port 0 picks a free one and logs it.",
    )
    control_listen: Address = Field(
        default=TcpAddress(host="127.0.0.1", port=8081),
        description="Address of the grants API.",
    )
    metrics_listen: Address = Field(
        default=TcpAddress(host="0.0.0.0", port=9464),  # noqa: S104 - Prometheus and the kubelet ask
        description="Address of the metrics and the probes; they say nothing secret.",
    )
    socket_mode: SocketMode = Field(
        default=0o600,
        description="Mode of Unix sockets.",
    )
    client_keys: NamedKeys = Field(
        default=(),
        repr=False,
        description=(
            "Keys of clients; when set, a proxied request needs `Sidecar-Key`. The name is "
            "the log field `client`."
        ),
    )
    control_keys: NamedKeys = Field(
        repr=False,
        description="Keys of the grants API: `Authorization: Bearer <key>`.",
    )
    control_tls_cert: ReadableFile | None = Field(
        default=None,
        description="Certificate chain (PEM) of the control listener.",
    )
    control_tls_key: ReadableFile | None = Field(
        default=None,
        description="Private key (PEM) of that certificate.",
    )
    allow_unauthenticated: bool = Field(
        default=False,
        description=(
            "Lets the proxy listen beyond loopback without client keys: whoever reaches it "
            "acts for every user."
        ),
    )
    allow_plaintext_control: bool = Field(
        default=False,
        description=(
            "Lets the control listener listen beyond loopback without TLS: its keys can be "
            "read on the way."
        ),
    )
    refresh_ahead: Literal["active", "all", "off"] = Field(
        default="active",
        description=(
            "Which grants are refreshed before they expire: those in use, all, or none (only "
            "on use)."
        ),
    )
    active_window_s: Annotated[float, Field(ge=60, le=31536000)] = Field(
        default=86400.0,
        description="How recently a grant must have been used to count as in use.",
    )
    keepalive_s: Annotated[float, Field(ge=0, le=31536000)] = Field(
        default=0.0,
        description=(
            "Refreshes idle grants this often, so that refresh tokens do not die of disuse; 0 "
            "is off."
        ),
    )
    refresh_lead_s: LeadSeconds = Field(
        default=None,
        description=(
            "How long before its expiry an id_token is refreshed; auto is a fifth of its "
            "life, 60 s to 30 min, jittered, never more than half."
        ),
    )
    id_token_max_age_s: Annotated[float, Field(ge=60, le=604800)] = Field(
        default=86400.0,
        description="Upper bound on the trusted life of an id_token.",
    )
    refresh_wait_s: Annotated[float, Field(ge=0.1, le=120)] = Field(
        default=10.0,
        description=(
            "How long a request waits for a refresh before it is answered 503; the refresh goes on."
        ),
    )
    probe_policy: Literal["after_hold", "owner_only", "manual"] = Field(
        default="after_hold",
        description="Who may present a refresh token again whose answer was lost with its owner.",
    )
    brake_limit: BrakeLimit = Field(
        default=None,
        description=(
            "Grants that may turn `reauth_required` in ten minutes before the brake stops all "
            "claims."
        ),
    )
    user_header: UserHeader = Field(
        default="Sidecar-User",
        description="Header that names the end user of a proxied request.",
    )
    methods: Methods = Field(
        default=("GET", "POST"),
        description="Methods that the proxy accepts.",
    )
    replay_body_max_bytes: Annotated[int, Field(ge=0, le=64 * MIB)] = Field(
        default=65536,
        description=(
            "Request bodies up to this size are kept, so that a healed request can be repeated."
        ),
    )
    max_request_bytes: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Largest request body, else 413; 0 is no limit.",
    )
    max_in_flight: Annotated[int, Field(ge=1, le=1000000)] = Field(
        default=1000,
        description="Proxied requests at a time; beyond it 503 with `Retry-After`.",
    )
    upstream_connect_timeout_s: Annotated[float, Field(ge=0.1, le=60)] = Field(
        default=5.0,
        description="How long a connection to the data APIs may take.",
    )
    upstream_timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        default=30.0,
        description="Longest silence of the data APIs between two reads.",
    )
    upstream_retries: Annotated[int, Field(ge=0, le=3)] = Field(
        default=0,
        description=(
            "Repeats of a GET after a connect failure, 408, 429 or 5xx, within a retry budget."
        ),
    )
    ca_file: ReadableFile | None = Field(
        default=None,
        description="CA certificates (PEM) for the token service, the data APIs and Redis.",
    )
    egress_proxy: EgressUrl | None = Field(
        default=None,
        repr=False,
        description="HTTP proxy for the token service and the data APIs.",
    )
    drain_timeout_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=100.0,
        description=(
            "Longest wait after SIGTERM; normally done as soon as the claims in flight are."
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least level that is logged.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json",
        description="One JSON object a line, or lines for people.",
    )

    @property
    def effective_idp_url(self) -> str:
        """Base URL of the token service, without a slash at its end."""
        return self.idp_url or IDP_URLS[self.akoya_environment]

    @property
    def effective_products_url(self) -> str:
        """Base URL of the data APIs, without a slash at its end."""
        return self.products_url or PRODUCTS_URLS[self.akoya_environment]
