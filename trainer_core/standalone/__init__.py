"""The page for people without A1111 or Forge: the same tab and routes, on models in a folder, through diffusers."""
