"""Ray: its driver process, the nodes of a cluster, and the end of a job on SIGTERM and SIGHUP."""
