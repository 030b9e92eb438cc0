"""What a recipe may say about objectives, one file a family.

The options of objectives stand here, and not inside the files that hold the objectives: a recipe is checked before
anything heavy is imported, and an objective cannot exist without torch. `kind` selects the objective; the file that
the registry names for it explains it. The docstring under each option is its entry in the reference.
"""
