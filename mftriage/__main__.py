"""The entry point: ``mftriage`` and ``python -m mftriage``."""

from __future__ import annotations

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line.

    The collector stays off while modules load: that alone is a tenth of a second's run, and what
    they create lives as long as the process does.
    """
    gc.disable()
    try:
        from mftriage.cli import main as run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
