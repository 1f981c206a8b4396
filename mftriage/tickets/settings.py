"""Addresses and credentials: from the environment, secrets from a keyring too, never from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from mftriage.errors import UsageError
from mftriage.tickets.http import checked_url
from mftriage.tickets.interface import Limits, Settings

__all__ = ["settings"]

_SERVICE = "mftriage"  # what the entries of a keyring are filed under


def settings(limits: Limits, environment: Mapping[str, str]) -> Settings:
    """Return the values of a system's variables.

    A secret that the environment lacks is looked for in the keyring, under ``mftriage`` and the variable's
    name, where the package keyring is there.  Raises ``UsageError``: one that is needed is nowhere,
    or is of no use.
    """
    found: dict[str, str] = {}
    for variable in limits.variables:
        value = environment.get(variable.name, "").strip()
        if not value and variable.secret:
            value = _of_keyring(variable.name)
        value = value or variable.default or ""
        if not value:
            if variable.needed:
                where = " nor in the keyring" if variable.secret else ""
                raise UsageError(
                    f"{variable.name} is not set{where}: {variable.meaning}",
                    f"set it: export {variable.name}=... (see docs/tickets.md)",
                )
            continue
        if not (value.isascii() and value.isprintable()):
            raise UsageError(
                f"{variable.name} has characters that no such value has",
                "set it again, to one line",
            )
        found[variable.name] = (
            checked_url(value, variable.name) if _is_url(variable.name) else value
        )
    return found


def _is_url(name: str) -> bool:
    return name.endswith("_URL")


def _of_keyring(name: str) -> str:
    """The keyring's entry; nothing where there is no keyring, or it can't be opened."""
    if find_spec("keyring") is None:
        return ""
    try:
        return str(import_module("keyring").get_password(_SERVICE, name) or "").strip()
    except Exception:  # its backends raise what they like, and a keyring is but one of two places
        return ""
