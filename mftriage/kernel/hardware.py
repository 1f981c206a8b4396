"""Where the kernel's memory holds records of hardware errors.  A new place is a new file, named here.

Each is asked on its own: what one can't read is a row of ``not_checked``.  A kernel that was built
without a source, or has it and never used it, is no such row: there is nothing to be known.
"""

from __future__ import annotations

from collections.abc import Callable

from mftriage.kernel.cec import cec_records_in_memory
from mftriage.kernel.edac import edac_records_in_memory
from mftriage.kernel.ghes import ghes_records_in_memory
from mftriage.kernel.mce import mce_records_in_memory
from mftriage.kernel.system import Clock
from mftriage.model import HardwareError
from mftriage.symbols import Kernel

Source = Callable[[Kernel, Clock | None], list[HardwareError]]

SOURCES: dict[str, Source] = {
    "machine-check records in memory": mce_records_in_memory,
    "the firmware's records in memory (GHES)": ghes_records_in_memory,
    "the error counters of the DIMMs (EDAC)": edac_records_in_memory,
    "corrected errors that the kernel collected (CEC)": cec_records_in_memory,
}
