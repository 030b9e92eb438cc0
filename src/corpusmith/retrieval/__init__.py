"""Retrievers, the pairs and negatives they learn from, fusion, feedback, smoothing and late interaction."""
