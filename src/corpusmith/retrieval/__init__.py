"""Retrievers, the pairs and negatives they learn from, fusion, whitening, feedback, smoothing and late interaction."""
