"""``python -m stockworker``: the same as the ``stockworker`` command."""

import sys

from stockworker.cli import main

sys.exit(main())
