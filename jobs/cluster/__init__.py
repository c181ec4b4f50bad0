"""Ray: the process in which it runs, the machines of a cluster, how a job ends."""
