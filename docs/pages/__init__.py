"""The text of each generated page, made from the definitions in the code."""
