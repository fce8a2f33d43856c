"""Real parts for tests, the demo and the benchmarks: broker, services, databases."""
