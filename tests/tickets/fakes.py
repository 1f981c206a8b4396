"""Ticket systems on loopback, by their documents: payloads, limits, and the shapes of their errors.

Each holds tickets in memory.  ``faults`` are what goes wrong next: an answer in place of the true one, before or
after the work was done.
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "s3cr3t-t0k3n-0f-the-tests"
EMAIL = "bot@example.com"


@dataclass
class Case:
    """A ticket as a fake holds it; the first post is the description."""

    title: str
    posts: list[tuple[int, Any]]
    files: dict[str, bytes] = field(default_factory=dict)
    closed: bool = False


@dataclass
class Call:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    def file(self) -> tuple[str, bytes]:
        """The file of a form."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = BytesParser(EmailMessage, policy=HTTP).parsebytes(head + self.raw)
        for part in form.iter_parts():
            if part.get_filename():
                return part.get_filename(), part.get_payload(decode=True)
        raise Refused(400, {"error": "file is missing"})


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, dict(headers or {})


@dataclass
class Fault:
    """What goes wrong with one request of a method whose path has ``path`` in it."""

    method: str
    path: str = ""
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    after: bool = False  # the work is done before it fails
    drop: bool = False  # no answer at all
    seconds: float = 0.0


class Fake:
    """One server."""

    word = ""  # in --to
    project = ""
    secret = ""  # the variable of the token
    markup = "markdown"
    holds_files = True
    edits = True

    def __init__(self) -> None:
        self.cases: dict[int, Case] = {}
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.posts = 0
        self.file_limit = 10 << 20
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer

            def _do(self) -> None:
                fake._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # what a test asks

    def environment(self) -> dict[str, str]:
        raise NotImplementedError

    def to(self, number: int | None = None) -> str:
        return f"{self.word}:{self.project}" + ("" if number is None else f"#{number}")

    def texts(self, number: int) -> list[str]:
        return [text for _, text in self.cases[number].posts]

    def files(self, number: int) -> dict[str, bytes]:
        return self.cases[number].files

    def foreign(self, text: str) -> int:
        """A ticket that somebody else has made."""
        return self.make("Broken", text)

    def reword(self, number: int, text: str) -> None:
        """Somebody edits the description."""
        self.cases[number].posts[0] = (self.cases[number].posts[0][0], text)

    def changes(self) -> list[Call]:
        return [call for call in self.calls if call.method != "GET"]

    # what the servers share

    def make(self, title: str, text: Any) -> int:
        number = len(self.cases) + 1
        self.cases[number] = Case(title, [])
        self.post(number, text)
        return number

    def post(self, number: int, text: Any) -> int:
        self.posts += 1
        self.cases[number].posts.append((1000 + self.posts, text))
        return 1000 + self.posts

    def case(self, number: str | int) -> Case:
        try:
            return self.cases[int(number)]
        except KeyError:
            raise self.missing() from None

    def change(self, post: str, text: Any) -> None:
        for case in self.cases.values():
            for at, (identity, _) in enumerate(case.posts):
                if identity == int(post):
                    case.posts[at] = (identity, text)
                    return
        raise self.missing()

    def having(self, word: str) -> list[int]:
        return [n for n, case in self.cases.items() if word in json.dumps([case.title, case.posts])]

    def missing(self) -> Refused:
        return Refused(404, {"message": "404 Not Found"})

    def routes(self) -> dict[str, Callable[..., Any]]:
        raise NotImplementedError

    def authorized(self, call: Call) -> bool:
        raise NotImplementedError

    def unauthorized(self) -> Refused:
        return Refused(401, {"message": "Unauthorized"})

    def _answer(self, call: Call) -> tuple[int, Any, dict[str, str]]:
        try:
            if not self.authorized(call):
                raise self.unauthorized()
            for pattern, function in self.routes().items():
                found = re.fullmatch(pattern, f"{call.method} {call.path}")
                if found:
                    body = function(call, *map(unquote, found.groups()))
                    return 201 if call.method == "POST" else 200, body, {}
            raise self.missing()
        except Refused as refused:
            return refused.status, refused.body, refused.headers

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        raw = handler.rfile.read(length)
        call = Call(handler.command, parts.path, query, handler.headers, raw)
        self.calls.append(call)
        fault = next(
            (f for f in self.faults if f.method == call.method and f.path in call.path), None
        )
        if fault:
            self.faults.remove(fault)
        if fault is None or fault.after:
            status, body, headers = self._answer(call)
        if fault:
            time.sleep(fault.seconds)
            if fault.drop:
                handler.close_connection = True
                handler.connection.close()
                return
            status, body, headers = fault.status, fault.body, fault.headers
        content = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)


def _too_long(text: str, most: int, refusal: Refused) -> None:
    if len(text) > most:
        raise refusal


class FakeGitHub(Fake):
    """docs.github.com/en/rest/issues, version 2022-11-28."""

    word, project, secret = "github", "fleet/crashes", "GITHUB_TOKEN"
    holds_files = False
    indexed = True  # the search lags behind

    def environment(self) -> dict[str, str]:
        return {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": self.base}

    def authorized(self, call: Call) -> bool:
        return call.headers.get("Authorization") == f"Bearer {TOKEN}"

    def unauthorized(self) -> Refused:
        return Refused(401, {"message": "Bad credentials", "status": "401"})

    def missing(self) -> Refused:
        return Refused(404, {"message": "Not Found", "status": "404"})

    def routes(self) -> dict[str, Callable[..., Any]]:
        issues = "/repos/fleet/crashes/issues"
        return {
            "GET /search/issues": self.search,
            f"GET {issues}": lambda c: [self.show(n) for n in reversed(self.cases)],
            f"POST {issues}": self.create,
            rf"GET {issues}/(\d+)": lambda c, n: self.show(n),
            rf"PATCH {issues}/(\d+)": self.patch,
            rf"GET {issues}/(\d+)/comments": self.comments,
            rf"POST {issues}/(\d+)/comments": self.comment,
            rf"PATCH {issues}/comments/(\d+)": self.patch_comment,
        }

    def show(self, number: str | int) -> dict[str, Any]:
        case = self.case(number)
        return {
            "number": int(number),
            "title": case.title,
            "body": case.posts[0][1],
            "state": "closed" if case.closed else "open",
            "html_url": f"https://github.com/fleet/crashes/issues/{number}",
        }

    def search(self, call: Call) -> Any:
        found = re.search(r'"(\w+)"', call.query["q"])
        assert found and "repo:fleet/crashes" in call.query["q"]
        numbers = self.having(found[1]) if self.indexed else []
        return {"total_count": len(numbers), "items": [self.show(n) for n in numbers]}

    def checked(self, text: str, where: str = "body", most: int = 65_536) -> str:
        message = f"{where} is too long (maximum is {most} characters)"
        error = {"resource": "Issue", "code": "custom", "field": where, "message": message}
        _too_long(text, most, Refused(422, {"message": "Validation Failed", "errors": [error]}))
        return text

    def create(self, call: Call) -> Any:
        title = self.checked(call.json["title"], "title", 256)
        return self.show(self.make(title, self.checked(call.json["body"])))

    def patch(self, call: Call, number: str) -> Any:
        self.case(number)
        self.reword(int(number), self.checked(call.json["body"]))
        return self.show(number)

    def comments(self, call: Call, number: str) -> Any:
        start = (int(call.query["page"]) - 1) * int(call.query["per_page"])
        posts = self.case(number).posts[1:][start : start + int(call.query["per_page"])]
        return [{"id": identity, "body": text} for identity, text in posts]

    def comment(self, call: Call, number: str) -> Any:
        self.case(number)
        return {"id": self.post(int(number), self.checked(call.json["body"]))}

    def patch_comment(self, call: Call, identity: str) -> Any:
        self.change(identity, self.checked(call.json["body"]))
        return {}


class FakeGitLab(Fake):
    """docs.gitlab.com/api/issues, notes and projects (uploads)."""

    word, project, secret = "gitlab", "fleet/sub/crashes", "GITLAB_TOKEN"

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[str, bytes] = {}

    def environment(self) -> dict[str, str]:
        return {"GITLAB_TOKEN": TOKEN, "GITLAB_URL": self.base}

    def authorized(self, call: Call) -> bool:
        return call.headers.get("PRIVATE-TOKEN") == TOKEN

    def unauthorized(self) -> Refused:
        return Refused(401, {"message": "401 Unauthorized"})

    def routes(self) -> dict[str, Callable[..., Any]]:
        project = "/api/v4/projects/fleet%2Fsub%2Fcrashes"
        return {
            f"GET {project}/issues": self.search,
            f"POST {project}/issues": self.create,
            rf"GET {project}/issues/(\d+)": lambda c, n: self.show(n),
            rf"PUT {project}/issues/(\d+)": self.put,
            rf"GET {project}/issues/(\d+)/notes": self.notes,
            rf"POST {project}/issues/(\d+)/notes": self.note,
            rf"PUT {project}/issues/\d+/notes/(\d+)": self.put_note,
            f"POST {project}/uploads": self.upload,
        }

    def show(self, number: str | int) -> dict[str, Any]:
        case = self.case(number)
        return {
            "iid": int(number),
            "title": case.title,
            "description": case.posts[0][1],
            "state": "closed" if case.closed else "opened",
            "web_url": f"https://gitlab.example.com/fleet/sub/crashes/-/issues/{number}",
        }

    def search(self, call: Call) -> Any:
        assert call.query["in"] == "description" and call.query["scope"] == "all"
        word = call.query["search"]
        return [self.show(n) for n, case in self.cases.items() if word in case.posts[0][1]]

    def checked(self, text: str, most: int = 1_048_576, where: str = "description") -> str:
        message = {where: [f"is too long (maximum is {most} characters)"]}
        _too_long(text, most, Refused(400, {"message": message}))
        return text

    def create(self, call: Call) -> Any:
        title = self.checked(call.json["title"], 255, "title")
        return self.show(self.make(title, self.checked(call.json["description"])))

    def put(self, call: Call, number: str) -> Any:
        self.case(number)
        self.reword(int(number), self.checked(call.json["description"]))
        return self.show(number)

    def notes(self, call: Call, number: str) -> Any:
        moved = {"id": 1, "body": "changed the description", "system": True}
        posts = self.case(number).posts[1:]
        return [moved, *({"id": i, "body": text, "system": False} for i, text in posts)]

    def note(self, call: Call, number: str) -> Any:
        self.case(number)
        return {"id": self.post(int(number), self.checked(call.json["body"]))}

    def put_note(self, call: Call, identity: str) -> Any:
        self.change(identity, self.checked(call.json["body"]))
        return {}

    def upload(self, call: Call) -> Any:
        name, content = call.file()
        if len(content) > self.file_limit:
            raise Refused(413, {"error": "Request Entity Too Large"})
        self.uploads[name] = content
        url = f"/uploads/0123456789abcdef/{name}"
        return {"alt": name, "url": url, "markdown": f"[{name}]({url})"}

    def files(self, number: int) -> dict[str, bytes]:
        linked = re.findall(r"\]\(/uploads/\w+/([\w.-]+)\)", "\n".join(self.texts(number)))
        return {name: self.uploads[name] for name in linked}


class FakeJira(Fake):
    """Jira Data Center: docs.atlassian.com/software/jira/docs/api/REST (version 2)."""

    word, project, secret, markup = "jira", "MEM", "JIRA_TOKEN", "jira"
    api = "/rest/api/2"

    def environment(self) -> dict[str, str]:
        return {"JIRA_TOKEN": TOKEN, "JIRA_URL": self.base}

    def to(self, number: int | None = None) -> str:
        return "jira:MEM" if number is None else f"jira:MEM-{number}"

    def authorized(self, call: Call) -> bool:
        return call.headers.get("Authorization") == f"Bearer {TOKEN}"

    def missing(self) -> Refused:
        message = "Issue does not exist or you do not have permission to see it."
        return Refused(404, {"errorMessages": [message], "errors": {}})

    def routes(self) -> dict[str, Callable[..., Any]]:
        issue = rf"{self.api}/issue/MEM-(\d+)"
        return {
            f"GET {self.api}/search{'/jql' if self.api.endswith('3') else ''}": self.search,
            f"POST {self.api}/issue": self.create,
            f"GET {issue}": lambda c, n: self.show(n),
            f"PUT {issue}": self.put,
            f"GET {issue}/comment": self.comments,
            f"POST {issue}/comment": self.comment,
            rf"PUT {self.api}/issue/MEM-\d+/comment/(\d+)": self.put_comment,
            f"POST {issue}/attachments": self.attach,
        }

    def show(self, number: str | int) -> dict[str, Any]:
        case = self.case(number)
        return {
            "key": f"MEM-{number}",
            "fields": {
                "summary": case.title,
                "description": case.posts[0][1],
                "status": {"statusCategory": {"key": "done" if case.closed else "new"}},
                "attachment": [{"filename": name} for name in case.files],
            },
        }

    def search(self, call: Call) -> Any:
        found = re.search(r'project = "MEM" AND text ~ "\\"(\w+)\\""', call.query["jql"])
        assert found
        return {"issues": [self.show(n) for n in self.having(found[1])]}

    def checked(self, text: Any, where: str = "description") -> Any:
        message = "The entered text is too long. It exceeds the allowed limit of 32,767 characters."
        if not isinstance(text, str):
            message = "Operation value must be a string"
        if not isinstance(text, str) or len(text) > 32_767:
            raise Refused(400, {"errorMessages": [], "errors": {where: message}})
        return text

    def create(self, call: Call) -> Any:
        fields = call.json["fields"]
        assert fields["project"] == {"key": "MEM"} and fields["issuetype"] == {"name": "Bug"}
        message = "Summary must be less than 255 characters."
        refusal = Refused(400, {"errorMessages": [], "errors": {"summary": message}})
        _too_long(fields["summary"], 255, refusal)
        number = self.make(fields["summary"], self.checked(fields["description"]))
        return {"id": str(10_000 + number), "key": f"MEM-{number}"}

    def put(self, call: Call, number: str) -> Any:
        self.case(number)
        self.reword(int(number), self.checked(call.json["fields"]["description"]))

    def comments(self, call: Call, number: str) -> Any:
        posts = self.case(number).posts[1:]
        start = int(call.query["startAt"])
        some = [{"id": str(i), "body": text} for i, text in posts[start : start + 2]]
        return {"startAt": start, "total": len(posts), "comments": some}

    def comment(self, call: Call, number: str) -> Any:
        self.case(number)
        return {"id": str(self.post(int(number), self.checked(call.json["body"], "comment")))}

    def put_comment(self, call: Call, identity: str) -> Any:
        self.change(identity, self.checked(call.json["body"], "comment"))
        return {}

    def attach(self, call: Call, number: str) -> Any:
        if call.headers.get("X-Atlassian-Token") != "no-check":
            raise Refused(403, None)
        name, content = call.file()
        if len(content) > self.file_limit:
            raise Refused(413, {"errorMessages": [f"{name} is too large"], "errors": {}})
        self.case(number).files[name] = content
        return [{"filename": name}]


class FakeJiraCloud(FakeJira):
    """Jira Cloud: developer.atlassian.com/cloud/jira/platform/rest/v3."""

    markup = "adf"
    api = "/rest/api/3"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "JIRA_EMAIL": EMAIL}

    def authorized(self, call: Call) -> bool:
        basic = b64encode(f"{EMAIL}:{TOKEN}".encode()).decode()
        return call.headers.get("Authorization") == f"Basic {basic}"

    def foreign(self, text: str) -> int:
        return self.make("Broken", _adf(text))

    def reword(self, number: int, text: Any) -> None:
        super().reword(number, _adf(text) if isinstance(text, str) else text)

    def checked(self, text: Any, where: str = "description") -> Any:
        message = (
            "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
        )
        if not isinstance(text, dict) or text.get("type") != "doc" or not _is_adf(text):
            raise Refused(400, {"errorMessages": [], "errors": {where: message}})
        if len(json.dumps(text, ensure_ascii=False)) > 32_767:
            raise Refused(400, {"errorMessages": ["CONTENT_LIMIT_EXCEEDED"], "errors": {}})
        return json.loads(json.dumps(text).replace('"attrs": {}', '"attrs": {"colspan": 1}'))


_ADF: dict[str, set[str]] = {
    "doc": {"heading", "paragraph", "bulletList", "orderedList", "table", "codeBlock"},
    "heading": {"text"},
    "paragraph": {"text"},
    "codeBlock": {"text"},
    "bulletList": {"listItem"},
    "orderedList": {"listItem"},
    "listItem": {"paragraph"},
    "table": {"tableRow"},
    "tableRow": {"tableHeader", "tableCell"},
    "tableHeader": {"paragraph"},
    "tableCell": {"paragraph"},
}


def _is_adf(node: Any) -> bool:
    """Whether a node is one that the format allows; a text node is never empty."""
    if node["type"] == "text":
        return bool(node["text"]) and "content" not in node
    inner = node.get("content", [])
    empty = not inner and node["type"] not in ("paragraph", "codeBlock")
    allowed = all(child["type"] in _ADF[node["type"]] for child in inner)
    return not empty and allowed and all(map(_is_adf, inner))


def _adf(text: str) -> dict[str, Any]:
    lines = [
        {"type": "paragraph", "content": [{"type": "text", "text": t}]}
        for t in text.split("\n")
        if t
    ]
    return {"version": 1, "type": "doc", "content": lines}


class FakeBugzilla(Fake):
    """bugzilla.readthedocs.io/en/5.0/api/core/v1."""

    word, project, secret, markup = "bugzilla", "Fleet/Memory", "BUGZILLA_API_KEY", "plain"
    edits = False

    def environment(self) -> dict[str, str]:
        return {"BUGZILLA_API_KEY": TOKEN, "BUGZILLA_URL": self.base}

    def authorized(self, call: Call) -> bool:
        return call.headers.get("X-BUGZILLA-API-KEY") == TOKEN

    def error(self, status: int, code: int, message: str) -> Refused:
        about = "https://bugzilla.readthedocs.org/en/5.0/api/"
        body = {"error": True, "code": code, "message": message, "documentation": about}
        return Refused(status, body)

    def unauthorized(self) -> Refused:
        return self.error(400, 306, "The API key you specified is invalid.")

    def missing(self) -> Refused:
        return self.error(404, 101, "Bug does not exist.")

    def routes(self) -> dict[str, Callable[..., Any]]:
        bug = r"/rest/bug/(\d+)"
        return {
            "GET /rest/bug": self.search,
            "POST /rest/bug": self.create,
            f"GET {bug}": lambda c, n: {"bugs": [self.show(n)]},
            f"GET {bug}/comment": self.comments,
            f"POST {bug}/comment": self.comment,
            f"GET {bug}/attachment": lambda c, n: {
                "bugs": {n: [{"file_name": name, "is_obsolete": 0} for name in self.case(n).files]}
            },
            f"POST {bug}/attachment": self.attach,
        }

    def show(self, number: str | int) -> dict[str, Any]:
        return {"id": int(number), "is_open": not self.case(number).closed}

    def search(self, call: Call) -> Any:
        query = call.query
        assert (query["product"], query["component"]) == ("Fleet", "Memory")
        assert (query["f1"], query["o1"]) == ("longdesc", "substring")
        found = [n for n in self.cases if any(query["v1"] in text for text in self.texts(n))]
        return {"bugs": [self.show(n) for n in found]}

    def checked(self, text: str) -> str:
        message = "Comments cannot be longer than 65535 characters."
        _too_long(text, 65_535, self.error(400, 114, message))
        return text

    def create(self, call: Call) -> Any:
        bug = call.json
        needed = {"product", "component", "version", "summary", "op_sys", "platform"}
        if needed - set(bug):
            raise self.error(400, 50, f"You must select {needed - set(bug)}")
        _too_long(bug["summary"], 255, self.error(400, 104, "The text you entered is too long."))
        return {"id": self.make(bug["summary"], self.checked(bug["description"]))}

    def comments(self, call: Call, number: str) -> Any:
        posts = [{"id": i, "text": text} for i, text in self.case(number).posts]
        return {"bugs": {number: {"comments": posts}}, "comments": {}}

    def comment(self, call: Call, number: str) -> Any:
        self.case(number)
        return {"id": self.post(int(number), self.checked(call.json["comment"]))}

    def attach(self, call: Call, number: str) -> Any:
        file = call.json
        content = b64decode(file["data"])
        if len(content) > min(self.file_limit, 1000 << 10):
            raise self.error(400, 600, "The file you are trying to attach is too large.")
        assert file["ids"] == [int(number)] and file["summary"] and file["content_type"]
        self.case(number).files[file["file_name"]] = content
        return {"ids": [7]}


class FakeRT(Fake):
    """docs.bestpractical.com/rt/5.0/RT/REST2.html."""

    word, project, secret, markup = "rt", "DC hardware", "RT_TOKEN", "plain"
    edits = False

    def environment(self) -> dict[str, str]:
        return {"RT_TOKEN": TOKEN, "RT_URL": self.base}

    def authorized(self, call: Call) -> bool:
        return call.headers.get("Authorization") == f"token {TOKEN}"

    def missing(self) -> Refused:
        return Refused(404, {"message": "Not Found"})

    def routes(self) -> dict[str, Callable[..., Any]]:
        ticket = r"/REST/2.0/ticket/(\d+)"
        return {
            "GET /REST/2.0/tickets": self.search,
            "POST /REST/2.0/ticket": self.create,
            f"GET {ticket}": lambda c, n: self.show(n),
            f"GET {ticket}/attachments": self.parts,
            r"GET /REST/2.0/attachment/(\d+)": self.part,
            f"POST {ticket}/comment": self.comment,
        }

    def show(self, number: str | int) -> dict[str, Any]:
        status = "resolved" if self.case(number).closed else "new"
        return {"id": int(number), "Subject": self.case(number).title, "Status": status}

    def search(self, call: Call) -> Any:
        found = re.fullmatch(r"Queue = 'DC hardware' AND Subject LIKE '(\w+)'", call.query["query"])
        assert found
        numbers = [n for n, case in self.cases.items() if found[1] in case.title]
        return {"items": [self.show(n) for n in numbers], "pages": 1}

    def create(self, call: Call) -> Any:
        ticket = call.json
        if ticket["Queue"] != "DC hardware":
            raise Refused(400, {"message": "Could not create ticket. Queue not set"})
        _too_long(ticket["Subject"], 200, Refused(400, {"message": "Subject too long"}))
        assert ticket["ContentType"] == "text/plain"
        return {"id": str(self.make(ticket["Subject"], ticket["Content"])), "type": "ticket"}

    def parts(self, call: Call, number: str) -> Any:
        texts = [
            {"id": str(i), "Filename": "", "ContentType": "text/plain"}
            for i, _ in self.case(number).posts
        ]
        names = [
            {"id": "1", "Filename": name, "ContentType": "text/html"}
            for name in self.case(number).files
        ]
        start = (int(call.query["page"]) - 1) * 3
        return {"items": [*texts, *names][start : start + 3], "pages": -(-len(texts + names) // 3)}

    def part(self, call: Call, identity: str) -> Any:
        for case in self.cases.values():
            for i, text in case.posts:
                if i == int(identity):
                    return {"id": identity, "Content": b64encode(text.encode()).decode()}
        raise self.missing()

    def comment(self, call: Call, number: str) -> Any:
        case, message = self.case(number), call.json
        for file in message.get("Attachments", []):
            content = b64decode(file["FileContent"])
            if len(content) > self.file_limit:
                raise Refused(413, {"message": "Request Entity Too Large"})
            case.files[file["FileName"]] = content
        self.post(int(number), message["Content"])
        return ["Comments added"]


FAKES: dict[str, type[Fake]] = {
    "github": FakeGitHub,
    "gitlab": FakeGitLab,
    "jira-data-center": FakeJira,
    "jira-cloud": FakeJiraCloud,
    "bugzilla": FakeBugzilla,
    "rt": FakeRT,
}
