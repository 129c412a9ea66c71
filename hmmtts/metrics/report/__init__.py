"""Two folders compared: what `hmmtts evaluate` computes, prints, draws and writes."""
