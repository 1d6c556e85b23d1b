"""`python -m pipelines` is the `riskdistill` command."""

import sys

from pipelines.cli import main

sys.exit(main())
