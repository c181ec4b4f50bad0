"""What this process finds on its machine: cores, memory, a home folder, standard streams, the end of its parent."""
