"""``python -m mftriage``."""

from mftriage.cli import main

if __name__ == "__main__":
    main()
