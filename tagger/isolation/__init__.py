"""Decoding in a process of its own, so that a hostile video harms only itself.

``decoder.py`` is what others use, ``process.py`` the life and death of the process, ``child.py`` what runs in it,
``channel.py`` how the two talk, ``shared_memory.py`` where clips pass from one to the other.
"""

from tagger.isolation.decoder import DecoderProcess, decoder_of_this_thread
from tagger.isolation.process import Limits

__all__ = ["DecoderProcess", "Limits", "decoder_of_this_thread"]
