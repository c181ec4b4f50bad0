"""What a person launches: the tagging job on Ray, its results, and the command line."""
