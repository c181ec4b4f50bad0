"""Code that the commands share: options, errors and exit status, and jobs that show their progress."""
