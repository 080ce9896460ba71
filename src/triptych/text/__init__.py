"""Text as people write it: characters, words, sentences, languages, Markdown."""
