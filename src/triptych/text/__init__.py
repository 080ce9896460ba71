"""Natural-language text: characters, words, sentences, languages, quoting in Markdown."""
