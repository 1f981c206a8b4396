"""Servers that drip, flood, or end in the middle."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mftriage.errors import TicketError
from mftriage.tickets import http
from mftriage.tickets.http import Client, Uncertain

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[tuple[Client, list[bytes]]]:
    """A client of a server that answers each request so."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536))
                try:
                    answer(connection)
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client = Client(
        "Tracker", base, {"Authorization": "Bearer hush"}, ("hush",), wait=lambda s: None
    )
    try:
        yield client, asked
    finally:
        client.close()
        listener.close()


def drip(connection: socket.socket) -> None:
    connection.sendall(_HEAD)
    for _ in range(50):
        connection.sendall(b" ")
        time.sleep(0.02)


def flood(connection: socket.socket) -> None:
    connection.sendall(_HEAD)
    for _ in range(100):
        connection.sendall(b" " * 65536)


def test_an_answer_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_DEADLINE", 0.1)
    with answering(drip) as (client, asked):
        with pytest.raises(TicketError, match="took too long"):
            client.get("/x")
        assert len(asked) == 4


def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST", 1 << 20)
    with answering(flood) as (client, asked):
        with pytest.raises(TicketError, match="more than 1 MiB"):
            client.get("/x")
        assert len(asked) == 1


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", _HEAD + b"{"])
def test_an_answer_that_ends_in_the_middle(start: bytes) -> None:
    with answering(lambda connection: connection.sendall(start)) as (client, asked):
        with pytest.raises(TicketError, match="can't be reached"):
            client.get("/x")
        assert len(asked) == 4
        with pytest.raises(Uncertain):
            client.add("/x", {"a": 1})
        assert len(asked) == 5  # what adds is not sent again
        with pytest.raises(TicketError, match="can't be reached"):
            client.change("/x", {"a": 1})
        assert len(asked) == 9


@pytest.mark.parametrize("start", [b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00", b"\0" * 5000])
def test_what_is_no_http(start: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)

    with answering(answer) as (client, _), pytest.raises(TicketError) as caught:
        client.get("/x")
    assert "hush" not in str(caught.value) and client.base in str(caught.value)


def test_a_client_tells_no_secret_of_itself() -> None:
    client = Client("Tracker", "https://x.example", {"Authorization": "Bearer hush"}, ("hush",))
    assert "hush" not in repr(client)


def test_nothing_is_said_where_there_is_no_tls() -> None:
    with answering(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{}")) as (
        client,
        asked,
    ):
        secure = Client(
            "Tracker", client.base.replace("http:", "https:"), client.headers, wait=lambda s: None
        )
        with pytest.raises(TicketError, match="can't be reached"):
            secure.get("/x")
        assert not any(b"hush" in request for request in asked)
