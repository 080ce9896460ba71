"""Text for people: characters, words, sentences, languages, quoting in Markdown, figures as text."""
