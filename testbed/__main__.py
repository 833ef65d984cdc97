"""`python -m testbed` is `testbed`."""

import sys

from testbed.cli import main

sys.exit(main())
