"""The HTML report on committed shards: verdicts, reasons, distributions of signals, and audio of some segments."""
