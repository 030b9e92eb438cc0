"""One passage store and the indexes it feeds."""
