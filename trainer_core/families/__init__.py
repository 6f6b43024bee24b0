"""Model families: a value each, not a class tree."""
