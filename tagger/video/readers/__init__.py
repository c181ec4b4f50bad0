"""The readers of video: PyAV, decord, NVDEC, one that skips frames, one that decodes parts. All share an interface."""
