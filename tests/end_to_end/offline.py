"""The command line, of which launches send nothing to MLflow: for tests that are about something else."""

from linsweep.__main__ import main
from tests.sweeps.offline import offline

if __name__ == "__main__":
    with offline():
        main()
