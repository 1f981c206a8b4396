"""Kinds that a page type alone proves: large kmalloc, hugetlb, free and offline pages."""

from __future__ import annotations

from mftriage.kernel.owner.subject import Subject
from mftriage.model import Owner


def detect_large_kmalloc(subject: Subject) -> Owner | None:
    """kmalloc() beyond the largest cache (a page type since 6.15)."""
    if subject.page_type != "large_kmalloc":
        return None
    return Owner(
        kind="large-kmalloc",
        detail="kmalloc() memory too large for a slab cache; who asked for it is not kept",
    )


def detect_hugetlb(subject: Subject) -> Owner | None:
    """A huge page of hugetlbfs (a page type since 6.10; d99e3140a4d3)."""
    if subject.page_type != "hugetlb":
        return None
    return Owner(kind="hugetlb", detail="huge page of hugetlbfs")


def detect_free(subject: Subject) -> Owner | None:
    """A free page in the buddy allocator."""
    if subject.page_type != "buddy":
        return None
    return Owner(kind="free", detail="free page of the buddy allocator")


def detect_offline(subject: Subject) -> Owner | None:
    """A page that a driver (balloon, memory hotplug) took from the kernel."""
    if subject.page_type != "offline":
        return None
    return Owner(
        kind="offline", detail="page that is logically offline (balloon or memory hotplug)"
    )
