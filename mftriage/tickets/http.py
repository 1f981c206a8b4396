"""HTTP for ticket systems: one server, its credentials, and no surprises.

Credentials go to this server alone, over TLS (or to this very machine).  Redirects are refused but for those
that stay on the server.  What failed for a while is tried again where that does no harm: a call
that adds something is not, unless the server said that it did nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from mftriage.errors import TicketError, UsageError
from mftriage.render.words import clip, size, visible

if TYPE_CHECKING:
    import httpx

__all__ = ["NEW", "Client", "Files", "NotFound", "Request", "Uncertain", "checked_url"]

NEW = "NEW"  # the number of a ticket that a dry run would make

_TRIES = 4
_LONGEST_WAIT = 60.0  # seconds; a server that asks for more is asked another day
_DEADLINE = 120.0  # seconds for one answer, however slowly it drips
_CONNECT, _READ = 10.0, 30.0  # seconds
_MOST = 32 << 20  # bytes of an answer
_REDIRECTS = 3

Files = Mapping[str, tuple[str, bytes, str]]  # field: file name, content, media type


@dataclass(frozen=True)
class _Form:
    """A body of multipart/form-data."""

    files: Files
    fields: Mapping[str, str]


class NotFound(TicketError):
    """There is no such thing, or it may not be seen."""


class Uncertain(TicketError):
    """The server failed while it was adding something: it may have done it, or not."""


@dataclass(frozen=True)
class Request:
    """A request that adds or changes something, as a dry run shows it."""

    method: str
    url: str
    body: str


class _Unsent(dict[str, Any]):
    """The answer to a request that a dry run did not send: every part of it is new."""

    def __missing__(self, key: object) -> Any:
        return _Unsent()

    def __str__(self) -> str:
        return NEW


@dataclass
class Client:
    """One server.

    Args:
        name: the system's name, for messages.
        base: the URL that paths are put behind.
        headers: sent with every request; they may hold credentials.
        secrets: strings that are never shown, in whatever the server says.
        hint: what to check where the credentials are refused.
        rights: what they must allow.
        unsent: where given, requests that add or change something are put there and not sent.
        wait: sleeps; tests don't.
    """

    name: str
    base: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    hint: str = ""
    rights: str = ""
    unsent: list[Request] | None = None
    wait: Callable[[float], None] = time.sleep
    _http: Any = field(default=None, repr=False)

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return what stands at ``path``, out of JSON."""
        if self.unsent is not None and NEW in path.split("/"):
            return _Unsent()  # nobody has made it
        return self._call("GET", path, params=params)

    def pages(
        self, path: str, params: Mapping[str, str] | None = None, *, most: int = 20
    ) -> Iterator[Any]:
        """Yield the items of a list that comes in pages of 100 (GitHub's and GitLab's way)."""
        for page in range(1, most + 1):
            items = self.get(path, {**(params or {}), "per_page": "100", "page": str(page)})
            yield from items
            if len(items) < 100:
                return

    def add(
        self,
        path: str,
        content: Any = None,
        *,
        method: str = "POST",
        params: Mapping[str, str] | None = None,
        files: Files | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send what adds something.  ``content`` is sent as JSON, bytes as they are.

        ``files`` and the ``fields`` beside them make a form.

        Raises ``Uncertain`` where the server may have done it all the same.
        """
        form = None if files is None else _Form(files, fields or {})
        return self._write(method, path, form or content, params, headers, again=False)

    def change(
        self,
        path: str,
        content: Any,
        *,
        method: str = "PUT",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send what puts something in the place of something: twice is the same as once."""
        return self._write(method, path, content, None, headers, again=True)

    def close(self) -> None:
        """Let go of the connections."""
        if self._http is not None:
            self._http.close()

    def _write(
        self,
        method: str,
        path: str,
        content: Any,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        *,
        again: bool,
    ) -> Any:
        if self.unsent is None:
            return self._call(
                *(method, path),
                params=params,
                content=content,
                headers=headers,
                again=again,
            )
        query = f"?{urlencode(params)}" if params else ""
        self.unsent.append(Request(method, f"{self.base}{path}{query}", _shown(content)))
        return _Unsent()

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
    ) -> Any:
        import httpx

        body: dict[str, Any] = {}
        if isinstance(content, _Form):
            body = {"files": dict(content.files), "data": dict(content.fields)}
        elif isinstance(content, bytes):
            body["content"] = content
        elif content is not None:
            body["json"] = content
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                status, answer_headers, raw = self._exchange(
                    method, f"{self.base}{path}", {"params": params, "headers": headers, **body}
                )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                if last:  # nothing was sent
                    raise self._unreachable(error) from None
            except httpx.TransportError as error:
                if not again:
                    raise self._uncertain(method, path, _words_of(error)) from None
                if last:
                    raise self._unreachable(error) from None
            except (httpx.InvalidURL, httpx.HTTPError) as error:
                raise self._unreachable(error) from None
            else:
                if status < 300:
                    return self._parsed(raw)
                refused = status == 429 or (status == 403 and "retry-after" in answer_headers)
                if not refused and status < 500:
                    raise self._refusal(status, method, path, raw)
                if not refused and not again:
                    raise self._uncertain(method, path, f"answered {status}")
                if last:
                    raise self._refusal(status, method, path, raw)
                asked = _seconds(answer_headers.get("retry-after"))
                if asked is not None and asked > _LONGEST_WAIT:
                    raise TicketError(
                        f"{self.name} asks to wait {asked:.0f} seconds ({status})",
                        "run the same command again then",
                    )
                self.wait(2.0**attempt if asked is None else asked)
                continue
            self.wait(2.0**attempt)
        raise AssertionError  # the last attempt returns or raises

    def _exchange(
        self, method: str, url: str, arguments: dict[str, Any]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request and its answer, behind redirects that stay on the server."""
        import httpx

        for _ in range(_REDIRECTS + 1):
            end = time.monotonic() + _DEADLINE
            with self._session().stream(method, url, **arguments) as response:
                if not response.is_redirect:
                    made = bytearray()
                    for piece in response.iter_bytes():
                        made += piece
                        if len(made) > _MOST:
                            raise TicketError(
                                f"{self.name} answered with more than {size(_MOST)}",
                                f"check that {self.base} is the server's address",
                            )
                        if time.monotonic() > end:
                            raise httpx.ReadTimeout("the answer took too long")
                    return response.status_code, response.headers, bytes(made)
                target = response.url.join(response.headers["location"])
                stays = _origin(target) == _origin(response.url)
                if not stays or (method != "GET" and response.status_code not in (307, 308)):
                    raise TicketError(
                        f"{self.name} redirects {method} to {visible(f'{target.scheme}://{target.host}')}, which gets no credentials",
                        f"put the server's true address in the place of {self.base}",
                    )
                url, arguments = str(target), {**arguments, "params": None}
        raise TicketError(
            f"{self.name} redirects in a circle", f"check that {self.base} is the server's address"
        )

    def _session(self) -> httpx.Client:
        if self._http is None:
            import httpx

            self._http = httpx.Client(
                headers={"Accept": "application/json", "User-Agent": "mftriage", **self.headers},
                timeout=httpx.Timeout(_READ, connect=_CONNECT),
                follow_redirects=False,
            )
        session: httpx.Client = self._http
        return session

    def _parsed(self, raw: bytes) -> Any:
        if not raw.strip():
            return {}
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise TicketError(
                f"{self.name} answered with something that is no JSON",
                f"check that {self.base} is the server's address, and that no log-in page stands before it",
            ) from None

    def _refusal(self, status: int, method: str, path: str, raw: bytes) -> TicketError:
        said = self._scrubbed(_said(raw))
        words = f": {said}" if said else ""
        where = f"{method} {path}"
        if status == 401:
            return TicketError(f"{self.name} refused the credentials (401){words}", self.hint)
        if status == 403:
            return TicketError(
                f"{self.name} forbids {where} (403){words}", f"they need: {self.rights}"
            )
        if status in (404, 410):
            return NotFound(
                f"{self.name} has no such ticket or project, or won't show it ({status}, {where}){words}",
                "check the name after --to, and what the credentials may see",
            )
        if status == 413:
            return TicketError(
                f"{self.name} takes no file as large as that (413){words}",
                "leave out --capsule, or have the limit raised",
            )
        if status >= 500 or status == 429:
            return TicketError(
                f"{self.name} failed {_TRIES} times (last with {status}){words}",
                "run the same command again later",
            )
        return TicketError(
            f"{self.name} refused {where} ({status}){words}",
            "see what it says; --dry-run shows what is sent",
        )

    def _unreachable(self, error: Exception) -> TicketError:
        return TicketError(
            f"{self.name} can't be reached at {self.base}: {self._scrubbed(_words_of(error))}",
            "check the address and the network, then run the same command again",
        )

    def _uncertain(self, method: str, path: str, why: str) -> Uncertain:
        return Uncertain(
            f"{self.name} failed during {method} {path} ({self._scrubbed(why)}), and may have done it",
            "run the same command again: what is there already is found",
        )

    def _scrubbed(self, text: str) -> str:
        """Words of the server or of a library, without what must not be shown."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return clip(visible(text), 300)


def checked_url(text: str, variable: str) -> str:
    """Return the base URL of a server, without the slash at its end.

    Raises ``UsageError``: it is none, or credentials would go over the network unencrypted.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(
            f"{variable} is no address of a server",
            f"set it to one: {variable}=https://tickets.example.com",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"{variable} holds more than the address of a server",
            "leave out user, password, ? and #: credentials have variables of their own",
        )
    if parts.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        raise UsageError(
            f"{variable} is no https address: credentials would go over the network in the clear",
            f"set it to the https address: {variable}=https://{host}",
        )
    return text.rstrip("/")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _seconds(text: str | None) -> float | None:
    """The seconds of Retry-After, also where it is a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    if text.isdecimal():
        return float(text[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _words_of(error: Exception) -> str:
    return str(error) or type(error).__name__


def _said(raw: bytes) -> str:
    """The sentences of an error's body, whichever keys the system puts them under."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    found: list[str] = []

    def walk(value: Any, name: str = "") -> None:
        if isinstance(value, str):
            found.append(f"{name}: {value}" if name else value)
        elif isinstance(value, list):
            for item in value[:5]:
                walk(item, name)
        elif isinstance(value, dict):
            for key, inner in [*value.items()][:10]:
                ours = key in ("message", "messages", "error", "errors", "errorMessages", "msg")
                if ours or name or isinstance(inner, list | dict):
                    walk(inner, name if ours else str(key))

    walk(body)
    return "; ".join(dict.fromkeys(found))


def _shown(content: Any) -> str:
    """What a dry run shows of a body: JSON as it is sent, files by name and size."""
    if isinstance(content, _Form):
        lines = [f"{name}: {value}" for name, value in content.fields.items()]
        for name, (file, data, kind) in content.files.items():
            lines.append(f"{name}: file {file} ({kind}, {len(data)} bytes)")
        return "\n".join(lines)
    if isinstance(content, bytes):
        return f"{len(content)} bytes"
    return json.dumps(_brief(content), indent=2, ensure_ascii=False)


def _brief(value: Any) -> Any:
    """JSON with the content of files, which is base64 there, told by its size."""
    if isinstance(value, dict):
        return {
            key: f"{len(inner)} characters of base64"
            if key in ("data", "FileContent")
            else _brief(inner)
            for key, inner in value.items()
        }
    return [_brief(item) for item in value] if isinstance(value, list) else value
