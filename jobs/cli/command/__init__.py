"""What the commands share: options, errors and exit status, and jobs with their progress in view."""
