"""Tables, plots, the HTML report."""
