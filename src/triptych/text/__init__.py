"""Text for people: characters, words, sentences, languages, quoting in Markdown, numbers as text."""
