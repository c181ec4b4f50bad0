"""Decoding in a separate process, so that a video that crashes or hangs the decoder harms only itself.

``decoder.py`` is the interface, ``process.py`` starts, watches and ends the process, ``child.py`` runs in it,
``channel.py`` sends messages between the two processes, and ``shared_memory.py`` holds the clips that the child passes
to its parent.
"""

from tagger.isolation.decoder import DecoderProcess, decoder_of_this_thread
from tagger.isolation.process import Limits

__all__ = ["DecoderProcess", "Limits", "decoder_of_this_thread"]
