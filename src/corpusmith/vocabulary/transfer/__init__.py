"""Ways to give the pieces of a new vocabulary their vectors."""
