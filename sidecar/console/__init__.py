"""What operators do at a terminal: look after grants, see how a sidecar is, find what is wrong.

`grants` and `status` talk to the control listener of a running sidecar, as any client of it does;
`doctor` looks for itself, at what a sidecar with the same environment would find. Every command
prints for people, or JSON for programs, and ends with a code of `exits`.
"""

from __future__ import annotations
