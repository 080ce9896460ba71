"""Text utilities: characters, words, sentences, languages, quoting in Markdown, number formatting."""
