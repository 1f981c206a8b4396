"""A real Roundup: its classic tracker, as a process of its own, by its REST API."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tickets import real

_PASSWORD = "s3cr3t"
# roundup-server does not run as root, which tests may be.
_SERVER = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from roundup.cgi.wsgi_handler import RequestDispatcher

app = RequestDispatcher(sys.argv[1], feature_flags={"cache_tracker": ""})
make_server("127.0.0.1", int(sys.argv[2]), lambda e, s: app(e, s)).serve_forever()
"""


class Roundup(real.Real):
    """A tracker of the classic template; the account has the role User alone."""

    word, secret = "roundup", "ROUNDUP_PASSWORD"

    def environment(self) -> dict[str, str]:
        return {
            "ROUNDUP_URL": self.base,
            "ROUNDUP_USER": "bot",
            "ROUNDUP_PASSWORD": _PASSWORD,
        }

    def view(self, number: str) -> tuple[str, list[str], dict[str, bytes]]:
        issue = self.item("issue", number)
        texts = [self.item("msg", m["id"])["content"] for m in issue["messages"]]
        files = {
            self.item("file", f["id"], 1)["name"]: self.get(
                f"file/{f['id']}/binary_content"
            ).content
            for f in issue["files"]
        }
        return issue["title"], texts, files

    def page(self, number: str) -> list[str]:
        shown = httpx.get(f"{self.base}/issue{number}").text
        return re.findall(r'<td colspan="4" class="content">(.*?)</td>', shown, re.DOTALL)

    def item(self, kind: str, number: str, verbose: int = 3) -> Any:
        found = self.get(f"{kind}/{number}?@verbose={verbose}").json()
        return found["data"]["attributes"]

    def get(self, path: str) -> httpx.Response:
        # Roundup would compress what can't be compressed, for most of a minute.
        plain = {"Accept-Encoding": "identity"}
        return httpx.get(
            f"{self.base}/rest/data/{path}", auth=("admin", _PASSWORD), headers=plain, timeout=60
        )


@pytest.fixture
def roundup(tmp_path: Path) -> Iterator[Roundup]:
    home, port = tmp_path / "tracker", real.free_port()
    admin = [
        sys.executable,
        "-c",
        "from roundup.scripts.roundup_admin import run; run()",
        "-i",
        home,
    ]
    settings = f"admin_email=a@localhost,mail_domain=localhost,mailhost=localhost,tracker_web=http://127.0.0.1:{port}/"
    # Each request checks the password anew: at the default of 250,000 rounds that is most of a test's time.
    settings += ",password_pbkdf2_default_rounds=1000"
    for command in (
        ["install", "classic", "sqlite", settings],
        ["initialise", _PASSWORD],
        [
            "create",
            "user",
            "username=bot",
            f"password={_PASSWORD}",
            "roles=User",
            "address=b@localhost",
        ],
    ):
        subprocess.run([*admin, *command], check=True, capture_output=True)
    (home / "detectors" / "nosyreaction.py").unlink()  # there is nobody to mail to
    server = real.write(tmp_path / "server.py", _SERVER)
    with real.served([sys.executable, str(server), str(home), str(port)], port, "/") as process:
        yield Roundup(f"http://127.0.0.1:{port}", process)


def test_a_tickets_life(roundup: Roundup) -> None:
    real.life(roundup)


def test_hostile(roundup: Roundup) -> None:
    # Roundup marks whole addresses only; there is nothing of its own in a message.
    real.hostile(roundup, lambda shown: shown)
    assert roundup.page("1")


def test_refusals(roundup: Roundup, monkeypatch: pytest.MonkeyPatch) -> None:
    real.refusals(roundup, monkeypatch)
