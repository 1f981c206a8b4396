"""pip for a virtual environment whose Python came without ensurepip: ``VENV/bin/python get_pip.py``.

Takes pip's newest wheel from the package index (PIP_INDEX_URL, or PyPI), checks its hash, and has
it install itself: a wheel can be run from within its zip file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path


def wheel_url(index: str) -> tuple[str, str | None]:
    """Where the newest pip lies, and its SHA-256 (the simple repository API, PEP 503 and 691)."""
    page = f"{index.rstrip('/')}/pip/"
    kinds = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    request = urllib.request.Request(page, headers={"Accept": kinds})
    with urllib.request.urlopen(request, timeout=60) as answer:
        body = answer.read().decode()
        base = answer.url
    if body.lstrip().startswith("{"):
        files = [(f["url"], f["hashes"].get("sha256")) for f in json.loads(body)["files"]]
    else:
        links = re.findall(r'href="([^"]+)"', body)
        files = [(url, parts.get("sha256")) for url, parts in map(_split, links)]
    wheels = []
    for url, digest in files:
        found = re.search(r"/pip-(\d+(?:\.\d+)*)-py3-none-any\.whl$", urllib.parse.unquote(url))
        if found:
            version = tuple(int(part) for part in found[1].split("."))
            wheels.append((version, urllib.parse.urljoin(base, url), digest))
    if not wheels:
        raise SystemExit(f"no pip at {page}: set PIP_INDEX_URL to a package index that has it")
    return max(wheels)[1:]


def _split(link: str) -> tuple[str, dict[str, str]]:
    url, _, fragment = link.partition("#")
    return url, dict(urllib.parse.parse_qsl(fragment))


def main() -> None:
    """Fetch, check, install."""
    url, digest = wheel_url(os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple"))
    with urllib.request.urlopen(url, timeout=300) as answer:
        data = answer.read()
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise SystemExit(f"{url} arrived damaged: try again")
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / url.rsplit("/", 1)[1]
        wheel.write_bytes(data)
        subprocess.run([sys.executable, f"{wheel}/pip", "install", "-q", str(wheel)], check=True)


if __name__ == "__main__":
    main()
