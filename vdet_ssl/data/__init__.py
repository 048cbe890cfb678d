"""From files to samples.  Imports nothing by itself: the csv readers serve tools that start without torch."""
