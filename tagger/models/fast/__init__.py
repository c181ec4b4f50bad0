"""Faster layers that compute the same results.

``fused`` turns a trained network into the network that a classifier uses. ``flat`` computes 3D layers with 2D kernels
on a GPU, and ``pool_kernel`` is a max pool for GPUs. ``operators`` has all undocumented parts of PyTorch that
vtag uses. ``probe`` tests each operator before use and falls back to plain layers.
"""
