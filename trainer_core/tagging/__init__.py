"""Captions made and changed: tags from a WD tagger, and caption files that are written with a way back."""
