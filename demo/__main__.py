"""``python -m demo``, from the root of the repository."""

import signal
import sys

# Imports take most of a second, and nothing runs yet: exit without a traceback.
signal.signal(signal.SIGINT, lambda number, _frame: sys.exit(128 + number))

from demo.program import main  # noqa: E402 (the handler comes first)

sys.exit(main())
