"""The whole product on one machine, on real prices: ``make demo``."""
