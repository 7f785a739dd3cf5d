import sys
from pathlib import Path

# scripts in benchmarks/ import each other by plain names, as they do when run
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
