"""An embedded Slurm cluster on one machine, for the tests and for ``make demo``."""
