"""A reverse proxy that keeps Akoya's rotating refresh tokens alive for a fleet of microservices.

`domain` decides, `service` acts through `ports`, `adapters` and `http` touch the world, `telemetry`
tells the operator, and `app` joins them. `sandbox` is a local Akoya that shares no code with
the rest.
"""

from __future__ import annotations

__version__ = "0.1.0"
