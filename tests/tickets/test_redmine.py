"""A real Redmine: Debian's package with SQLite, under puma, in a folder of its own.

It needs Debian's redmine and puma (``make tickets-redmine`` installs them), and runs only where
MFTRIAGE_REDMINE says so: setting it up takes half a minute.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mftriage.errors import TicketError
from tests.render.samples import ARM64_GHES
from tests.tickets import real

pytestmark = pytest.mark.skipif(
    not os.environ.get("MFTRIAGE_REDMINE"), reason="make tickets-redmine"
)

_PACKAGE = Path("/usr/share/redmine")
_DATABASE = "production:\n  adapter: sqlite3\n  database: {}\n  timeout: 10000\n"
_LIMIT = 4 << 20
# An account with a role of its own: no more rights than docs/tickets.md asks for.
_SEED = f"""
Setting.rest_api_enabled = '1'
Setting.attachment_max_size = '{_LIMIT >> 10}'
Setting.text_formatting = ENV.fetch('FORMATTING')
project = Project.create!(name: 'Memory', identifier: 'memory', is_public: true)
project.trackers = Tracker.all
project.enabled_module_names = ['issue_tracking', 'wiki']
project.save!
rights = [:view_issues, :add_issues, :edit_own_issues, :add_issue_notes, :edit_own_issue_notes]
role = Role.create!(name: 'bot', permissions: rights)
bot = User.new(firstname: 'Bot', lastname: 'Bot', mail: 'bot@example.com', language: 'en')
bot.login = 'bot'
bot.password = bot.password_confirmation = SecureRandom.hex(16)
bot.save!
Member.create!(project: project, principal: bot, roles: [role])
puts "key=#{{bot.api_key}}"
"""


class Redmine(real.Real):
    """A project of a fresh Redmine."""

    word, project, secret = "redmine", "memory", "REDMINE_API_KEY"
    key = ""
    formatting = ""
    files = Path()

    def environment(self) -> dict[str, str]:
        return {
            "REDMINE_URL": self.base,
            "REDMINE_API_KEY": self.key,
            "REDMINE_TEXT_FORMATTING": "textile" if self.formatting == "textile" else "markdown",
        }

    def view(self, number: str) -> tuple[str, list[str], dict[str, bytes]]:
        issue = self.get(f"issues/{number}.json?include=journals,attachments").json()["issue"]
        notes = [journal["notes"] for journal in issue["journals"] if journal.get("notes")]
        files = {
            file["filename"]: next(self.files.rglob(f"*_{file['filename']}")).read_bytes()
            for file in issue["attachments"]
        }
        return issue["subject"], [issue["description"], *notes], files

    def page(self, number: str) -> list[str]:
        shown = self.get(f"issues/{number}").text
        return re.findall(r'<div class="wiki">(.*?)\n</div>', shown, re.DOTALL)

    def get(self, path: str) -> httpx.Response:
        headers = {"X-Redmine-API-Key": self.key}
        return httpx.get(f"{self.base}/{path}", headers=headers, timeout=60)


@pytest.fixture(scope="module", params=["textile", "common_mark"])
def redmine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Redmine]:
    folder = tmp_path_factory.mktemp("redmine")
    app, port = folder / "app", real.free_port()
    links = shutil.ignore_patterns("instances", "Gemfile.lock", "database.yml")
    shutil.copytree(_PACKAGE, app, ignore=links)
    instance = app / "instances" / "default"
    for name in ("tmp", "log", "files", "plugins", "public"):
        (instance / name).mkdir(parents=True)
    (app / "tmp").mkdir(exist_ok=True)
    database = _DATABASE.format(folder / "redmine.db")
    real.write(instance / "config" / "database.yml", database)
    real.write(instance / "config" / "secret_key.txt", secrets.token_hex(40))
    real.write(app / "config" / "database.yml", database)
    gems = (app / "Gemfile").read_text().replace(f"{_PACKAGE}/", f"{app}/")
    real.write(app / "Gemfile", f'{gems}\ngem "puma"\n')
    run: dict[str, Any] = {
        "cwd": app,
        "env": {
            **os.environ,
            "RAILS_ENV": "production",
            "REDMINE_LANG": "en",
            "FORMATTING": request.param,
            # A later bundler looks for Debian's gems as if they had to be installed.
            "BUNDLER_VERSION": "2.3.15",
        },
    }
    real.write(folder / "seed.rb", _SEED)
    for command in (
        ["bundle", "install", "--local", "--quiet"],
        ["bundle", "exec", "rake", "db:migrate"],
        ["bundle", "exec", "rake", "redmine:load_default_data"],
    ):
        subprocess.run(command, check=True, capture_output=True, **run)
    seed = ["bundle", "exec", "rails", "runner", str(folder / "seed.rb")]
    told = subprocess.run(seed, check=True, capture_output=True, text=True, **run).stdout
    puma = ["bundle", "exec", "puma", "-q", "-e", "production", "-b", f"tcp://127.0.0.1:{port}"]
    with real.served(puma, port, "/", **run) as process:
        server = Redmine(f"http://127.0.0.1:{port}", process)
        server.key = told.partition("key=")[2].strip()
        server.formatting = request.param
        server.files = instance / "files"
        yield server


def test_a_tickets_life(redmine: Redmine) -> None:
    real.life(redmine)


def test_hostile(redmine: Redmine) -> None:
    # Headings have anchors of Redmine's own.
    real.hostile(
        redmine,
        lambda shown: re.sub(
            r'<a name="[\w-]+"></a>|<a [^>]*class="wiki-anchor">.*?</a>', "", shown
        ),
    )


def test_a_file_that_is_too_large(redmine: Redmine) -> None:
    with pytest.raises(
        TicketError, match=r"but then: .*exceeds the maximum allowed file size"
    ) as caught:
        redmine.send(ARM64_GHES, capsule=bytes(_LIMIT + 1))
    assert "--capsule" in caught.value.remedy or "says" in caught.value.remedy


def test_refusals(redmine: Redmine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last: the server is gone behind it."""
    real.refusals(redmine, monkeypatch)
