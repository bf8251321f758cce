"""The operator's terminal window. Its screens come with a later release; the place is kept by the import laws."""
