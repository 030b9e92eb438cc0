"""What pretraining optimises, one file a loss."""
