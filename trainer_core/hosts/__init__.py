"""Where training happens: one file per host, the only files that may import that host."""
