"""Read and write all files of a results folder."""
