"""The mathematics of diffusion training: processes, noise, timesteps, loss weights."""
