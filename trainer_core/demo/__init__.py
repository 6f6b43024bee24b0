"""The tiny world: a small Stable Diffusion trained from nothing, a mascot it has never seen, and ways to measure."""
