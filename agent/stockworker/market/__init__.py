"""Market data: the built-in job types, the store that they share, formats, indicators and charts."""
