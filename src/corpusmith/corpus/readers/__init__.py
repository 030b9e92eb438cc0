"""One file per kind of source; a reader is a function `(SourceFile, CorpusConfig) -> Iterator[Document | Dropped]`."""
