"""The explorer: one page that shows a whole path, live or as a file. It draws what `answers` and their like say, and computes nothing.

`data` puts their dictionaries into a document, `pack` makes that small, `page` puts it into one HTML file, `bench` works out what somebody
asks of the page, and `server` serves it.
"""
