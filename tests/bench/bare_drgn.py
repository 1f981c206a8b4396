"""What somebody who knows drgn would type for a memory failure: ``bare_drgn.py DUMP VMLINUX``.

The measure that bench.py holds mftriage against, so it does nothing that it need not do: only
the kernel's own debug info, and stock helpers.  Prints the failing pfn, the page's flags, the
slab cache that it is of and the crashed thread's stack.
"""

from __future__ import annotations

import re
import sys

from drgn import Program
from drgn.helpers.linux.mm import decode_page_flags, page_to_virt, pfn_to_page
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.slab import find_containing_slab_cache


def main(dump: str, vmlinux: str) -> None:
    """Print it all."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])

    failures = re.findall(rb"Memory failure: 0x([0-9a-f]+):", get_dmesg(program))
    if failures:
        pfn = int(failures[-1], 16)
        page = pfn_to_page(program, pfn)
        print(f"pfn {pfn:#x}")
        print(f"flags {decode_page_flags(page)}")
        cache = find_containing_slab_cache(page_to_virt(page))
        print(f"slab cache {cache.name.string_().decode() if cache else None}")
    print(program.crashed_thread().stack_trace())


if __name__ == "__main__":
    main(*sys.argv[1:])
