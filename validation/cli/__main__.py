"""``python -m validation.cli``: the command ``vfleet``."""

import sys

from validation.cli.main import main

sys.exit(main())
