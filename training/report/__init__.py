"""What an evaluation or a comparison leaves for people: tables, plots, an HTML page."""
