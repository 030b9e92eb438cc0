"""Documents in: read, clean, deduplicate, split into passages, token shards."""
