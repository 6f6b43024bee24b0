"""Pictures by their tags from boorus and galleries, through gallery-dl, for those who ask for it."""
