"""The tagging job: its plan, its pipeline on Ray, and the commits of finished videos."""
