"""From a folder of pictures to batches of latents: examples, captions, buckets, batches and the caches."""
