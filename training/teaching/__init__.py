"""Teaching: a head for old and new labels, fitted to a few marked segments and to the answers of the old head."""
