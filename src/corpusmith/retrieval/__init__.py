"""Retrievers, the pairs and negatives they learn from, fusion and feedback."""
