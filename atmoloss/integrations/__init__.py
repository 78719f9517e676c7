"""AtmoDist inside other programs. Each module needs the program it is named after, and is imported by nothing else."""
