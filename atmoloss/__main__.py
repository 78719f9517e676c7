"""``python -m atmoloss`` is the command ``atmoloss``."""

import sys

from atmoloss.cli import main

if __name__ == "__main__":
    sys.exit(main())
