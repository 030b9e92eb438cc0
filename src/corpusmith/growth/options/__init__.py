"""What a recipe may say about growth, one file a family.

Options stand here, and not inside the files that hold the operators: a recipe is checked before anything heavy is
imported, and an operator cannot exist without torch. `kind` selects the operator; the file that the registry names for
it explains it. The docstring under each option is its entry in the reference.
"""
