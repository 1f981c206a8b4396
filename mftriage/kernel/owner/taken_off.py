"""Pages that the kernel has already taken out of use: what its own words still tell of the owner.

After a recovered failure the struct page no longer says whose it was.  Some words of
action_page_types are printed for one kind of page only; the others ("dirty LRU page") are not
enough and prove nothing here.
"""

from __future__ import annotations

from mftriage.kernel.owner.subject import Subject
from mftriage.model import Owner, OwnerKind

# mm/internal.h: what page->private of a page that was taken off the buddy lists holds
_MAGIC_HWPOISON = 0x48575053

_WORDS: dict[str, OwnerKind] = {
    "huge page": "hugetlb",
    "free huge page": "hugetlb",
    "free buddy page": "free",
    "dirty swapcache page": "anon",
    "clean swapcache page": "anon",
    "unsplit thp": "thp",
}


def detect(subject: Subject) -> Owner | None:
    """By the kernel's words, or the mark that it left in the struct page."""
    if not subject.memory_map.is_poisoned(subject.page):
        return None
    if kind := _WORDS.get(subject.words or ""):
        return Owner(
            kind=kind, detail=f"by the kernel's words ({subject.words!r}); out of use since"
        )
    if subject.page.private == _MAGIC_HWPOISON:
        return Owner(kind="free", detail="taken off the buddy allocator's free lists")
    return None
