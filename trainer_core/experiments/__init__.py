"""What the guides claim, tried on the tiny world: trials, verdicts, and the page that tells of them."""
