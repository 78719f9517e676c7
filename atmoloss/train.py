"""``python -m atmoloss.train`` is ``atmoloss train``."""

import sys

from atmoloss.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
