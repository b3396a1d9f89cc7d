"""What a sandbox can be told: lives of tokens, the app it knows, how strict and how fast it is.

It must not know aiohttp or how the values arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias, final
from urllib.parse import urlsplit

Profile: TypeAlias = Literal["dex", "hydra"]

HUB_CALLBACK: Final = "https://recipient.ddp.akoya.com/flow/callback"
_SMALLEST_KEY_BITS: Final = 1024


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Settings of one sandbox; spans in seconds, 0 meaning "none" where an end or a limit is meant.

    The names are those of the command's options. The only other default is `listen`: in process a
    free port is the right one.

    Raises:
        ValueError: a value is out of its bounds.
    """

    listen: str = "127.0.0.1:0"
    public_url: str | None = None
    id_token_life_s: float = 86400
    refresh_token_life_s: float = 0
    code_life_s: float = 300
    client_id: str = "sandbox-client"
    client_secret: str = field(default="sandbox-secret", repr=False)
    redirect_uris: tuple[str, ...] = ()
    profile: Profile = "dex"
    grace_s: float = 0
    rate_limit: float = 0
    race_error: bool = False
    id_token_honoured_s: float = 0
    providers_down: tuple[str, ...] = ()
    strict_auth: bool = True
    key_bits: int = 2048

    def __post_init__(self) -> None:
        for name in ("refresh_token_life_s", "grace_s", "rate_limit", "id_token_honoured_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        for name in ("id_token_life_s", "code_life_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.profile not in ("dex", "hydra"):
            raise ValueError("profile must be dex or hydra")
        if self.key_bits < _SMALLEST_KEY_BITS:
            raise ValueError(f"key_bits must be at least {_SMALLEST_KEY_BITS}")

    def allows_redirect_to(self, uri: str) -> bool:
        """Tell whether the app has registered this redirect URI.

        Without registered ones every `http` URI of the loopback interface will do, as RFC 8252
        (7.3) has it for native apps, and the placeholder callback of Akoya's console.
        """
        if self.redirect_uris:
            return uri in self.redirect_uris
        return uri == HUB_CALLBACK or _is_loopback(uri)

    @property
    def default_redirect_uri(self) -> str:
        """The redirect URI a scripted consent uses when it names none."""
        return self.redirect_uris[0] if self.redirect_uris else HUB_CALLBACK


def _is_loopback(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        loopback = host == "localhost" or ip_address(host).is_loopback
        plain = parts.port != 0 and parts.username is None and not parts.fragment
    except ValueError:
        return False
    return parts.scheme == "http" and loopback and plain
