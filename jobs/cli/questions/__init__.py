"""Commands that answer questions about a finished result, without tagging anything again."""
