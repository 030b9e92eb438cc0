"""Measures, significance, queries and judgements."""
