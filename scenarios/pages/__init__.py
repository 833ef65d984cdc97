"""Reports as one page each: HTML and SVG without a script, a font or a picture from elsewhere."""
