"""What a recipe may say about growth, one file a family; free of torch, as all options are."""
