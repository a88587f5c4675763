"""Small pictures as SVG, and numbers as people say them. Pure: values in, text out."""
