"""Faster layers that compute the same results.

``fused`` turns a trained network into the network that a classifier uses. ``flat`` computes 3D layers with 2D kernels
on a GPU, and ``pool_kernel`` is a max pool for GPUs. ``operators`` has the undocumented operators of PyTorch. ``probe``
tests each of them before use and falls back to plain layers. PyTorch's private names are used in this folder only.
"""
