"""The videos of an archive: finding them, and telling the changed ones from the others."""
