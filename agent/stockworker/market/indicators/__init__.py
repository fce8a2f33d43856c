"""The technical indicators: the formulas of each group, and a table with their parameters and what they need."""
