"""The results folder: all its files are read and written here."""
