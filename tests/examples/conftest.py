import sys
from pathlib import Path

# The examples are packages of their own, beside atmoloss.
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
