"""docs/tickets.md says what the systems declare."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mftriage.render.words import size
from mftriage.tickets import SYSTEMS, system
from mftriage.tickets.interface import Edits, Holds
from mftriage.tickets.markup import MARKUPS
from tests.test_docs import rows, section


def systems() -> Iterator[list[str]]:
    """The table of the systems, as it must be."""
    for name in SYSTEMS:
        kind = system(name)
        limits = kind.limits
        file = "the server's setting" if limits.attachment is None else size(limits.attachment)
        yield [
            limits.name,
            " or ".join(f"`{one}`" for one in limits.target.split(" or ")),
            " or ".join(MARKUPS[markup] for markup in limits.markup),
            f"{limits.body:,}",
            f"{limits.title:,}",
            file if issubclass(kind, Holds) else "none by its API",
            limits.search,
            "hidden" if limits.hidden_mark else "a line",
            "changed in place" if issubclass(kind, Edits) else "added as a comment",
        ]


def variables() -> Iterator[list[str]]:
    """The table of the environment variables, as it must be."""
    for name in SYSTEMS:
        for variable in system(name).limits.variables:
            without = f"`{variable.default}`" if variable.default else ""
            if not without:
                without = "an error" if variable.needed else "left out"
            secret = "yes" if variable.secret else ""
            meaning = variable.meaning[0].upper() + variable.meaning[1:]
            yield [system(name).limits.name, f"`{variable.name}`", meaning, without, secret]


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("## Systems", systems),
        ("## Credentials", variables),
        ("## Rights", lambda: ([system(n).limits.name, system(n).limits.rights] for n in SYSTEMS)),
    ],
)
def test_tables(heading: str, table: object) -> None:
    wanted = list(table())  # type: ignore[operator]
    assert rows(section("tickets.md", heading)) == wanted, "\n".join(
        f"| {' | '.join(row)} |" for row in wanted
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_declarations(name: str) -> None:
    kind = system(name)
    limits = kind.limits
    assert limits.target.startswith(f"{name}:")
    assert any(variable.secret for variable in limits.variables)
    assert all(v.name.endswith("_URL") == ("address" in v.meaning) for v in limits.variables)
    assert issubclass(kind, Holds) or limits.attachment is None
