"""Settings for all tests."""

import signal

from hypothesis import HealthCheck, settings

# A shell that runs the tests in the background makes them and their child processes ignore Ctrl-C. Some tests depend on
# Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test judges how long examples take: that depends only on the load of the machine.
settings.register_profile("stockworker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", settings.get_profile("stockworker"), max_examples=10)
settings.load_profile("stockworker")
