"""The dwarf tier: find the vmlinux that a dump's kernel was, and give drgn its debug info.

Adds inlined functions and file:line to stack frames.  A vmlinux is known by its GNU build ID,
which VMCOREINFO repeats; one of another build would give wrong answers without a sign of it.
"""

from __future__ import annotations

import http.client
import mmap
import os
import struct
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drgn import Program

from mftriage.dump.header import parse_notes
from mftriage.dump.unpack import Progress, no_progress
from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.errors import SymbolsError

__all__ = ["find_quietly", "load"]

_ROOT = Path("/")
# Where Debian, Ubuntu, Fedora, RHEL and SUSE put a vmlinux with debug info, and a kernel's own
# build tree; below / or below a folder that a package was unpacked to.
_BY_RELEASE = (
    "usr/lib/debug/boot/vmlinux-{0}",
    "usr/lib/debug/boot/vmlinux-{0}.debug",
    "usr/lib/debug/lib/modules/{0}/vmlinux",
    "usr/lib/debug/lib/modules/{0}/vmlinux.debug",
    "usr/lib/debug/usr/lib/modules/{0}/vmlinux",
    "usr/lib/debug/usr/lib/modules/{0}/vmlinux.debug",
    "lib/modules/{0}/build/vmlinux",
    "lib/modules/{0}/vmlinux",
    "boot/vmlinux-{0}",
)
_BY_BUILD_ID = ("usr/lib/debug/.build-id/{0}/{1}.debug", ".build-id/{0}/{1}.debug")
_MAX_DEPTH = 8
_MAX_FOLDERS = 20_000  # of a search: a slip such as -s / must end

_SHT_NOTE, _SHT_NOBITS = 7, 8
_NT_GNU_BUILD_ID = 3
_MAX_SECTION = 1 << 20  # of notes or names; the real ones have a few hundred bytes
_CHUNK = 1 << 20


class _Stripped(SymbolsError):
    """The right vmlinux, but without debug info."""


@dataclass(frozen=True)
class _Image:
    """What an ELF file says of itself; ``rodata`` is the span (offset, bytes) of .rodata."""

    build_id: str | None
    has_debug_info: bool
    rodata: tuple[int, int]


def load(
    program: Program, vmcoreinfo: VmcoreInfo, wanted: Path | str, progress: Progress = no_progress
) -> Path:
    """Give ``program`` the debug info of its kernel, and say which file that is.

    ``wanted`` is a file, a folder to search, or "auto": the standard places, then the debuginfod
    servers in ``DEBUGINFOD_URLS``.  Raises ``SymbolsError`` for anything else than this kernel's.
    """
    if str(wanted) == "auto":
        path = _auto(vmcoreinfo, progress)
    else:
        path = _named(vmcoreinfo, Path(wanted))
    module = program.main_module("kernel", create=True)
    if vmcoreinfo.build_id:
        module.build_id = bytes.fromhex(vmcoreinfo.build_id)
    try:
        module.try_file(path)
        # drgn reads the debug info only when asked: a damaged one must show here and not later.
        program.type("struct page")
    except LookupError as error:
        raise SymbolsError(
            f"{str(path)!r} has debug info, but not that of a kernel", _remedy(vmcoreinfo)
        ) from error
    except Exception as error:  # drgn passes libdw's errors on as plain Exceptions
        raise SymbolsError(
            f"drgn can't read the debug info in {str(path)!r}: {error}", _remedy(vmcoreinfo)
        ) from error
    return path


def find_quietly(vmcoreinfo: VmcoreInfo) -> bool:
    """Whether "auto" would find this kernel's vmlinux without asking the network."""
    return _first(vmcoreinfo, _standard(vmcoreinfo)) is not None


def _remedy(vmcoreinfo: VmcoreInfo) -> str:
    release = vmcoreinfo.release or "RELEASE"
    return (
        f"install the kernel's debug package (Debian: linux-image-{release}-dbg, "
        f"Fedora and RHEL: kernel-debuginfo-{release}), or leave -s out: "
        "the dump's own type data (BTF) will be used"
    )


def _short(build_id: str) -> str:
    return build_id if len(build_id) <= 12 else f"{build_id[:12]}…"


def _kernel(vmcoreinfo: VmcoreInfo) -> str:
    """The dump's kernel, in the words of a message."""
    if vmcoreinfo.build_id:
        return f"{vmcoreinfo.release}, build ID {_short(vmcoreinfo.build_id)}"
    return vmcoreinfo.release or "of unknown release"


# Finding


def _named(vmcoreinfo: VmcoreInfo, path: Path) -> Path:
    if not os.path.isdir(path):  # Path.is_dir raises where a parent may not be entered
        _check(vmcoreinfo, path)
        return path
    try:
        os.scandir(path).close()  # os.walk passes over what it may not read
    except OSError as error:
        raise SymbolsError(
            f"can't look into {str(path)!r}: {error.strerror}", "try again with sudo"
        ) from error
    misfits: list[SymbolsError] = []
    found = _first(vmcoreinfo, _within(vmcoreinfo, path), misfits)
    if found:
        return found
    told = next((m for m in misfits if isinstance(m, _Stripped)), None)
    if told or len(misfits) == 1:
        raise told or misfits[0]
    what = f"none of the {len(misfits)} vmlinux files" if misfits else "there is no vmlinux"
    of_it = " is this kernel's" if misfits else " of this kernel"
    raise SymbolsError(
        f"{what} in {str(path)!r}{of_it} ({_kernel(vmcoreinfo)})", _remedy(vmcoreinfo)
    )


def _auto(vmcoreinfo: VmcoreInfo, progress: Progress) -> Path:
    misfits: list[SymbolsError] = []
    found = _first(vmcoreinfo, _standard(vmcoreinfo), misfits)
    if found:
        return found
    urls = [u for u in os.environ.get("DEBUGINFOD_URLS", "").split() if u.startswith("http")]
    message = f"no vmlinux of this kernel ({_kernel(vmcoreinfo)}) in the standard places"
    if not urls:
        told = next((m for m in misfits if isinstance(m, _Stripped)), None)
        if told:
            raise told
        message += ", and DEBUGINFOD_URLS names no server to ask"
    elif not vmcoreinfo.build_id:
        message += ", and debuginfod can't be asked: VMCOREINFO has no build ID (before Linux 5.9)"
    else:
        refusals = []
        for url in urls:
            try:
                return _fetch(vmcoreinfo, url, progress)
            except (OSError, http.client.HTTPException, ValueError, SymbolsError) as error:
                refusals.append(f"{url}: {_reason(error)}")
        message += f", and debuginfod gave none ({'; '.join(refusals)})"
    raise SymbolsError(message, _remedy(vmcoreinfo))


def _first(
    vmcoreinfo: VmcoreInfo, candidates: Iterator[Path], misfits: list[SymbolsError] | None = None
) -> Path | None:
    """The first candidate that is this kernel's; why the others are not goes to ``misfits``."""
    for path in candidates:
        if not _is_elf(path):
            continue
        try:
            _check(vmcoreinfo, path)
        except SymbolsError as error:
            if misfits is not None:
                misfits.append(error)
        else:
            return path
    return None


def _standard(vmcoreinfo: VmcoreInfo) -> Iterator[Path]:
    yield from _layouts(vmcoreinfo, _ROOT)
    if vmcoreinfo.build_id:
        yield _cached(vmcoreinfo.build_id)


def _layouts(vmcoreinfo: VmcoreInfo, root: Path) -> Iterator[Path]:
    if vmcoreinfo.build_id:
        for layout in _BY_BUILD_ID:
            yield root / layout.format(vmcoreinfo.build_id[:2], vmcoreinfo.build_id[2:])
    release = vmcoreinfo.release
    if release and "/" not in release:
        for layout in _BY_RELEASE:
            yield root / layout.format(release)


def _within(vmcoreinfo: VmcoreInfo, folder: Path) -> Iterator[Path]:
    seen = set()
    for path in _layouts(vmcoreinfo, folder):
        seen.add(path)
        yield path
    depth = len(folder.parts)
    for count, (where, folders, files) in enumerate(os.walk(folder)):
        here = Path(where)
        if count == _MAX_FOLDERS:
            return
        if len(here.parts) - depth >= _MAX_DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("vmlinux") and here / name not in seen:
                yield here / name


# Judging


def _is_elf(path: Path) -> bool:
    """Whether it is worth a look; an ELF file that may not be read is."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except PermissionError:
        return True
    except OSError:
        return False


def _check(vmcoreinfo: VmcoreInfo, path: Path) -> None:
    """Raise ``SymbolsError`` unless ``path`` has debug info of this very kernel."""
    image = _inspect(vmcoreinfo, path)
    if vmcoreinfo.build_id:
        if image.build_id != vmcoreinfo.build_id:
            other = f"build ID {_short(image.build_id)}" if image.build_id else "without a build ID"
            raise SymbolsError(
                f"{str(path)!r} is not this kernel's: it is {other}, "
                f"the dump's kernel is {_kernel(vmcoreinfo)}",
                _remedy(vmcoreinfo),
            )
    elif not vmcoreinfo.release or not _has_banner(path, image, vmcoreinfo.release):
        raise SymbolsError(
            f"{str(path)!r} can't be verified: VMCOREINFO has no build ID (before Linux 5.9), "
            f"and the file does not say that it is Linux {_kernel(vmcoreinfo)}",
            _remedy(vmcoreinfo),
        )
    if not image.has_debug_info:
        raise _Stripped(
            f"{str(path)!r} is this kernel's ({_kernel(vmcoreinfo)}), but has no debug info",
            _remedy(vmcoreinfo),
        )


def _inspect(vmcoreinfo: VmcoreInfo, path: Path) -> _Image:
    """Read a few hundred bytes of the ELF file at ``path``: its section table and its notes."""
    try:
        if path.exists() and not path.is_file():
            raise SymbolsError(f"{str(path)!r} is not a file", "name a vmlinux, a folder or auto")
        with path.open("rb") as file:
            image = _parse(file.fileno())
    except FileNotFoundError as error:
        raise SymbolsError(
            f"there is no {str(path)!r}", "name a vmlinux, a folder that has one, or auto"
        ) from error
    except PermissionError as error:
        raise SymbolsError(f"no permission to read {str(path)!r}", "try again with sudo") from error
    except OSError as error:
        raise SymbolsError(
            f"can't read {str(path)!r}: {error.strerror}", "check the path"
        ) from error
    if isinstance(image, str):
        raise SymbolsError(f"{str(path)!r} {image}", _remedy(vmcoreinfo))
    return image


def _parse(fd: int) -> _Image | str:
    """The image, or what is wrong with it."""
    header = os.pread(fd, 64, 0)
    if header.startswith((b"MZ", b"\x1f\x8b")):
        return "is a compressed boot image (vmlinuz), which has no debug info"
    if not header.startswith(b"\x7fELF"):
        return "is not a vmlinux (not an ELF file)"
    if header[4:6] != b"\x02\x01" or len(header) < 64:
        return "is not a vmlinux of x86_64 or arm64 (not a 64-bit little-endian ELF file)"
    (shoff,) = struct.unpack_from("<Q", header, 40)
    shentsize, shnum, shstrndx = struct.unpack_from("<HHH", header, 58)
    table = _pread(fd, shnum * 64, shoff)
    if shentsize != 64 or shstrndx >= shnum or len(table) < shnum * 64:
        return "is cut short or has no section table"
    # Elf64_Shdr: name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [struct.unpack_from("<IIQQQQ", table, 64 * n) for n in range(shnum)]
    names = _pread(fd, min(sections[shstrndx][5], _MAX_SECTION), sections[shstrndx][4])
    build_id, has_debug_info, rodata = None, False, (0, 0)
    for at, kind, _, _, offset, size in sections:
        name = names[at : at + 32].split(b"\0", 1)[0]
        if kind == _SHT_NOTE and build_id is None:
            notes = parse_notes(_pread(fd, min(size, _MAX_SECTION), offset))
            ids = (n.desc for n in notes if n.name == "GNU" and n.type == _NT_GNU_BUILD_ID)
            build_id = next((i.hex() for i in ids), None)
        elif kind != _SHT_NOBITS and name in (b".debug_info", b".zdebug_info"):
            has_debug_info = True
        elif kind != _SHT_NOBITS and name == b".rodata":
            rodata = offset, size
    return _Image(build_id, has_debug_info, rodata)


def _pread(fd: int, size: int, offset: int) -> bytes:
    # A damaged file's offset may be more than an off_t holds.
    return os.pread(fd, size, offset) if offset < 1 << 63 else b""


def _has_banner(path: Path, image: _Image, release: str) -> bool:
    """Whether linux_banner in the vmlinux's .rodata names ``release``."""
    offset, size = image.rodata
    banner = f"Linux version {release} ".encode()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(banner, offset, offset + size) >= 0


# debuginfod


def _cached(build_id: str) -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("mftriage") / "debuginfo" / build_id


def _fetch(vmcoreinfo: VmcoreInfo, url: str, progress: Progress) -> Path:
    """Fetch this kernel's debug info from the debuginfod server at ``url``, into the cache.

    Not by drgn's own libdebuginfod: that of its wheels knows certificates only at Red Hat's
    path, so https fails elsewhere, and it says nothing of why a file did not come.
    """
    build_id = vmcoreinfo.build_id or ""
    target = _cached(build_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(
        f"{url.rstrip('/')}/buildid/{build_id}/debuginfo", headers={"User-Agent": "mftriage"}
    )
    # debuginfod(8) may have to unpack a package first; its own clients wait as long.
    timeout = float(os.environ.get("DEBUGINFOD_TIMEOUT") or 90)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{build_id}.")
    part = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(request, timeout=timeout) as answer,
        ):
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress("debuginfod", done, total)
        if done < total:
            raise ConnectionError(f"the connection ended after {done} of {total} bytes")
        _check(vmcoreinfo, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _reason(error: Exception) -> str:
    """Why a server gave nothing, in a few words."""
    if isinstance(error, SymbolsError):
        return "what it sent is not this kernel's debug info"
    if isinstance(error, urllib.error.HTTPError):
        return "it does not have it" if error.code == 404 else f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        why = _reason(error.reason) if isinstance(error.reason, Exception) else error.reason
        return f"it can't be reached: {why}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__
