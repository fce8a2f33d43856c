"""What all tests rely on."""

import signal

from hypothesis import settings

# Whoever runs the tests in the background may have made them ignore Ctrl-C, and every process that they start: some
# tests are about what it does.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No example has a deadline: how fast they run says nothing but how busy the machine is.
settings.register_profile("stockworker", deadline=None)
settings.load_profile("stockworker")
