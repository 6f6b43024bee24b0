"""What a run leaves on disk: LoRA files, their metadata, and where to go on from."""
